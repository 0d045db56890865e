/** New images through a model: masks, areas, files to take along, and the same from outside. */

import {
  addressOf, button, choice, empty, every, field, get, idInAddress, isOver, link, make, noteInAddress, picture, poll, post,
  section, watchJob,
} from "./base.js";
import { drawResult } from "./predict-result.js";
import { outside } from "./predict-snippets.js";
import { term } from "./terms.js";
import { sendFile } from "./upload.js";
import { fromServer, t, time } from "./words.js";

const EDITORS = new Set(["owner", "editor", "educator", "administrator"]);
const BUSY_PAUSE_MS = 5000;
const BUSY_TRIES = 24;
const MOST_LISTED = 200;
const MOST_IN_ZIP = 100;
const MOST_IMAGES = 500;

export const words = () => ({
  title: t("Predict"),
  explain: [
    t("A [[model]] says for each pixel of a new [[image]] which [[class]] it takes it for: that is the [[mask]]."),
    t("[[resolution|Resolution]]: objects should look as large to the model as in its [[training]]. Where the [[pixel-size]] is known this is done for you."),
    t("Look at the [[overlay]] before you trust an area; a model is surest of what it has seen in its [[training-set]]."),
  ],
  command: () => `axons predict ${idInAddress("model") ?? "MODEL"} image.png -o masks --overlay`,
});

export async function open(main, context) {
  const models = (await every("models")).sort((a, b) => b.is_promoted - a.is_promoted);
  if (!context.project) return chooseProject(main, models);
  const { project, me } = context;
  if (!models.length) {
    main.append(empty(t("There is no model yet that could predict."), link(t("Train a model"), "/train", { project: project.id }, { className: "primary" })));
    return;
  }
  const screen = { me, project, models, result: make("div", { className: "predict" }), list: make("div", { className: "predict" }) };
  // The project's own models come first, of these the promoted one.
  models.sort((a, b) => (b.project_id === project.id) - (a.project_id === project.id) || b.is_promoted - a.is_promoted);
  screen.model = models.find((model) => model.id === idInAddress("model")) ?? models[0];
  screen.show = async (id) => {
    noteInAddress({ prediction: id });
    await drawResult(screen.result, id, screen);
    screen.list.querySelectorAll("a[data-id]").forEach((row) => (row.dataset.id === id ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current")));
  };
  screen.mayEdit = EDITORS.has(project.role) && !project.archived_at;
  if (screen.mayEdit) main.append(...asking(screen));
  else main.append(make("p", { className: "quiet" }, t("In this project you may look at predictions; its editors make them.")));
  main.append(screen.result, screen.list);
  await drawList(screen);
  const shown = idInAddress("prediction");
  if (shown) await screen.show(shown);
}

/** A prediction belongs to a project: which? */
async function chooseProject(main, models) {
  const model = idInAddress("model");
  const own = (await every("projects")).filter((row) => EDITORS.has(row.role) && !row.archived_at);
  const found = models.find((row) => row.id === model);
  const text = found ? t("In which project shall {name} predict?", found) : t("In which project do you want to predict?");
  if (!own.length) {
    main.append(empty(t("Predictions are kept in a project, and you have none yet."), link(t("Choose one of my projects"), "/", {}, { className: "primary" })));
    return;
  }
  main.append(section(text, make("ul", { className: "cards" },
    ...own.map((row) => make("li", {}, link(row.name, "/predict", { project: row.id, model }, { className: "button" }))))));
}

// -- Asking --------------------------------------------------------------------------------------------------------------

function asking(screen) {
  const { project, models } = screen;
  const byId = new Map(models.map((model) => [model.id, model]));
  const select = choice(models.map((model) => [model.id, modelText(model)]), { value: screen.model.id });
  const scale = make("input", { type: "number", min: 0.05, max: 4, step: "any", value: new URLSearchParams(location.search).get("scale") ?? "" });
  const hint = make("small", {});
  const usage = make("div");
  const draw = () => {
    screen.model = byId.get(select.value);
    hint.textContent = t("Empty: as in its training ({scale} ×).", { scale: screen.model.card.scale });
    usage.replaceChildren(outside(screen.model, project, scale.value));
  };
  select.addEventListener("change", () => {
    noteInAddress({ model: select.value });
    draw();
  });
  scale.addEventListener("input", () => {
    noteInAddress({ scale: scale.value || null });
    draw();
  });
  draw();
  const files = fileChooser();
  const images = imageChooser(project);
  const progress = make("div", { "aria-live": "polite" });
  const run = button(t("Run the model"), () => runAll(screen, { files, images, scale, progress }), { isMain: true });
  const job = idInAddress("job");
  if (job) followJob(screen, job, progress).catch(() => noteInAddress({ job: null }));
  const scaleField = field(t("Scale, 0.05 to 4"), scale);
  scale.before(hint);
  return [
    section(t("Model"), make("div", { className: "row" }, field(t("Model"), select), scaleField, make("span", { className: "quiet" }, term("resolution")))),
    section(t("Images"), files.element, images.element, make("p", { className: "row" }, run), progress),
    make("div", { className: "predict" }, usage),
  ];
}

function modelText(model) {
  const verdict = model.verdict === "ready" ? t("ready") : t("needs improvement");
  return `${model.is_promoted ? "★ " : ""}${model.name} · ${t("version {version}", model)} · ${verdict}`;
}

/** Files by button or by drag and drop. */
function fileChooser() {
  const chosen = [];
  const list = make("ul");
  const draw = () => list.replaceChildren(...chosen.map((file, place) => make("li", { className: "row" }, file.name,
    make("button", { type: "button", "aria-label": t("Leave out {name}", { name: file.name }), onclick: () => {
      chosen.splice(place, 1);
      draw();
    } }, "×"))));
  const input = make("input", { type: "file", multiple: true, accept: "image/*,.tif,.tiff" });
  const add = (files) => {
    chosen.push(...files);
    draw();
  };
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  const element = make("div", { className: "drop" }, field(t("New images: drop them here, or choose"), input), list);
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    add(event.dataTransfer.files);
  });
  return { element, chosen, drop: (file) => {
    chosen.splice(chosen.indexOf(file), 1);
    draw();
  } };
}

