/** What other thresholds would give for a class, from the probabilities that an evaluation has counted. */

import { choice, field, make, noteInAddress, table } from "./base.js";
import { lineChart } from "./chart.js";
import { onWhat, score } from "./results-runs.js";
import { explained } from "./terms.js";
import { t } from "./words.js";

const MIDDLE = 50;
const LAST = 99;
const CURVES = { precision: () => t("Precision"), recall: () => t("Recall"), iou: () => t("IoU"), dice: () => t("Dice") };

/**
 * Nodes below a heading. In the address: `class` by its index, and `threshold` in per cent.
 * @param {object} scores as `SplitEvaluation` has them
 */
export function thresholds(scores, split) {
  if (split === "test") {
    return [make("p", {}, ...explained(t("On the [[test]] nothing is chosen: each pixel gets its most probable class, which for two classes is a [[threshold]] of 50 %. A threshold that was chosen here would make the score better than the model is. Choose “validation” above to try others.")))];
  }
  const classes = scores.classes.map((found, index) => ({ ...found, index }));
  if (!classes.some(({ probabilities }) => probabilities)) {
    return [make("p", { className: "quiet" }, t("These scores are older than the threshold slider. Judge the model again below, on validation, to get it."))];
  }
  const judged = classes.filter(({ probabilities }) => probabilities && probabilities.of_class.some((count) => count > 0));
  if (!judged.length) return [make("p", { className: "quiet" }, t("No pixel of these images is labelled."))];
  return slider(judged, { scores, split });
}

/** What each threshold of 0 to 100 % gives; null where it is not defined. */
export function atThresholds({ of_class: ours, of_others: others }) {
  const all = ours.reduce((sum, count) => sum + count, 0);
  let [hits, alarms] = [0, 0];
  const ratio = (part, whole) => (whole ? part / whole : null);
  return ours.map((_, place) => ours.length - 1 - place).map((percent) => {
    hits += ours[percent];
    alarms += others[percent];
    return {
      percent, precision: ratio(hits, hits + alarms), recall: ratio(hits, all), iou: ratio(hits, all + alarms), dice: ratio(2 * hits, all + hits + alarms),
    };
  }).reverse();
}

function slider(judged, { scores, split }) {
  const query = new URLSearchParams(location.search);
  const asked = judged.find(({ index }) => String(index) === query.get("class")) ?? judged.find(({ index }) => index > 0) ?? judged[0];
  const select = choice(judged.map(({ index, name }) => [index, name]), { value: asked.index });
  const wanted = /^\d{1,2}$/.test(query.get("threshold") ?? "") ? Number(query.get("threshold")) : MIDDLE;
  const range = make("input", { type: "range", min: 1, max: LAST, step: 1, value: wanted });
  const said = make("output");
  const numbers = make("div");
  const chart = lineChart(t("Scores at each threshold"), [], { xLabel: t("Threshold, %"), yLabel: t("Score"), yRange: [0, 1] });

  const show = () => {
    const { name, probabilities } = judged.find(({ index }) => String(index) === select.value);
    const rows = atThresholds(probabilities).slice(1, LAST + 1);
    const best = rows.reduce((found, row) => (row.dice > found.dice ? row : found));
    const chosen = rows[range.value - 1];
    range.setAttribute("aria-valuetext", t("{n} %", { n: chosen.percent }));
    said.textContent = t("{n} %: precision {precision}, recall {recall}, IoU {iou}, Dice {dice}", { n: chosen.percent, ...written(chosen) });
    const named = [[t("chosen: {n} %", { n: chosen.percent }), chosen], [t("best Dice: {n} %", { n: best.percent }), best], [t("middle: {n} %", { n: MIDDLE }), rows[MIDDLE - 1]]];
    numbers.replaceChildren(table(t("{name} at three thresholds, on {on}", { name, on: onWhat(split, scores) }),
      [t("Threshold"), ...Object.values(CURVES).map((text) => text())], named.map(([text, row]) => [text, ...Object.values(written(row))]), { className: "numbers" }));
    chart.update(
      Object.entries(CURVES).map(([key, text]) => ({ name: text(), points: rows.map((row) => [row.percent, row[key]]) })),
      [{ x: best.percent, text: t("best Dice") }, { x: chosen.percent, text: t("chosen") }]);
  };
  const note = (changes) => {
    noteInAddress(changes);
    show();
  };
  select.addEventListener("change", () => note({ class: select.value }));
  range.addEventListener("input", () => note({ threshold: range.value }));
  show();
  return [
    make("p", {}, ...explained(t("For each pixel the model gives the probability of each class. From the [[threshold]] on, the pixel counts as the class. Raise it for fewer false alarms, which is [[precision]]; lower it for fewer misses, which is [[recall]]. [[dice|Dice]] weighs both."))),
    make("p", { className: "quiet" }, scores.classes.length > 2
      ? t("This is one class against all others. A prediction gives each pixel its most probable class, whatever you choose here.")
      : t("A prediction uses 50 %, whatever you choose here. If the best threshold lies far from it, the model is too bold or too shy with this class: label more of what it misses.")),
    make("div", { className: "row" }, field(t("Class"), select)), make("div", { className: "threshold" }, field(t("Threshold"), range)), make("p", {}, said),
    numbers, chart,
  ];
}

/** The scores of a threshold as they are written, in the order of the curves. */
const written = (row) => Object.fromEntries(Object.keys(CURVES).map((key) => [key, score(row[key])]));
