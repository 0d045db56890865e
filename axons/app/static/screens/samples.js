/** The same crops of validation images after each epoch: image, truth and prediction, with a slider over the epochs. */

import { get, make, noteInAddress, picture } from "./base.js";
import { t } from "./words.js";

const IMAGE = "samples/image.png";
const TRUTH = "samples/truth.png";

/**
 * Pictures of a run; `element.update(epochs)` takes in new epochs, and shows the newest unless another was chosen.
 * @param {string} runId
 */
export function samplesOf(runId) {
  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": t("Epoch of the prediction") });
  const said = make("output");
  const fixed = make("div");
  const prediction = make("figure");
  const element = make("div", { className: "samples", hidden: true }, fixed, prediction,
    make("label", { className: "row" }, t("Epoch"), slider, said));
  const chosen = Number(new URLSearchParams(location.search).get("epoch")) || null;
  const state = { epochs: [], chosen, hasFixed: false };

  const show = () => {
    const { epochs } = state;
    const found = epochs.findIndex(({ epoch }) => epoch === state.chosen);
    const place = found < 0 ? epochs.length - 1 : found;
    const { epoch, sample } = epochs[place];
    slider.max = epochs.length - 1;
    slider.value = place;
    slider.setAttribute("aria-valuetext", t("Epoch {n}", { n: epoch }));
    said.textContent = t("{n} of {last}", { n: epoch, last: epochs.at(-1).epoch });
    if (prediction.dataset.sample === sample) return;
    prediction.dataset.sample = sample;
    prediction.replaceChildren(
      pictureOf(runId, sample, t("Prediction after epoch {n}", { n: epoch })), make("figcaption", {}, t("Prediction after epoch {n}", { n: epoch })));
  };
  slider.addEventListener("input", () => {
    const isNewest = Number(slider.value) === state.epochs.length - 1;
    state.chosen = isNewest ? null : state.epochs[slider.value].epoch;
    noteInAddress({ epoch: state.chosen });
    show();
  });
  element.update = async (epochs) => {
    state.epochs = epochs.filter(({ sample }) => sample);
    element.hidden = !state.epochs.length;
    if (element.hidden) return;
    if (!state.hasFixed) {
      state.hasFixed = true;
      const { samples } = await get(`runs/${runId}/samples`);
      const named = [[IMAGE, t("Images of validation")], [TRUTH, t("Truth, as people labelled it")]];
      fixed.replaceChildren(...named.filter(([name]) => samples.includes(name)).map(([name, text]) => (
        make("figure", {}, pictureOf(runId, name, text), make("figcaption", {}, text)))));
    }
    show();
  };
  return element;
}

const pictureOf = (runId, name, alt) => picture(`runs/${runId}/samples/picture?name=${encodeURIComponent(name)}`, alt);
