/** A prediction becomes the labels of its image's tiles, after a plain question. */

import { ask, button, make, post } from "./base.js";
import { fromServer, t } from "./words.js";

/** A button for whoever labels in the project; `place` gets what became of the tiles, and the way to them. */
export function acceptButton(row, place) {
  return button(t("Use as labels"), async () => {
    const replaces = make("input", { type: "checkbox" });
    const answer = await ask(t("Shall this prediction be the labels of {name}?", { name: row.name }), [
      make("p", {}, t("Each tile of the image gets what the model has made of it. Look at the result: a model that learns from its own mistakes keeps them.")),
      make("p", {}, t("Tiles that people have labelled keep their labels. Tiles that are done, and images kept for the test, are never changed.")),
      make("label", { className: "row" }, replaces, t("Replace what people have labelled, too; it stays in each tile's history.")),
    ], [["", t("Cancel")], ["accept", t("Use as labels"), true]]);
    if (answer !== "accept") return;
    const found = await post(`predictions/${row.id}/accept`, { replaces_labels: replaces.checked });
    place.replaceChildren(make("p", { role: "status" }, summary(found)), ...found.notices.map((text) => make("p", { className: "warn" }, fromServer(text))));
  });
}

function summary({ written, unchanged, kept, refused }) {
  return [
    t("Tiles that have these labels now: {n}.", { n: written }),
    unchanged ? t("Had them before: {n}.", { n: unchanged }) : null,
    kept ? t("Kept, because people have labelled them: {n}.", { n: kept }) : null,
    refused ? t("Left as they are, because they are done or open in an editor: {n}.", { n: refused }) : null,
  ].filter(Boolean).join(" ");
}