/** Images of the project, fetched when somebody opens the list. */
function imageChooser(project) {
  const list = make("ul", { className: "choose" });
  const element = make("details", { className: "predict" }, make("summary", {}, t("Images of the project: {count}", { count: project.num_images })), list);
  element.addEventListener("toggle", async () => {
    if (list.children.length) return;
    const rows = await every(`projects/${project.id}/images`, MOST_IMAGES);
    list.replaceChildren(...rows.map((row) => make("li", {}, make("label", {}, picture(`images/${row.id}/thumbnail`, ""),
      make("span", { className: "row" }, make("input", { type: "checkbox", value: row.id }), row.name)))));
  });
  return { element, ids: () => [...list.querySelectorAll(":checked")].map((box) => box.value), clear: () => {
    for (const box of list.querySelectorAll(":checked")) box.checked = false;
  } };
}

async function runAll(screen, { files, images, scale, progress }) {
  const form = { scale: scale.value ? Number(scale.value) : null };
  const ids = images.ids();
  if (!files.chosen.length && !ids.length) throw new Error(t("No image is chosen; drop some, or tick images of the project."));
  const stop = new AbortController();
  const bar = make("progress", { max: files.chosen.length + (ids.length ? 1 : 0), value: 0, "aria-label": t("Progress") });
  const text = make("span", { role: "status" });
  const refused = make("ul", { className: "bad" });
  const line = make("p", { className: "job" }, bar, text, button(t("Stop"), async () => stop.abort()));
  progress.replaceChildren(line, refused);
  let last = null;
  const jobs = [];
  const note = (answer) => {
    last = answer.predictions.at(-1)?.id ?? last;
    if (answer.job) jobs.push(answer.job.id);
    bar.value += 1;
  };
  try {
    for (const file of [...files.chosen]) {
      text.textContent = file.name;
      try {
        const upload = await sendFile(file, { purpose: "prediction", project_id: screen.project.id }, { signal: stop.signal });
        note(await predict(screen.model, { ...form, upload_id: upload.id }, stop.signal));
        files.drop(file);
      } catch (error) {
        if (stop.signal.aborted) throw error;
        refused.append(make("li", {}, `${file.name}: ${error.message}`));
      }
    }
    if (ids.length) {
      text.textContent = t("Images of the project: {count}", { count: ids.length });
      note(await predict(screen.model, { ...form, image_ids: ids }, stop.signal));
      images.clear();
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    refused.append(make("li", {}, t("Stopped; what was predicted is kept.")));
  } finally {
    line.remove();
    await drawList(screen);
  }
  for (const job of jobs) await followJob(screen, job, progress, refused);
  if (last) await screen.show(last);
}

/** One request; while the places for answers at once are taken it is sent again. */
async function predict(model, form, signal) {
  for (let trial = 1; ; trial += 1) {
    try {
      return await post(`models/${model.id}/predict`, form, { signal });
    } catch (error) {
      if (error.status !== 429 || trial === BUSY_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
    }
  }
}

async function followJob(screen, id, progress, refused = make("ul", { className: "bad" })) {
  const job = await get(`jobs/${id}`);
  noteInAddress({ job: id });
  const place = make("div");
  progress.replaceChildren(place, refused);
  const ended = await watchJob(place, job);
  noteInAddress({ job: null });
  await drawList(screen);
  if (ended.state === "done") await screen.show(ended.target_id);
}

// -- Earlier results -----------------------------------------------------------------------------------------------------

async function drawList(screen) {
  const { project, me, models, list } = screen;
  const isAll = new URLSearchParams(location.search).get("whose") === "all";
  const rows = await every(`projects/${project.id}/predictions`, MOST_LISTED);
  const shown = isAll ? rows : rows.filter((row) => row.created_by === me.user.id);
  const whose = choice([["mine", t("Mine")], ["all", t("Of everybody in the project")]], { value: isAll ? "all" : "mine" });
  whose.addEventListener("change", () => {
    noteInAddress({ whose: whose.value === "all" ? "all" : null });
    drawList(screen);
  });
  const byId = new Map(models.map((model) => [model.id, model]));
  const done = shown.filter((row) => row.state === "done");
  const zip = new URLSearchParams(done.slice(0, MOST_IN_ZIP).map((row) => ["prediction_id", row.id]));
  list.replaceChildren(section(t("Earlier results"),
    make("div", { className: "row" }, field(t("Whose"), whose),
      done.length ? make("a", { className: "button", href: `/api/v1/projects/${project.id}/predictions.zip?${zip}` }, t("Download as ZIP: {count}", { count: Math.min(done.length, MOST_IN_ZIP) })) : null,
      done.length ? make("a", { className: "button", href: `/api/v1/projects/${project.id}/predictions.csv` }, t("All areas of the project (CSV)")) : null),
    shown.length ? make("ul", { className: "results-list" }, ...shown.map((row) => make("li", {}, resultLink(screen, row), " ", make("small", {}, [byId.get(row.model_id)?.name, time(row.created_at), stateOf(row)].filter(Boolean).join(" · ")))))
      : empty(isAll ? t("Nobody has predicted here yet. Choose images above and run.") : t("You have not predicted here yet. Choose images above and run."))));
  if (shown.some((row) => !isOver(row))) watchList(screen, list.firstChild);
}

function resultLink(screen, row) {
  const href = addressOf("/predict", { project: screen.project.id, model: screen.model.id, prediction: row.id });
  const isShown = idInAddress("prediction") === row.id;
  return make("a", { href, "data-id": row.id, "aria-current": isShown ? "true" : null, onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab
    event.preventDefault();
    screen.show(row.id).then(() => screen.result.scrollIntoView({ block: "start" }));
  } }, row.name);
}

function watchList(screen, drawn) {
  poll(drawn, async () => {
    const rows = await every(`projects/${screen.project.id}/predictions`, MOST_LISTED);
    if (rows.some((row) => !isOver(row))) return false;
    await drawList(screen);
    return true;
  }, 3000);
}

function stateOf(row) {
  return { queued: t("waiting"), running: t("running"), failed: `${t("failed")}: ${fromServer(row.reason)}` }[row.state] ?? null;
}
