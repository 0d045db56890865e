/** What a run is worth at a glance, and what to do next: fix its worst tiles, promote its model, keep its report. */

import { addressOf, ask, button, carefulButton, choice, field, get, link, make, post, saveFile, section } from "./base.js";
import { onWhat, runName, score } from "./results-runs.js";
import { t } from "./words.js";

/** @param {object} closely see `drawClosely` in results.js */
export async function drawVerdict(closely) {
  const { finished, run, model, look } = closely;
  const select = choice(finished.map((each) => [each.id, runName(each)]), { value: run.id });
  select.addEventListener("change", () => look({ run: select.value, scores: null }));
  return section(t("One run closely"),
    field(t("Run"), select),
    ...verdict(closely),
    await nextStep(closely),
    model ? promotion(closely) : make("p", { className: "quiet" }, t("The model of this run is in the trash; its scores are kept.")),
    report(run));
}

function verdict({ run, model, project }) {
  const { val, test } = run.evaluation.splits;
  const [split, scores] = test ? ["test", test] : ["val", val];
  if (!scores) return [make("p", { className: "warn" }, t("No image was kept apart, so nothing is known of this model. Freeze a set with validation images and train again."))];
  const isReady = model ? model.verdict === "ready" : scores.mean_iou >= project.threshold;
  const values = { iou: score(scores.mean_iou), on: onWhat(split, scores), threshold: score(project.threshold) };
  return [
    make("p", { className: isReady ? "verdict good" : "verdict warn" }, make("strong", {}, isReady ? `✓ ${t("Ready")}` : `△ ${t("Needs improvement")}`),
      " ", t("Mean IoU {iou} on {on}; the project asks for {threshold}.", values)),
    split === "test" && val ? make("p", { className: "quiet" }, t("Mean IoU {iou} on {on}; these images chose the best epoch, so it may be a little too good.", { iou: score(val.mean_iou), on: onWhat("val", val) })) : "",
  ];
}

/** The main action: labels of the worst validation tiles first, a new version of the set once they are corrected. */
async function nextStep({ run, project, mayEdit }) {
  if (!run.evaluation.splits.val) return make("p", { className: "quiet" }, t("This set has no validation images, so there are no tiles to correct."));
  const tiles = await get(`runs/${run.id}/worst-tiles`);
  const left = tiles.filter((tile) => !tile.is_corrected);
  const corrected = tiles.length - left.length;
  const place = make("div", { className: "row", "aria-live": "polite" });
  if (!tiles.length) place.append(make("p", { className: "quiet" }, t("The worst tiles of validation are in the project no longer.")));
  if (left.length && mayEdit) {
    place.append(link(t("Fix the worst tiles"), "/annotate", { project: project.id, tile: left[0].tile_id, queue: left.map((tile) => tile.tile_id).join(","), run: run.id }, { className: "primary" }));
  }
  if (tiles.length) place.append(make("span", {}, t("{corrected} of the {n} worst validation tiles have new labels.", { corrected, n: tiles.length })));
  if (corrected && mayEdit) {
    place.append(link(t("Freeze a new version"), "/dataset", { project: project.id }, { className: left.length ? "button" : "primary" }));
  }
  return place;
}

function promotion({ me, model, mayEdit, models }) {
  const said = model.is_promoted
    ? t("Version {version} of {name} is in use.", model)
    : t("Version {version} of {name} is not in use.", model);
  const place = make("div", { className: "row" }, make("span", {}, said));
  if (!mayEdit) return place;
  const mayPromote = model.verdict === "ready" || me.user.role !== "student";
  if (!model.is_promoted) {
    place.append(button(t("Promote"), () => change(`models/${model.id}/promote`), { disabled: !mayPromote }));
    if (!mayPromote) place.append(make("small", {}, t("It can be promoted when it reaches the threshold, or by your educator.")));
  }
  const hasOlder = models.some((other) => other.name === model.name && other.version < model.version);
  if (model.is_promoted && hasOlder) {
    place.append(carefulButton(t("Roll back"), t("Really use the version before?"), () => change(`models/${model.id}/rollback`)));
  }
  return place;
}

/** What is in use stands in many places: all of it is asked for again. */
async function change(path) {
  await post(path);
  location.reload();
}

function report(run) {
  const path = `/api/v1/runs/${run.id}/report`;
  return make("div", { className: "row" },
    make("a", { className: "button", href: path, target: "_blank" }, t("Open the report")),
    make("a", { className: "button", href: addressOf(path, { download: true }), download: "" }, t("Download the report (HTML)")),
    button(t("Download the report (PDF)"), () => saveFile(`${path}.pdf`, `${run.name}-${run.number}-report.pdf`)),
    button(t("Print or save as PDF"), () => print(run, path)));
}

async function print(run, path) {
  const title = t("Report of {run}", { run: runName(run) });
  const page = make("iframe", { src: path, title, className: "report" });
  page.addEventListener("load", () => page.contentWindow.print());
  await ask(title, [make("p", {}, t("Choose “Save as PDF” as printer to keep a file.")), page], [["", t("Close")]]);
}
