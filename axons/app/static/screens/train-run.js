/** A run while it waits, learns and ends: its state, curves, pictures, hints, and what one can do about it. */

import { addressOf, button, carefulButton, get, isOver, link, make, poll, post, section, stateText } from "./base.js";
import { lineChart } from "./chart.js";
import { hints } from "./hints.js";
import { runName, score } from "./results-runs.js";
import { samplesOf } from "./samples.js";
import { fromServer, number, size, t } from "./words.js";

const RESTART = /attempt (\d+) goes on from epoch (\d+)/g;
const LOG_EVERY = 5;

/** A section that shows a run, and follows it until it is over. */
export function watchRun(run, context) {
  const parts = {
    state: make("p", { className: "runstate", role: "status" }),
    bar: make("progress", { max: 1, "aria-label": t("Progress") }),
    ways: make("p", { className: "row" }),
    ended: make("div"),
    facts: make("dl", { className: "facts" }),
    notices: make("ul"),
    hints: make("ul", { className: "hints" }),
    loss: lineChart(t("Loss"), [], { xLabel: t("Epoch"), yLabel: t("Loss") }),
    iou: lineChart(t("IoU on the validation images"), [], { xLabel: t("Epoch"), yLabel: t("IoU"), yRange: [0, 1] }),
    samples: samplesOf(run.id),
    log: make("pre", { tabIndex: 0, className: "log" }),
  };
  const charts = section(t("Curves"), make("div", { className: "charts" }, parts.loss, parts.iou));
  const advice = section(t("What the numbers say"), parts.hints);
  const pictures = section(t("Predictions on the same crops"), parts.samples);
  const shownLog = make("details", { className: "runlog" }, make("summary", {}, t("Show the log")), parts.log);
  shownLog.addEventListener("toggle", () => shownLog.open && readLog(run.id, parts));
  const place = section(runName(run), parts.state, parts.bar, parts.ways, parts.ended, parts.facts, parts.notices, charts, advice, pictures, shownLog);

  const seen = { epochs: [], classes: [], marks: [], looks: 0, drawn: "" };
  const look = async () => {
    const now = await get(`runs/${run.id}`);
    const isFresh = await takeMetrics(now, seen);
    if (seen.looks % LOG_EVERY === 0 || isOver(now)) seen.marks = restartsIn(shownLog.open ? await readLog(run.id, parts) : await get(`runs/${run.id}/log`));
    seen.looks += 1;
    drawState(now, seen, parts, context, follow);
    if (isFresh || isOver(now) || seen.looks === 1) {
      drawCurves(seen, parts);
      await parts.samples.update(seen.epochs);
    }
    charts.hidden = !seen.epochs.length;
    pictures.hidden = parts.samples.hidden;
    const found = hints(seen, { isOver: isOver(now), numImages: imagesOf(now, context.sets) });
    advice.hidden = !found.length;
    parts.hints.replaceChildren(...found.map((hint) => hintItem(hint, now, context)));
    return isOver(now);
  };
  const follow = () => poll(place, look);
  follow();
  return place;
}

/** Take in epochs that are new; after a restart some are learnt anew, and at the end the server has the final ones: all are read again. */
async function takeMetrics(run, seen) {
  const last = seen.epochs.at(-1)?.epoch ?? 0;
  const isAnew = isOver(run) || (seen.attempt !== undefined && (run.attempt !== seen.attempt || (run.status.epoch ?? last) < last));
  seen.attempt = run.attempt;
  const { classes, epochs } = await get(`runs/${run.id}/metrics?after=${isAnew ? 0 : last}`);
  seen.classes = classes;
  seen.epochs = isAnew ? epochs : [...seen.epochs, ...epochs];
  return isAnew || epochs.length > 0;
}

async function readLog(runId, parts) {
  const text = await get(`runs/${runId}/log`);
  parts.log.textContent = text;
  return text;
}

/** Where a training went on after something ended it: [{x: epoch, text}]. */
export function restartsIn(log) {
  const starts = [...(log ?? "").matchAll(RESTART)].map((found) => Number(found[2]));
  return starts.filter((epoch) => epoch > 0).map((epoch) => ({ x: epoch, text: t("restarted from epoch {n}", { n: epoch }) }));
}

// -- State ---------------------------------------------------------------------------------------------------------------

