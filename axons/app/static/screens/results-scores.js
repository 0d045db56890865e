/** Scores on one split: class by class, what is taken for what, image by image, and where it is worst. */

import { choice, field, get, idInAddress, link, make, picture, section, table } from "./base.js";
import { onWhat, percent, score, splitText } from "./results-runs.js";
import { thresholds } from "./results-threshold.js";
import { explained } from "./terms.js";
import { number, t, time } from "./words.js";

/** @param {object} closely see `drawClosely` in results.js */
export async function drawScores(closely) {
  const sources = sourcesOf(closely);
  if (!sources.length) return "";
  const source = sources.find(({ key }) => key === idInAddress("scores")) ?? sources[0];
  const select = choice(sources.map(({ key, name }) => [key, name]), { value: source.key });
  select.addEventListener("change", () => closely.look({ scores: select.value }));
  const { scores, split } = source;
  return section(t("Scores"),
    field(t("Judged on"), select, split === "test" ? t("The test tells how good the model is on new images; look at it seldom.") : null),
    make("h3", {}, t("Class by class")), classTable(scores, split),
    make("h3", {}, t("What is taken for what")), confusionMatrix(scores, split),
    make("h3", {}, t("Another threshold")), ...thresholds(scores, split),
    ...(scores.images.length > 1 ? [make("h3", {}, t("Image by image")), imageTable(scores, split)] : []),
    make("h3", {}, t("Where it is worst")), ...(await worst(closely, source)));
}

/** What there are scores of: the splits at the end of the training, and later evaluations. */
function sourcesOf({ run, evaluations, sets }) {
  const splits = ["val", "test"].filter((split) => run.evaluation.splits[split]).map((split) => ({
    key: split, split, scores: run.evaluation.splits[split], name: onWhat(split, run.evaluation.splits[split]), path: `runs/${run.id}`, pictures: `runs/${run.id}/samples/picture`,
  }));
  const later = evaluations.filter((row) => row.scores.classes).map((row) => ({
    key: row.id, split: row.split, scores: row.scores, path: `evaluations/${row.id}`, pictures: `evaluations/${row.id}/picture`,
    name: t("{on} of {set}, evaluated {when}", { on: onWhat(row.split, row.scores), set: setName(sets, row.training_set_id), when: time(row.created_at) }),
  }));
  return [...splits, ...later];
}

/** A training set as people call it. */
export const setName = (sets, id) => sets.find((set) => set.id === id)?.name ?? t("a deleted set");

function classTable(scores, split) {
  const heads = [t("Class"), ...["[[iou|IoU]]", "[[dice|Dice]]", "[[precision]]", "[[recall]]"].map((head) => make("span", {}, ...explained(head))), t("Outline (F)"), t("Pixels")];
  const rows = scores.classes.map((row) => [row.name, ...[row.iou, row.dice, row.precision, row.recall, row.boundary_f].map(score), number(row.pixels)]);
  return table(t("Scores of each class on {on}, all pixels together; 1 is best, – is not defined", { on: onWhat(split, scores) }), heads, rows, { className: "numbers" });
}

function confusionMatrix(scores, split) {
  const { classes, confusion } = scores;
  const caption = t("Confusion matrix on {on}: each row is a true class, each column a predicted class. In a cell: the share of the row, and the number of pixels.", { on: onWhat(split, scores) });
  const rows = confusion.map((counts, truth) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const cells = counts.map((count, predicted) => {
      const share = total ? count / total : 0;
      const kind = truth === predicted ? "var(--good)" : "var(--bad)";
      return make("td", { style: `background: color-mix(in srgb, ${kind} ${Math.round(38 * share)}%, var(--ground))` }, total ? percent(share) : "–", make("small", {}, number(count)));
    });
    const axis = truth === 0 ? [make("th", { scope: "rowgroup", rowSpan: classes.length, className: "axis" }, make("span", {}, t("Truth")))] : [];
    return make("tr", {}, ...axis, make("th", { scope: "row" }, classes[truth].name), ...cells);
  });
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption }, make("table", { className: "confusion" },
    make("caption", {}, caption),
    make("thead", {},
      make("tr", {}, make("td", { colSpan: 2 }), make("th", { scope: "colgroup", colSpan: classes.length, className: "axis" }, t("Prediction"))),
      make("tr", {}, make("td", { colSpan: 2 }), ...classes.map(({ name }) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows)));
}

function imageTable({ images, classes }, split) {
  const heads = [t("Image"), t("Mean IoU"), t("Right pixels"), ...classes.map(({ name }) => t("IoU of {name}", { name }))];
  const rows = images.map((image) => [image.name, score(image.mean_iou), image.pixel_accuracy === null ? null : percent(image.pixel_accuracy), ...image.iou.map(score)]);
  return table(t("Scores of each image of {split}", { split: splitText(split) }), heads, rows, { className: "numbers" });
}

async function worst({ project, run, mayEdit }, { scores, split, path, pictures }) {
  if (!scores.worst.length) return [make("p", {}, t("No tile has enough labels to be judged."))];
  const tiles = split === "test" ? [] : await get(`${path}/worst-tiles`);
  const legend = make("p", { className: "quiet" }, t("In the difference, orange is painted too much or with a wrong class, blue is missed, grey is not judged."));
  const why = split === "test"
    ? make("p", {}, ...explained(t("These tiles are only shown. If you corrected the [[test]] where this model failed, its score would no longer tell how good it is on new images. Correct tiles of validation instead.")))
    : make("p", {}, t("Open a tile to see whether the model or the label is wrong."));
  const cards = scores.worst.map((place, index) => make("li", { className: "card" },
    make("h4", {}, t("{rank}. {name}, row {row0}, column {col0}", { rank: index + 1, ...place })),
    make("p", {}, t("{share} of its pixels are wrong.", { share: percent(place.error_rate) })),
    make("div", { className: "triple" }, ...triple(place, pictures)),
    make("p", { className: "row" }, ...tiles.filter(({ rank }) => rank === index + 1).map((tile) => openTile(tile, project, run, mayEdit)))));
  return [legend, why, make("ul", { className: "worst" }, ...cards)];
}

function triple(place, pictures) {
  const names = { truth: t("Truth"), prediction: t("Prediction"), difference: t("Difference") };
  return Object.entries(names).map(([kind, text]) => make("figure", {},
    picture(`${pictures}?name=${encodeURIComponent(place[kind])}`, t("{what} of {name}, row {row0}, column {col0}", { what: text, ...place })),
    make("figcaption", {}, text)));
}

function openTile(tile, project, run, mayEdit) {
  const text = mayEdit ? t("Open the tile at row {row0}, column {col0}", tile) : t("See the tile at row {row0}, column {col0}", tile);
  const mark = tile.is_corrected ? make("span", { className: "good" }, `✓ ${t("has new labels")}`) : null;
  return make("span", {}, link(text, "/annotate", { project: project.id, tile: tile.tile_id, run: run.id }, { className: "button" }), " ", mark ?? "");
}
