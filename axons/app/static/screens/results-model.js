/** The model of a run: its card, its files, and how it does on other sets. */

import { choice, field, form, isOver, make, post, section, stateText, table, watchJob } from "./base.js";
import { exportForm } from "./model-export.js";
import { onWhat, score, splitText } from "./results-runs.js";
import { setName } from "./results-scores.js";
import { fromServer, number, t, time } from "./words.js";

/** @param {object} closely see `drawClosely` in results.js */
export async function drawModel(closely) {
  const { me, model } = closely;
  if (!model) return "";
  return make("div", {},
    section(t("Judge it on another set"), ...drawEvaluations(closely)),
    section(t("Model card"), card(closely), make("p", { className: "row" },
      make("a", { className: "button", href: `/api/v1/models/${model.id}/download`, download: "" }, t("Download the model (safetensors and card)"))),
      exportForm(model, me)));
}

function drawEvaluations(closely) {
  const { evaluations, sets, look, mayEdit } = closely;
  const rows = evaluations.map((row) => [
    setName(sets, row.training_set_id),
    splitText(row.split),
    row.state === "done" ? `${score(row.scores.mean_iou)} (${onWhat(row.split, row.scores)})` : `${stateText(row)}${row.reason ? ` · ${fromServer(row.reason)}` : ""}`,
    time(row.created_at),
    row.scores.classes ? make("button", { type: "button", onclick: () => look({ scores: row.id }) }, t("Show these scores")) : null,
  ]);
  const list = rows.length
    ? table(t("Evaluations of this model, the newest first"), [t("Training set"), t("Split"), t("Mean IoU"), t("When"), t("Scores")], rows)
    : make("p", { className: "quiet" }, t("This model has been judged only at the end of its training."));
  return [list, make("div", { className: "evaluating" }), mayEdit ? start(closely) : ""];
}

/** Show how far evaluations are that are not over, then their scores; `place` is in the page. */
export function watchEvaluations(place, { evaluations, look }) {
  for (const row of evaluations.filter((each) => !isOver(each))) {
    const line = make("div");
    place.querySelector(".evaluating").append(line);
    watchJob(line, { id: row.job_id }).then((job) => (job.state === "done" && line.isConnected ? look({ scores: row.id }) : null));
  }
}

function start({ model, sets, look }) {
  const ours = model.card.classes.map(({ name }) => name).join();
  const fitting = sets.filter((set) => set.state === "ready" && set.summary.classes.map(({ name }) => name).join() === ours);
  if (!fitting.length) return make("p", { className: "quiet" }, t("No frozen set has the classes of this model."));
  const sized = (set) => `${set.name} (${["train", "val", "test"].map((split) => `${splitText(split)} ${set.summary.num_images[split]}`).join(", ")})`;
  const fields = [
    field(t("Training set"), choice(fitting.map((set) => [set.id, sized(set)]), { name: "training_set_id" })),
    field(t("Split"), choice(["val", "test", "train"].map((split) => [split, splitText(split)]), { name: "split" }), t("Scores on training images say only what was learnt by heart.")),
  ];
  return form(fields, t("Evaluate"), async (values) => {
    await post("evaluations", { ...values, model_id: model.id });
    await look({});
    return t("The evaluation waits for its turn; its scores appear here.");
  });
}

/** All that is known of a model; what is not known has no line. */
function card({ run, models, model: { card: known, name, version } }) {
  const { origin, normalisation } = known;
  const earlier = models.find(({ id }) => id === run.config.init_model);
  const lines = [
    [t("Name"), t("{name}, version {version}", { name, version })],
    [t("Network"), t("{architecture} with encoder {encoder}, {channels} channels", known)],
    [t("Classes"), known.classes.map((row) => row.name).join(", ")],
    [t("Good for"), known.pixel_size_um
      ? t("images like those of the training set, at about {size} µm per pixel", { size: known.pixel_size_um })
      : t("images like those of the training set, at {scale} times their size", { scale: number(known.scale, 2) })],
    [t("Normalisation"), normalisation.kind === "image" ? t("by the mean and spread of each image") : t("by the mean and spread of the training set")],
    [t("Prediction"), t("windows of {window} px that share {overlap} px", known)],
    ...Object.entries(known.scores).map(([split, scores]) => [t("Mean IoU on {split}", { split: splitText(split) }), `${score(scores.mean_iou)} (${onWhat(split, scores)})`]),
    [t("Training set"), origin.training_set],
    [t("Started from"), earlier && t("{name}, version {version}", earlier)],
    [t("Trained"), origin.trained_at && time(origin.trained_at)],
    [t("Epochs"), origin.epochs],
    [t("Steps"), origin.steps],
    [t("Training time, s"), origin.seconds && number(origin.seconds)],
    [t("Device"), origin.device],
    [t("Notes"), origin.notices.map(fromServer).join("; ")],
    [t("Made with"), `axons ${known.code_version}`],
    [t("Weights, sha256"), known.sha256],
    [t("Training set, sha256"), origin.training_set_sha256],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { className: "facts" }, ...lines.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, String(value))]));
}
