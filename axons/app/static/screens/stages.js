/** The stages of the pipeline in words: what is there, and what to do next on which screen. */

import { number, t } from "./words.js";

const STAGES = {
  images: { path: "/images", next: () => t("Add images"), there: ({ count }) => t("Images: {count}", { count: number(count) }) },
  labels: {
    path: "/annotate",
    next: () => t("Annotate tiles"),
    there: ({ count }, project) => t("Tiles with labels: {count} of {all}", { count: number(count), all: number(project.num_tiles) }),
  },
  "training-set": { path: "/dataset", next: () => t("Freeze a training set"), there: ({ count }) => t("Training sets: {count}", { count: number(count) }) },
  model: { path: "/train", next: () => t("Train a model"), there: ({ count }) => t("Models: {count}", { count: number(count) }) },
  prediction: { path: "/predict", next: () => t("Predict new images"), there: ({ count }) => t("Predictions: {count}", { count: number(count) }) },
};
const MARKS = { done: "✓", now: "●", next: "○" };
const STATES = { done: () => t("done"), now: () => t("now"), next: () => t("later") };

/** A stage of a project as {mark, state, text}. */
export function stageOf(project, name) {
  const stage = project.stages.find((row) => row.name === name);
  const { there, next } = STAGES[name];
  return { state: stage.state, mark: MARKS[stage.state], said: STATES[stage.state](), text: stage.count ? there(stage, project) : next() };
}

/** What to do next in a project, as {path, text}. */
export function nextStep(project) {
  const stage = project.stages.find((row) => row.state === "now");
  return stage ? { path: STAGES[stage.name].path, text: STAGES[stage.name].next() } : { path: "/results", text: t("Look at the results") };
}
