/**
 * Train: start a training, and watch it. In the address: `set` is the training set to learn from, `init` the model to start
 * from, `run` is watched, `epoch` the sample predictions that are looked at.
 */

import {
  RequestFailed, addressOf, choice, complain, empty, every, field, get, idInAddress, link, make, noteInAddress, poll, post, section, stateText, table,
} from "./base.js";
import { gpuMinutes } from "./person-limits.js";
import { runName, score } from "./results-runs.js";
import { schemaForm } from "./schema-form.js";
import { explained } from "./terms.js";
import { watchRun } from "./train-run.js";
import { number, t, time } from "./words.js";

const DEVICES = { auto: () => t("GPU if there is one"), gpu: () => t("GPU"), cpu: () => t("CPU") };
const PRESETS = [
  [1, () => t("Quick"), () => t("1 minute: is anything learnt at all?")],
  [5, () => t("Better"), () => t("5 minutes: a first useful model")],
  [30, () => t("Best"), () => t("30 minutes: for the last version of a set")],
];
const OWN_PLACE = ["device", "init_model", "encoder_weights"];

export const needsProject = true;

export const words = () => ({
  title: t("Train"),
  explain: [
    t("A [[model]] learns from the labelled tiles of a [[training-set]]. After each [[epoch]] it is tried on the [[validation]] images, which it does not learn from."),
    t("The [[loss]] should fall for both. Where it falls for training and rises for validation, that is [[overfitting]]; the best state is kept in any case."),
    t("[[iou|IoU]] says how well prediction and label agree, from 0 to 1."),
    t("You may close this page: the training goes on, and this address shows it again, on any computer."),
  ],
  command: ({ project }) => (project ? `axons train ${idInAddress("set") ?? `${quoted(project.name)}/1`} --minutes 5 --wait` : null),
});

export async function open(main, { project, me }) {
  const id = idInAddress("run");
  const [runs, sets] = await Promise.all([every(`runs?project_id=${project.id}`), every(`projects/${project.id}/training-sets`)]);
  const mayEdit = project.role !== "viewer" && !project.archived_at;
  if (id) main.append(watchRun(await get(`runs/${id}`), { project, sets, mayEdit }));
  else main.append(...await drawStart({ project, sets, mayEdit, me }));
  main.append(drawRuns(project, runs, sets, id));
}

// -- Start ---------------------------------------------------------------------------------------------------------------

async function drawStart({ project, sets, mayEdit, me }) {
  if (project.archived_at) return [empty(t("This project is archived: nothing is trained in it until it is taken out of the archive."))];
  if (!mayEdit) return [empty(t("You may look at this project, not train in it; ask its owner to let you edit."))];
  const ready = sets.filter(({ state }) => state === "ready");
  if (!ready.length) {
    if (isBeingFrozen(sets)) return [untilFrozen(project)];
    return [empty(t("There is no frozen training set yet. Freeze one first: it holds the labelled tiles to learn from."),
      link(t("Make a training set"), "/dataset", { project: project.id }, { className: "primary" }))];
  }
  const [schema, models, limits] = await Promise.all([
    get("schemas/train"), every("models", 500), get(`projects/${project.id}/training-limits`),
  ]);
  const advanced = schemaForm(schema, { without: me.user.role === "administrator" ? OWN_PLACE.slice(0, 2) : OWN_PLACE });
  const settings = make("details", { className: "advanced" },
    make("summary", {}, t("Advanced settings")),
    make("p", { className: "quiet" }, t("Everything has a good default. Minutes or epochs given here count instead of Quick, Better or Best.")),
    advanced.element);

  const set = choice(ready.map((row) => [row.id, setName(row)]), { name: "set", value: (ready.find(({ id }) => id === idInAddress("set")) ?? ready[0]).id });
  const counts = make("p", { className: "quiet", "aria-live": "polite" });
  const tell = () => counts.replaceChildren(...countsOf(ready.find(({ id }) => id === set.value)));
  set.addEventListener("change", () => {
    noteInAddress({ set: set.value });
    tell();
  });
  tell();
  const init = choice([["", t("Nothing: begin anew")], ...models.map((model) => [model.id, modelName(model, project)])], { name: "init_model", value: idInAddress("init") ?? "" });
  if (init.selectedIndex < 0) init.value = "";
  const device = choice(schema.properties.device.enum.map((value) => [value, DEVICES[value]?.() ?? value]), { name: "device", value: schema.properties.device.default });
  const wrong = make("p", { className: "bad", role: "alert" });
  const start = make("button", { className: "primary" }, t("Start training"));
  const placed = { training_set_id: set, init_model: init, device };

  const made = make("form", { className: "start" },
    field(t("Training set"), set), counts,
    presets(),
    make("div", { className: "row" }, field(t("Start from an earlier model"), init), field(t("Device"), device)),
    quotaOf(limits),
    settings, wrong, start);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    advanced.clear();
    wrong.textContent = "";
    Object.values(placed).forEach((input) => input.removeAttribute("aria-invalid"));
    start.disabled = true;
    try {
      const own = advanced.values();
      const config = { ...(own.minutes || own.epochs ? {} : { minutes: Number(made.elements.preset.value) }), ...own, device: device.value };
      if (init.value) config.init_model = init.value;
      const run = await post("runs", { training_set_id: set.value, config });
      location.assign(addressOf("/train", { project: project.id, run: run.id }));
    } catch (error) {
      start.disabled = false;
      refuse(error, { advanced, settings, placed, wrong });
    }
  });
  return [section(t("Start a training"), made)];
}

