/**
 * Results: runs compared, and one of them looked at closely. In the address: `runs` are compared, `run` is looked at,
 * `scores` says on what: "val", "test", or the id of an evaluation; `class` and `threshold` (per cent) are those of the slider.
 */

import { empty, every, idInAddress, link, make, noteInAddress } from "./base.js";
import { drawComparison } from "./results-compare.js";
import { drawModel, watchEvaluations } from "./results-model.js";
import { drawScores } from "./results-scores.js";
import { drawVerdict } from "./results-verdict.js";
import { t } from "./words.js";

const NUM_COMPARED = 3;

export const needsProject = true;

export const words = () => ({
  title: t("Results"),
  explain: [
    t("A [[model]] is judged on images that it has not learnt from: [[validation]] images while you improve it, [[test]] images once at the end."),
    t("[[iou|IoU]] tells how well two areas agree, from 0 (not at all) to 1 (the same). The mean is taken over the classes."),
    t("Look where the model errs most. Often the labels are wrong there: correct them, freeze a new [[version]] of the set, and train again."),
    t("Tiles of the test are only shown. Whoever corrects them where a model failed makes the next score better than the model is."),
  ],
  command: ({ project }) => (project ? `axons report ${quoted(project.name)}/1 -o report.html` : null),
});

export async function open(main, { me, project }) {
  const [runs, sets, models] = await Promise.all([
    every(`runs?project_id=${project.id}`), every(`projects/${project.id}/training-sets`), every(`models?project_id=${project.id}`),
  ]);
  const finished = runs.filter((run) => run.evaluation.splits);
  if (!finished.length) {
    main.append(runs.length
      ? empty(t("No training has come to its end yet."), link(t("See how far it is"), "/train", { project: project.id }, { className: "primary" }))
      : empty(t("Nothing has been trained yet."), link(t("Train a first model"), "/train", { project: project.id }, { className: "primary" })));
    return;
  }
  const close = make("div");
  const shown = { me, project, runs, finished, sets, models };
  shown.look = async (query) => {
    noteInAddress(query);
    await drawClosely(close, shown);
  };
  shown.compared = comparedRuns(runs, finished);
  main.append(close, drawComparison(shown));
  await drawClosely(close, shown);
}

/** The runs of the address, else the newest finished ones. */
function comparedRuns(runs, finished) {
  const wanted = (new URLSearchParams(location.search).get("runs") ?? "").split(",");
  const found = runs.filter((run) => wanted.includes(run.id));
  return found.length ? found : finished.slice(0, NUM_COMPARED);
}

/** One run: what it is worth, its scores, its model. */
async function drawClosely(place, shown) {
  const run = shown.finished.find(({ id }) => id === idInAddress("run")) ?? shown.finished.find((each) => shown.compared.includes(each)) ?? shown.finished[0];
  const model = shown.models.find(({ id }) => id === run.model_id) ?? null;
  const evaluations = model ? await every(`evaluations?model_id=${model.id}`) : [];
  const closely = { ...shown, run, model, evaluations, mayEdit: shown.project.role !== "viewer" && !shown.project.archived_at };
  const parts = await Promise.all([drawVerdict(closely), drawScores(closely), drawModel(closely)]);
  place.replaceChildren(...parts);
  if (model) watchEvaluations(place, closely);
}

const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