function drawState(run, seen, parts, context, follow) {
  const { status } = run;
  const said = [stateText(run), whyItWaits(run)].filter(Boolean).join(" · ");
  if (parts.state.textContent !== said) parts.state.textContent = said;
  parts.bar.hidden = isOver(run);
  if (run.state === "queued" || run.state === "preparing") parts.bar.removeAttribute("value");
  else parts.bar.value = run.progress;
  // Buttons stay as they are while the state does: whoever is about to press one, can.
  const state = `${run.state} ${run.is_stopping}`;
  if (seen.drawn !== state) {
    seen.drawn = state;
    parts.ways.replaceChildren(...ways(run, context, follow));
  }
  parts.ended.replaceChildren(...howItEnded(run, seen));
  const best = seen.epochs.find(({ epoch }) => epoch === status.best_epoch);
  const facts = [
    [t("Progress"), run.state === "queued" ? null : `${Math.round(100 * (status.is_stopped ? status.progress : run.progress))} %`],
    [t("Time left"), isOver(run) || !Number.isFinite(status.seconds_left) ? null : duration(status.seconds_left)],
    [t("Time so far"), status.seconds ? duration(status.seconds) : null],
    [t("Epoch"), status.epoch || null],
    [t("Best epoch"), best ? t("{n} (mean IoU {score} on validation)", { n: best.epoch, score: score(best.val_mean_iou) }) : null],
    [t("Device"), status.device],
    [t("Memory"), status.memory_bytes ? size(status.memory_bytes) : null],
    [t("GPU memory"), status.gpu_memory_bytes ? size(status.gpu_memory_bytes) : null],
    [t("GPU in use"), share(status.gpu_share)],
    [t("Processors in use"), share(status.cpu_share)],
    [t("Waiting for data"), share(status.data_wait_share)],
    [t("Training set"), setName(run, context.sets)],
  ];
  parts.facts.replaceChildren(...facts.filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  const notices = [...seen.marks.map(({ text }) => `${text[0].toUpperCase()}${text.slice(1)}.`), ...(status.notices ?? []).map(fromServer)];
  parts.notices.replaceChildren(...notices.map((text) => make("li", {}, text)));
}

function whyItWaits(run) {
  if (isOver(run)) return "";
  const ahead = run.state === "queued" && run.ahead !== null
    ? run.ahead === 0 ? t("next in the queue") : t("{n} before it in the queue", { n: run.ahead })
    : "";
  const stopping = run.is_stopping ? t("it stops, and its best epoch becomes a model") : "";
  return [stopping, ahead, fromServer(run.reason)].filter(Boolean).join(" · ");
}

function ways(run, { project, mayEdit }, follow) {
  const isDone = run.state === "done";
  const results = link(t("See the results"), "/results", { project: project.id, run: run.id }, { className: isDone ? "primary" : "button" });
  const seen = run.model_id || isDone ? [results] : [];
  if (!mayEdit) return seen;
  if (isOver(run)) {
    const again = link(t("Train again"), "/train", { project: project.id, set: run.training_set_id }, { className: "button" });
    const resume = button(t("Resume"), async () => {
      await post(`runs/${run.id}/resume`);
      follow();
      return t("It waits to go on from its last checkpoint.");
    }, { isMain: !isDone });
    return [...seen, ...(isDone && !run.status.is_stopped ? [] : [resume]), again];
  }
  const cancel = () => post(`runs/${run.id}/cancel`);
  if (run.state === "queued") return [carefulButton(t("Take out of the queue"), t("Press again to take it out"), cancel)];
  const stop = button(t("Stop & keep best"), async () => {
    await post(`runs/${run.id}/stop`);
    return t("It stops within seconds, and its best epoch becomes a model.");
  }, { isMain: true });
  return [...(run.is_stopping ? [] : [stop]), carefulButton(t("Stop without a model"), t("Press again to stop without a model"), cancel)];
}

/** What happened, what was kept, what to press. */
function howItEnded(run, { epochs }) {
  if (run.state === "done" && run.status.is_stopped) {
    return [make("div", { className: "verdict good" },
      make("p", {}, make("strong", {}, t("Stopped at epoch {epoch}, best of epoch {best_epoch}.", run.status))),
      make("p", {}, t("Kept: the best epoch as a model with its scores, all curves and pictures.")),
      make("p", {}, t("Look at the results, or press Resume to go on at the next epoch.")))];
  }
  if (run.state !== "failed" && run.state !== "cancelled") return [];
  const kept = epochs.length
    ? t("Kept: what was learnt in {n} epochs up to the last checkpoint, the best state among it, all curves and pictures.", { n: epochs.length })
    : t("Kept: its settings. Nothing had been learnt yet.");
  const next = run.state === "failed"
    ? t("Press Resume to go on from there. If it fails again the same way, train again with a smaller crop or batch.")
    : t("Press Resume to go on from there; at the end the best state becomes a model.");
  return [make("div", { className: run.state === "failed" ? "verdict bad" : "verdict warn" },
    make("p", {}, make("strong", {}, fromServer(run.reason) || stateText(run))), make("p", {}, kept), make("p", {}, next))];
}

function imagesOf(run, sets) {
  return sets.find(({ id }) => id === run.training_set_id)?.summary.num_images ?? null;
}

function setName(run, sets) {
  const found = sets.find(({ id }) => id === run.training_set_id);
  return found ? t("Version {number} · {name}", { number: found.number, name: found.name }) : null;
}

function duration(seconds) {
  return seconds < 90 ? t("{n} s", { n: Math.round(seconds) }) : t("{n} min", { n: number(seconds / 60, 1) });
}

const share = (value) => (Number.isFinite(value) ? `${Math.round(100 * value)} %` : null);

// -- Curves and hints ----------------------------------------------------------------------------------------------------

function drawCurves({ epochs, classes, marks }, parts) {
  const curve = (name, valueOf) => ({ name, points: epochs.map((epoch) => [epoch.epoch, valueOf(epoch) ?? null]) });
  parts.loss.update([
    curve(t("training"), ({ train_loss: loss }) => loss),
    curve(t("validation"), ({ val_loss: loss }) => loss),
  ], marks);
  parts.iou.update([
    curve(t("mean of the classes"), ({ val_mean_iou: iou }) => iou),
    ...classes.map((name, place) => curve(name, ({ val_iou: scored }) => scored?.[place])),
  ], marks);
}

function hintItem({ text, action }, run, { project, mayEdit }) {
  const query = { project: project.id, ...(action?.path === "/train" ? { set: run.training_set_id, init: run.model_id } : {}) };
  const way = action && mayEdit ? make("a", { className: "button", href: addressOf(action.path, query) }, action.text) : null;
  return make("li", {}, make("p", {}, text), way);
}
