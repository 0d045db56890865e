/** How much of each class there is, and how varied the images are. */

import { make, section, table } from "./base.js";
import { splitName } from "./dataset-split.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

const RARE = 0.05;
const SPLITS = ["train", "val", "test"];

/** @param {object} preview what `training-sets:preview` answers */
export function drawBalance({ classes, splits }) {
  const totals = classes.map((_found, index) => SPLITS.reduce((sum, split) => sum + splits[split].pixels[index], 0));
  const all = totals.reduce((sum, count) => sum + count, 0);
  const rows = classes.map(({ name, colour }, index) => {
    const share = totals[index] / all;
    const bar = make("span", { className: "bar", "aria-hidden": "true" }, make("span", { style: `background: ${colour}; width: ${(100 * share).toFixed(1)}%` }));
    const rare = share < RARE ? make("span", { className: "warn" }, ` ⚠ ${t("rare")}`) : "";
    return [name, bar, make("span", {}, `${number(100 * share, 1)} %`, rare), ...SPLITS.map((split) => number(splits[split].pixels[index]))];
  });
  const head = [t("Class"), t("Bar"), t("Share of all labelled pixels"), ...SPLITS.map((split) => t("Pixels in {split}", { split: splitName(split) }))];
  const rare = classes.filter((_found, index) => totals[index] / all < RARE).map(({ name }) => name);
  return section(t("Balance of the classes"),
    rare.length ? make("p", { className: "warn" }, t("⚠ Less than 5 % of the labelled pixels: {names}. A model can look right without ever finding a rare class; label more of it.", { names: rare.join(", ") })) : "",
    table(t("Labelled pixels of each class"), head, rows, { className: "balance" }));
}

export function drawDiversity({ diversity, images }) {
  const sizes = diversity.pixel_sizes_um.length ? diversity.pixel_sizes_um.map((size) => `${number(size, 3)} µm`).join(", ") : t("not known");
  const facts = [
    [t("Images"), number(diversity.num_images)],
    [t("Sources (groups; an image without one counts for itself)"), number(diversity.num_groups)],
    [t("Brightness, darkest / middle / brightest image"), [diversity.brightness_min, diversity.brightness_median, diversity.brightness_max].map((value) => `${number(100 * value)} %`).join(" / ")],
    [make("span", {}, ...explained(t("[[pixel-size|Pixel size]]"))), sizes],
    [t("Labelled tiles"), number(images.reduce((sum, { num_tiles: count }) => sum + count, 0))],
  ];
  return section(t("Diversity"), make("dl", { className: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
}
