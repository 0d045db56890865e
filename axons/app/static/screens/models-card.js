/** What a model's card says, in words; nothing on it is left empty. */

import { make, table } from "./base.js";
import { fromServer, number, t, time } from "./words.js";

const SPLITS = { test: () => t("test"), val: () => t("validation"), train: () => t("training") };

/** The classes with their colours. */
export function swatches(classes) {
  return make("ul", { className: "swatches", "aria-label": t("Classes") }, ...classes.map(({ name, colour }) => {
    const patch = make("span", { className: "swatch", "aria-hidden": "true" });
    patch.style.background = colour;
    return make("li", {}, patch, name);
  }));
}

/** The score that counts, with its split, and what the project asks for. */
export function scoreText(model) {
  const split = ["test", "val"].find((name) => model.card.scores[name]?.mean_iou !== undefined);
  const asked = t("asked for: {threshold}", { threshold: number(model.threshold, 2) });
  if (!split && model.mean_iou === null) return `${t("Not scored yet")} · ${asked}`;
  if (!split) return `${t("Mean IoU {score}", { score: number(model.mean_iou, 2) })} · ${asked}`;
  const { mean_iou: score, num_images: images } = model.card.scores[split];
  return `${t("Mean IoU {score} on {split}, images: {images}", { score: number(score, 2), split: SPLITS[split](), images: number(images) })} · ${asked}`;
}

/** The whole card. */
export function facts(model, project) {
  const { card } = model;
  const { origin, normalisation } = card;
  const unknown = t("not known");
  const rows = [
    [t("Project"), project?.name ?? t("of somebody else")],
    [t("Comes from"), origin.imported_from ? t("file {name}", { name: origin.imported_from }) : t("a training here")],
    [t("Training set"), origin.training_set ?? unknown],
    [t("Trained"), origin.trained_at ? time(origin.trained_at) : unknown],
    [t("Length of the training"), origin.epochs ? t("epochs: {epochs}, steps: {steps}, {minutes} min on {device}", {
      epochs: number(origin.epochs), steps: number(origin.steps), minutes: number((origin.seconds ?? 0) / 60, 1), device: origin.device ?? unknown,
    }) : unknown],
    [t("Network"), `${card.architecture}, ${card.encoder}`],
    [t("Channels of the images"), number(card.channels)],
    [t("Normalised by"), normalisation.kind],
    [t("Crop in training"), `${card.crop} px`],
    [t("Window and overlap in prediction"), `${card.window} px, ${card.overlap} px`],
    [t("Scale"), `${number(card.scale, 2)} ×`],
    [t("Pixel size"), card.pixel_size_um ? `${number(card.pixel_size_um, 3)} µm` : unknown],
    [t("Remarks"), origin.notices?.length ? origin.notices.map(fromServer).join("; ") : t("none")],
    [t("Checksum of the weights"), model.sha256],
  ];
  return make("div", {},
    make("dl", { className: "facts" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
    ...Object.entries(card.scores).map(([split, scores]) => classScores(split, scores, card.classes)));
}

function classScores(split, scores, classes) {
  const caption = t("IoU and Dice of each class on {split}, images: {images}", { split: SPLITS[split]?.() ?? split, images: number(scores.num_images) });
  return table(caption, [t("Class"), t("IoU"), t("Dice")],
    classes.map(({ name }) => [name, number(scores.iou?.[name], 2), number(scores.dice?.[name], 2)]), { className: "numbers" });
}
