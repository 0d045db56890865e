/** One prediction: the picture, what each class covers, the files. */

import { button, carefulButton, get, make, noteInAddress, remove, section, table } from "./base.js";
import { compare } from "./compare.js";
import { acceptButton } from "./predict-accept.js";
import { openViewer } from "./viewer.js";
import { fromServer, number, t } from "./words.js";

/** Draw a prediction into its place; who edits the project may delete it. */
export async function drawResult(place, id, { models, mayEdit }) {
  const row = await get(`predictions/${id}`);
  const model = models.find((found) => found.id === row.model_id);
  const title = model ? `${row.name} · ${model.name} ${t("version {version}", model)}` : row.name;
  if (row.state !== "done") {
    const text = row.state === "failed" ? t("It could not be predicted: {reason}", { reason: fromServer(row.reason) }) : t("It is not done yet; open it again when it is.");
    place.replaceChildren(section(title, make("p", { className: row.state === "failed" ? "bad" : "quiet" }, text)));
    return;
  }
  const file = (what, text, properties = {}) => make("a", { className: "button", href: `/api/v1/predictions/${id}/${what}`, ...properties }, text);
  const drop = mayEdit ? carefulButton(t("Delete"), t("Really delete this result?"), async () => {
    await remove(`predictions/${id}`);
    noteInAddress({ prediction: null });
    document.querySelector(`a[data-id="${id}"]`)?.closest("li").remove();
    place.replaceChildren();
    return t("It is in the trash and can be restored for some days.");
  }) : null;
  const accepted = make("div");
  const look = row.image_id ? button(t("Look closely"), () => openViewer(row.image_id, { overlay: `predictions/${id}/overlay?opacity=1` })) : null;
  const accept = mayEdit && row.image_id ? acceptButton(row, accepted) : null;
  place.replaceChildren(section(title,
    compare({ before: `/api/v1/predictions/${id}/overlay?opacity=0`, after: `/api/v1/predictions/${id}/overlay?opacity=1`, name: row.name }),
    make("p", { className: "quiet" }, [
      `${number(row.width)} × ${number(row.height)} px`,
      row.scale ? t("seen at scale {scale}", { scale: number(row.scale, 2) }) : null,
      row.pixel_size_um ? t("{size} µm per px", { size: number(row.pixel_size_um, 3) }) : t("pixel size not known, so areas are in px only"),
    ].filter(Boolean).join(" · ")),
    ...row.notices.map((text) => make("p", { className: "warn" }, fromServer(text))),
    areas(row),
    make("p", { className: "row" },
      file("csv", t("Areas (CSV)"), { download: "" }), file("mask", t("Mask"), { download: "" }),
      file("overlay", t("Overlay"), { download: `${row.name}.overlay.png` }), look, accept, drop),
    accepted));
}

function areas(row) {
  const isSized = row.pixel_size_um !== null;
  const head = [t("Class"), t("Area, px"), t("Share, %"), ...(isSized ? [t("Area, µm²")] : [])];
  const named = ({ name, colour }) => {
    const patch = make("span", { className: "swatch", "aria-hidden": "true" });
    patch.style.background = colour;
    return make("span", { className: "row" }, patch, name);
  };
  return table(t("What each class covers in {name}", { name: row.name }), head, row.classes.map((found) => [
    named(found), number(found.pixels), number(found.percent, 1), ...(isSized ? [number(found.area_um2, 1)] : []),
  ]), { className: "numbers" });
}
