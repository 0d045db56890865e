/** What the numbers of a training say, by rule: each hint is a sentence and what to do. */

import { number, t } from "./words.js";

const MIN_EPOCHS = 6;
const WINDOW = 3;
const RISE = 1.05;
const FALL = 0.97;
const NEAR_ZERO = 0.1;
const LONG_WAIT = 0.2;
const FEW_IMAGES = 4;

/**
 * Hints about a training.
 * @param {{classes: string[], epochs: object[]}} metrics as `runs/{id}/metrics` gives them
 * @param {{isOver: boolean, numImages: {train: number, val: number} | null}} facts
 * @returns {{rule: string, text: string, action: {text: string, path: string} | null}[]}
 */
export function hints({ classes, epochs }, { isOver = false, numImages = null } = {}) {
  return [
    ...notANumber(epochs),
    ...fewImages(numImages),
    ...overfitting(epochs),
    ...stillFalling(epochs, isOver),
    ...unseenClasses(classes, epochs),
    ...waitingForData(epochs),
  ];
}

function notANumber(epochs) {
  const broken = epochs.find(({ train_loss: loss }) => !Number.isFinite(loss));
  return broken ? [{
    rule: "nan",
    text: t("Since epoch {n} the loss is not a number: the steps were too large. Start again with a smaller learning rate, a tenth of it.", { n: broken.epoch }),
    action: { text: t("Start again"), path: "/train" },
  }] : [];
}

function fewImages(numImages) {
  if (!numImages) return [];
  const found = [];
  if (numImages.train < FEW_IMAGES) {
    found.push({
      rule: "few-images",
      text: t("Only {n} images to learn from. Add images that differ from each other; ten varied ones help more than a hundred alike.", { n: numImages.train }),
      action: { text: t("Add images"), path: "/images" },
    });
  }
  if (!numImages.val) {
    found.push({
      rule: "no-validation",
      text: t("The training set has no image for validation, so nobody can tell when the model is best. Freeze a version with one."),
      action: { text: t("Freeze a new version"), path: "/dataset" },
    });
  }
  return found;
}

function overfitting(epochs) {
  const judged = epochs.filter(({ val_loss: loss }) => Number.isFinite(loss));
  if (judged.length < MIN_EPOCHS) return [];
  const best = judged.reduce((lowest, each) => (each.val_loss < lowest.val_loss ? each : lowest));
  const isOld = judged.length - judged.indexOf(best) > WINDOW;
  if (!isOld || mean(judged.slice(-WINDOW).map(({ val_loss: loss }) => loss)) < RISE * best.val_loss) return [];
  return [{
    rule: "overfitting",
    text: t("Validation loss rises since epoch {n}: the model learns the training images by heart. Training longer will not help; more labelled images will.", { n: best.epoch }),
    action: { text: t("Label more"), path: "/annotate" },
  }];
}

function stillFalling(epochs, isOver) {
  const isFalling = (name) => {
    const values = epochs.map((epoch) => epoch[name]).filter(Number.isFinite);
    return values.length >= 2 * WINDOW && mean(values.slice(-WINDOW)) < FALL * mean(values.slice(-2 * WINDOW, -WINDOW));
  };
  if (!isOver || !isFalling("train_loss") || !isFalling("val_loss")) return [];
  return [{
    rule: "train-longer",
    text: t("Training and validation loss both still fell at the end: train longer, from this model on."),
    action: { text: t("Train longer"), path: "/train" },
  }];
}

function unseenClasses(classes, epochs) {
  if (epochs.length < MIN_EPOCHS) return [];
  const recent = epochs.slice(-WINDOW);
  return classes.flatMap((name, place) => {
    const scores = recent.map(({ val_iou: scored }) => scored?.[place]).filter(Number.isFinite);
    if (!scores.length || Math.max(...scores) >= NEAR_ZERO) return [];
    return [{
      rule: "unseen-class",
      text: t("The model hardly finds {name} (IoU {score} on validation): label more of it, in several images.", { name, score: number(Math.max(...scores), 2) }),
      action: { text: t("Label more"), path: "/annotate" },
    }];
  });
}

function waitingForData(epochs) {
  const share = mean(epochs.slice(-WINDOW).map(({ data_wait_share: waited }) => waited));
  return share > LONG_WAIT ? [{
    rule: "waiting",
    text: t("{share} % of the time the training waits for data: choose a smaller crop, or ask for a machine with more processors.", { share: Math.round(100 * share) }),
    action: null,
  }] : [];
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
