/** Runs beside each other: one chart, and a table of what differs. */

import { get, make, noteInAddress, section, stateText, table } from "./base.js";
import { lineChart } from "./chart.js";
import { onWhat, runName, score } from "./results-runs.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

const SETTINGS = {
  minutes: () => t("Minutes"), epochs: () => t("Epochs"), architecture: () => t("Network"), encoder: () => t("Encoder"),
  crop: () => t("Crop, px"), batch: () => t("Batch"), learning_rate: () => t("Learning rate"), weight_decay: () => t("Weight decay"),
  loss: () => t("Loss"), rare_share: () => t("Share of crops with rare classes"), orientation: () => t("Turning and mirroring"),
  scale_min: () => t("Smallest scale"), scale_max: () => t("Largest scale"), intensity: () => t("Strength of brightness changes"),
  normalisation: () => t("Normalisation"), patience: () => t("Patience, epochs"), seed: () => t("Seed"), device: () => t("Device"),
  num_workers: () => t("Processes"), init_model: () => t("Started from model"),
};

/** @param {object} shown see `open` in results.js */
export function drawComparison(shown) {
  const { runs, compared } = shown;
  const chosen = new Set(compared.map((run) => run.id));
  const place = make("div", { "aria-live": "polite" });
  const boxes = runs.map((run) => {
    const box = make("input", { type: "checkbox", checked: chosen.has(run.id) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(run.id);
      else chosen.delete(run.id);
      noteInAddress({ runs: [...chosen].join(",") || null });
      draw(place, shown, runs.filter(({ id }) => chosen.has(id)));
    });
    return make("label", { className: "check" }, box, runName(run), make("small", {}, run.evaluation.splits ? verdictOf(run, shown) : stateText(run)));
  });
  draw(place, shown, compared);
  return section(t("Runs compared"), make("fieldset", { className: "checks" }, make("legend", {}, t("Compare these runs")), make("div", {}, ...boxes)), place);
}

function verdictOf(run, { models }) {
  const model = models.find(({ id }) => id === run.model_id);
  if (!model) return "";
  return model.verdict === "ready" ? t("ready") : t("needs improvement");
}

async function draw(place, shown, compared) {
  if (!compared.length) {
    place.replaceChildren(make("p", { className: "quiet" }, t("Choose one run or more.")));
    return;
  }
  const metrics = await Promise.all(compared.map((run) => get(`runs/${run.id}/metrics`)));
  const series = compared.map((run, place) => ({
    name: runName(run),
    points: metrics[place].epochs.map((epoch) => [epoch.epoch, epoch.val_mean_iou]),
  }));
  place.replaceChildren(
    lineChart(t("Mean IoU on the validation images"), series, { xLabel: t("Epoch"), yLabel: t("Mean IoU"), yRange: [0, 1] }),
    make("h3", {}, compared.length > 1 ? t("Scores, and what differs") : t("Scores")),
    ...differences(shown, compared));
}

function differences({ sets, models }, compared) {
  const setOf = (run) => sets.find(({ id }) => id === run.training_set_id);
  const modelOf = (run) => models.find(({ id }) => id === run.model_id);
  const scored = (split) => compared.map((run) => {
    const scores = run.evaluation.splits?.[split];
    return scores ? `${score(scores.mean_iou)} (${onWhat(split, scores)})` : null;
  });
  const scores = [
    [t("Mean IoU on validation"), ...scored("val")],
    [t("Mean IoU on the test"), ...scored("test")],
    [t("Verdict"), ...compared.map((run) => verdictOf(run, { models }) || stateText(run))],
    [t("Best epoch"), ...compared.map((run) => run.status.best_epoch)],
    [t("Training time, s"), ...compared.map((run) => (run.status.seconds === undefined ? null : number(run.status.seconds)))],
    [t("Version in use"), ...compared.map((run) => (modelOf(run)?.is_promoted ? t("yes") : t("no")))],
  ];
  const facts = [...setFacts(compared.map(setOf)), ...settingFacts(compared)];
  const differing = compared.length > 1 ? facts.filter(([, ...values]) => new Set(values.map(String)).size > 1) : [];
  const judgedOn = new Set(compared.map((run) => heldOut(setOf(run), "val")).filter(Boolean));
  const heads = [t("What"), ...compared.map(runName)];
  const parts = [table(t("Scores of the runs; each with its split and number of images"), heads, scores, { className: "differing" })];
  if (differing.length) parts.push(table(t("Sets and settings that differ"), heads, differing, { className: "differing" }));
  else if (compared.length > 1) parts.push(make("p", {}, t("The runs have the same set and the same settings: what differs is chance and time.")));
  if (judgedOn.size > 1) {
    parts.push(make("p", { className: "warn" }, ...explained(t("△ These runs were judged on different [[validation]] images, so their scores are not comparable. Evaluate the models on one set, below."))));
  }
  return parts;
}

const imagesOf = (set, split) => (set?.summary.images ?? []).filter((image) => image.split === split);
const heldOut = (set, split) => imagesOf(set, split).map((image) => image.image_id).sort().join();

function setFacts(sets) {
  const fact = (name, read) => [name, ...sets.map((set) => (set?.summary.num_images ? read(set) : null))];
  return [
    fact(t("Training set"), (set) => `${set.name} (${set.number})`),
    fact(t("Training images"), (set) => set.summary.num_images.train),
    fact(t("Validation images"), (set) => imagesOf(set, "val").map((image) => image.name).join(", ")),
    fact(t("Test images"), (set) => imagesOf(set, "test").map((image) => image.name).join(", ")),
    fact(t("Tiles"), (set) => set.summary.images.reduce((sum, image) => sum + image.num_tiles, 0)),
    fact(t("Classes"), (set) => set.summary.classes.map(({ name }) => name).join(", ")),
    fact(t("Scale"), (set) => set.summary.scale),
    fact(t("Pixel size, µm"), (set) => set.summary.pixel_size_um),
  ];
}

function settingFacts(runs) {
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.config)))];
  return keys.map((key) => [SETTINGS[key]?.() ?? key.replaceAll("_", " "), ...runs.map((run) => settled(run, key))]);
}

function settled(run, key) {
  const value = run.config[key];
  if (typeof value === "number") return value.toPrecision(4) * 1;
  return value ?? t("automatic");
}