const isBeingFrozen = (sets) => !sets.some(({ state }) => state === "ready") && sets.some(({ state }) => state !== "failed");

/** For whoever is here before the first set is; the page is drawn anew when it is. */
function untilFrozen(project) {
  const said = empty(t("A training set is being frozen; you can train with it in a moment."));
  poll(said, async () => {
    if (isBeingFrozen(await every(`projects/${project.id}/training-sets`))) return false;
    location.reload();
    return true;
  });
  return said;
}

/** What one may use on GPUs, and has used; null where there is no limit. */
function quotaOf({ gpu_minutes: used, max_gpu_minutes: allowed }) {
  if (allowed === null) return null;
  const said = t("GPU minutes used: {used}.", { used: gpuMinutes(used, allowed) });
  const after = used >= allowed ? t("They are used up: choose the CPU as device, or ask your educator for more.") : "";
  return make("p", { className: used >= allowed ? "warn" : "quiet" }, [said, after].join(" "));
}

/** Show what the server refuses where it can be corrected. */
function refuse(error, { advanced, settings, placed, wrong }) {
  if (!(error instanceof RequestFailed)) return complain(error);
  const name = error.field?.split(".").at(-1);
  settings.open ||= Boolean(name) && !(name in placed);
  if (name && advanced.complain(name, error.message)) return undefined;
  wrong.textContent = error.message;
  placed[name]?.setAttribute("aria-invalid", "true");
  placed[name]?.focus();
  return undefined;
}

function presets() {
  const options = PRESETS.map(([minutes, name, text], place) => make("label", { className: "card preset" },
    make("input", { type: "radio", name: "preset", value: minutes, defaultChecked: place === 0 }),
    make("span", {}, make("strong", {}, name()), make("small", {}, text()))));
  return make("fieldset", { className: "presets" }, make("legend", {}, t("How long")), ...options);
}

function countsOf({ summary }) {
  const { num_images: images, images: sources, classes, warnings = [] } = summary;
  const counted = t("Images: {train} to train, {val} for [[validation]], {test} for the [[test]] · {tiles} tiles · {classes} classes", {
    ...images, tiles: sources.reduce((sum, { num_tiles: count }) => sum + count, 0), classes: classes.length,
  });
  return [...explained(counted), ...warnings.map((text) => make("span", { className: "warn" }, ` ⚠ ${text}`))];
}

const setName = (row) => t("Version {number} · {name}", { number: row.number, name: row.name });

function modelName(model, project) {
  const iou = model.mean_iou === null ? "" : ` · ${t("IoU {score}", { score: score(model.mean_iou) })}`;
  const from = model.project_id === project.id ? "" : ` · ${t("of another project")}`;
  return `${t("{name}, version {version}", model)}${iou}${from}`;
}

// -- Runs ----------------------------------------------------------------------------------------------------------------

function drawRuns(project, runs, sets, shown) {
  if (!runs.length) return section(t("Runs of this project"), make("p", { className: "quiet" }, t("None yet. The first one will be listed here.")));
  const rows = runs.map((run) => [
    link(runName(run), "/train", { project: project.id, run: run.id }, run.id === shown ? { "aria-current": "true" } : {}),
    stateText(run),
    scoreOf(run),
    setOf(run, sets),
    run.status.seconds ? t("{minutes} min", { minutes: number(run.status.seconds / 60, 1) }) : null,
    time(run.created_at),
  ]);
  return section(t("Runs of this project"), table(t("Runs, the newest first"),
    [t("Run"), t("State"), t("Mean IoU"), t("Training set"), t("Training time"), t("Started")], rows));
}

function scoreOf(run) {
  const scores = run.evaluation.splits?.val;
  if (!scores) return null;
  const values = { score: score(scores.mean_iou), n: scores.num_images };
  return values.n === 1 ? t("{score} (validation, 1 image)", values) : t("{score} (validation, {n} images)", values);
}

function setOf(run, sets) {
  const found = sets.find(({ id }) => id === run.training_set_id);
  return found ? setName(found) : null;
}

const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
