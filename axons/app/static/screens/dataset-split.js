/** Which image goes where: the draw, three columns of pictures, and what leaks between them with its repair. */

import { button, choice, complain, field, make, patch, picture, say, section } from "./base.js";
import { choicesInAddress } from "./dataset.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

const SPLITS = ["train", "val", "test"];
const names = () => ({ train: t("train"), val: t("val"), test: t("test") });

/** A split as a word. */
export const splitName = (split) => names()[split];

/** How the images are drawn. */
export function drawDraw(screen) {
  const { parts, group, seed } = choicesInAddress();
  const shares = SPLITS.map((split, place) => make("input", { type: "number", min: place ? 0 : 1, max: 100, value: parts[place] || 0, disabled: !screen.mayEdit, inputMode: "numeric" }));
  const groups = make("input", { value: group ?? "", maxLength: 200, autocomplete: "off", spellcheck: false, disabled: !screen.mayEdit });
  const chance = make("input", { type: "number", min: 0, max: 2 ** 31 - 1, value: seed, disabled: !screen.mayEdit, inputMode: "numeric" });
  const note = () => {
    const drawn = shares.map((input) => Number(input.value));
    return screen.choose({ parts: drawn.join("/") === "70/15/15" ? null : drawn.join("/"), group: groups.value || null, seed: Number(chance.value) ? chance.value : null });
  };
  for (const input of [...shares, groups, chance]) input.addEventListener("change", note);
  const again = button(t("Draw anew"), async () => {
    chance.value = Number(chance.value) + 1;
    await note();
  });
  return section(t("Split by image"),
    make("div", { className: "row" },
      ...SPLITS.map((split, place) => field(t("{split}, % of the images", { split: splitName(split) }), shares[place])),
      field(t("Group, a pattern in the names"), groups, t("Images whose names match alike stay together: rat\\d+ keeps each rat in one split.")),
      field(t("Number of the draw"), chance, t("The same number gives the same split."))),
    screen.mayEdit ? make("p", {}, again) : "");
}

/** What the server plans. */
export function drawSplit(screen) {
  const { preview } = screen;
  return [leaks(screen), make("div", { className: "splits" }, ...SPLITS.map((split) => column(screen, split, preview.splits[split])))];
}

function column(screen, split, { num_images: images, num_records: records, pixels }) {
  const found = screen.preview.images.filter((image) => image.split === split);
  const labelled = pixels.reduce((sum, count) => sum + count, 0);
  const caption = t("Images: {images} · pieces: {records} · labelled pixels: {pixels}", { images: number(images), records: number(records), pixels: number(labelled) });
  return make("div", { className: "card", "data-split": split },
    make("h3", {}, splitName(split)), make("p", { className: "quiet" }, caption),
    make("ul", { tabIndex: 0, "aria-label": t("Images of {split}", { split: splitName(split) }) }, ...found.map((image) => placed(screen, image))));
}

function placed(screen, image) {
  const select = choice([["", t("by the draw")], ...SPLITS.map((split) => [split, splitName(split)])], {
    value: image.is_chosen ? image.split : "", disabled: !screen.mayEdit, "aria-label": t("Split of {name}", { name: image.name }),
  });
  select.addEventListener("change", async () => {
    select.disabled = true;
    try {
      await patch(`images/${image.image_id}`, { split: select.value || null });
    } catch (error) {
      complain(error);
    }
    await screen.again();
  });
  const group = image.group === null ? null : make("small", {}, t("group {group}", { group: image.group }));
  return make("li", {}, picture(`images/${image.image_id}/thumbnail`, "", { width: 72 }), make("span", {}, image.name, group && make("br"), group), select);
}

function leaks(screen) {
  const { preview } = screen;
  if (!preview.leaks.length) return make("p", { className: "good", role: "status" }, t("✓ Nothing leaks: images that look alike or belong to one group lie in one split."));
  const pairs = preview.leaks.reduce((sum, leak) => sum + leak.pairs.length, 0);
  const groups = preview.leaks.reduce((sum, leak) => sum + leak.groups.length, 0);
  return make("div", { className: "card leaks", role: "alert" },
    make("h3", { className: "warn" }, t("⚠ Leakage: pairs that look alike in two splits: {pairs} · groups in two splits: {groups}", { pairs: number(pairs), groups: number(groups) })),
    make("p", {}, ...explained(t("The model would be tested on what it has learnt by heart. Put [[near-duplicate|near-duplicates]] and groups into one [[split]] each."))),
    ...preview.leaks.map((leak) => pictures(screen, leak)),
    screen.mayEdit ? button(t("Repair: put each into one split"), () => repair(screen)) : make("p", { className: "quiet" }, t("Who may edit the project can repair it.")));
}

function pictures({ preview }, leak) {
  const images = preview.images.filter(({ image_id: id }) => leak.image_ids.includes(id));
  const said = t("These belong together; a repair puts them into {split}.", { split: splitName(leak.split) });
  return make("div", {}, make("p", {}, said, leak.groups.length ? ` ${t("Groups: {groups}", { groups: leak.groups.join(", ") })}` : ""),
    make("ul", { className: "cards small" }, ...images.map((image) => make("li", {},
      picture(`images/${image.image_id}/thumbnail`, "", { width: 120 }), image.name, " ", make("strong", {}, `(${splitName(image.split)})`)))));
}

async function repair(screen) {
  const moves = Object.entries(screen.preview.repair);
  for (const [id, split] of moves) await patch(`images/${id}`, { split });
  await screen.again();
  say(t("Repaired: images that belong together now have the same set split. Images changed: {n}.", { n: number(moves.length) }));
}
