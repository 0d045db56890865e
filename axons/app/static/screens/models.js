/** The models that one may use: to search, try, promote, share, take along, bring. */

import {
  button, carefulButton, choice, empty, every, field, form, link, make, noteInAddress, post, remove, section,
} from "./base.js";
import { exportForm } from "./model-export.js";
import { facts, scoreText, swatches } from "./models-card.js";
import { sendFile } from "./upload.js";
import { number, t, time } from "./words.js";

const EDITORS = new Set(["owner", "editor", "educator", "administrator"]);

export const words = () => ({
  title: t("Models"),
  explain: [
    t("A [[model]] is what a training has learnt. Each training makes a new [[version]]; the [[promote|promoted]] one is used under the model's name."),
    t("Ready means that its mean [[iou]] reaches the [[threshold]] of its project. Below it, train longer or correct labels."),
  ],
  command: ({ project }) => project ? `axons models list "${project.name}"` : "axons models list",
});

export async function open(main, context) {
  const query = new URLSearchParams(location.search);
  const search = make("input", { type: "search", value: query.get("search") ?? "" });
  const place = make("div");
  const screen = { context, projects: new Map(), models: [], place, search };
  search.addEventListener("input", () => {
    noteInAddress({ search: search.value || null });
    drawModels(screen);
  });
  const path = context.project ? `models?project_id=${context.project.id}` : "models";
  screen.refresh = async () => {
    screen.models = await every(path);
    drawModels(screen);
  };
  screen.projects = new Map((await every("projects")).map((row) => [row.id, row]));
  main.append(field(t("Search by name, class or project"), search), place);
  await screen.refresh();
  const own = [...screen.projects.values()].filter((row) => EDITORS.has(row.role) && !row.archived_at);
  if (own.length) main.append(importForm(own, screen));
}

/** All versions of a name in a project, the one that is used first. */
function families(models) {
  const found = Map.groupBy(models, (model) => `${model.project_id}/${model.name}`);
  return [...found.values()].map((versions) => versions.sort((a, b) => b.is_promoted - a.is_promoted || b.version - a.version));
}

function drawModels(screen) {
  const { models, place, search, projects } = screen;
  const wanted = search.value.trim().toLowerCase();
  const textOf = (model) => [model.name, projects.get(model.project_id)?.name ?? "", ...model.card.classes.map((row) => row.name)].join("\n").toLowerCase();
  const shown = families(models).filter((versions) => versions.some((model) => textOf(model).includes(wanted)));
  if (!models.length) {
    const project = screen.context.project?.id;
    place.replaceChildren(empty(t("There is no model yet. Train one, or ask somebody to share theirs."),
      project ? link(t("Train a model"), "/train", { project }, { className: "button" }) : link(t("Choose one of my projects"), "/", {}, { className: "button" })));
  } else if (!shown.length) {
    place.replaceChildren(empty(t("No model is called like this."), button(t("Show all models"), () => {
      search.value = "";
      noteInAddress({ search: null });
      drawModels(screen);
    })));
  } else {
    place.replaceChildren(make("ul", { className: "models" }, ...shown.map((versions) => familyCard(versions, screen))));
  }
}

function familyCard([first, ...older], screen) {
  const others = older.length && make("details", {}, make("summary", {}, t("Other versions: {count}", { count: older.length })),
    ...older.map((model) => versionCard(model, screen, "h3", older.length > 0)));
  return make("li", { className: "card" }, versionCard(first, screen, "h2", older.length > 0), others || null);
}

function versionCard(model, screen, heading, hasOthers) {
  const project = screen.projects.get(model.project_id);
  const isReady = model.verdict === "ready";
  const mayEdit = project && EDITORS.has(project.role) && !project.archived_at;
  return make("div", { className: "version" },
    make(heading, {}, `${model.name} · ${t("version {version}", { version: model.version })}`),
    make("p", { className: "row" },
      model.is_promoted ? make("span", { className: "badge good" }, `★ ${t("promoted")}`) : null,
      make("span", { className: `badge ${isReady ? "good" : "warn"}` }, isReady ? `✓ ${t("ready")}` : `△ ${t("needs improvement")}`),
      make("span", { className: "badge" }, sharedText(model.visibility))),
    make("p", {}, scoreText(model)),
    swatches(model.card.classes),
    make("p", { className: "quiet" }, project ? link(project.name, "/images", { project: project.id }) : t("from a project of somebody else"), ` · ${time(model.created_at)}`),
    make("p", { className: "row" },
      link(t("Try"), "/predict", { project: mayEdit ? project.id : screen.context.project?.id, model: model.id }, { className: "button", "aria-label": t("Try {name}, version {version}", model) }),
      make("a", { className: "button", href: `/api/v1/models/${model.id}/download`, "aria-label": t("Download {name}, version {version}", model) }, t("Download"))),
    make("details", {}, make("summary", {}, t("Model card")), facts(model, project)),
    exportForm(model, screen.context.me),
    mayEdit ? manage(model, project, screen, hasOthers) : null);
}

function sharedText(visibility) {
  return { private: t("for the project only"), classroom: t("shared with the class"), everyone: t("shared with everyone") }[visibility];
}

/** What who edits the project may do with a version. */
function manage(model, project, screen, hasOthers) {
  const mayPromote = model.verdict === "ready" || screen.context.me.user.role !== "student";
  const promote = !model.is_promoted && button(t("Promote"), async () => {
    await post(`models/${model.id}/promote`);
    await screen.refresh();
    return t("Version {version} is used from the next prediction on.", model);
  }, { disabled: !mayPromote });
  const back = model.is_promoted && hasOthers && button(t("Roll back"), async () => {
    const now = await post(`models/${model.id}/rollback`);
    await screen.refresh();
    return t("Version {version} is used from the next prediction on.", now);
  });
  const pairs = [["private", t("for the project only")], ["classroom", t("shared with the class")], ["everyone", t("shared with everyone")]];
  const share = choice(pairs.filter(([key]) => key !== "classroom" || project.classroom_id), { value: model.visibility });
  const save = button(t("Share"), async () => {
    await post(`models/${model.id}/share`, { visibility: share.value });
    await screen.refresh();
    return t("Saved: {text}.", { text: sharedText(share.value) });
  });
  const drop = carefulButton(t("Delete"), t("Really delete version {version}?", model), async () => {
    await remove(`models/${model.id}`);
    await screen.refresh();
    return t("It is in the trash and can be restored for some days.");
  });
  return make("details", {}, make("summary", {}, t("Promote, share, delete")),
    make("div", { className: "row" }, promote || null, back || null, drop),
    mayPromote || model.is_promoted ? null : make("p", { className: "quiet" }, t("Below the threshold of {threshold} only an educator promotes it.", { threshold: number(model.threshold, 2) })),
    make("div", { className: "row" }, field(t("Who may use it"), share), save));
}

/** Weights that somebody brings, with their card or with what a card would say. */
function importForm(projects, screen) {
  const file = (name, accept, required) => make("input", { type: "file", name, accept, required });
  const text = (name, value = "") => make("input", { name, value, maxLength: 60 });
  const progress = make("progress", { max: 1, value: 0, hidden: true, "aria-label": t("Sent") });
  const fields = [
    field(t("Weights (.safetensors)"), file("weights", ".safetensors", true)),
    field(t("Card (model.json), if there is one"), file("card", ".json", false), t("A download from here has it beside the weights.")),
    field(t("Name"), make("input", { name: "name", required: true, maxLength: 80 })),
    field(t("Project"), choice(projects.map((row) => [row.id, row.name]), { name: "project", value: screen.context.project?.id ?? projects[0].id })),
    make("fieldset", {}, make("legend", {}, t("Without a card")),
      field(t("Architecture"), choice(["unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer"].map((name) => [name, name]), { name: "architecture" })),
      field(t("Encoder"), text("encoder", "resnet18")),
      field(t("Channels"), choice([["3", t("3 (colour)")], ["1", t("1 (grey)")]], { name: "channels" })),
      field(t("Classes, by commas"), make("input", { name: "classes", placeholder: "background, axon" }), t("The first is the background."))),
    progress,
  ];
  const made = form(fields, t("Import"), async (values) => {
    const card = values.card.size ? JSON.parse(await values.card.text()) : null;
    progress.hidden = false;
    try {
      const upload = await sendFile(values.weights, { purpose: "model", project_id: values.project }, { onProgress: (share) => { progress.value = share; } });
      const described = card ? { card } : {
        architecture: values.architecture,
        encoder: values.encoder.trim(),
        channels: Number(values.channels),
        classes: coloured(values.classes.split(",").map((name) => name.trim()).filter(Boolean)),
      };
      const model = await post("models:import", { upload_id: upload.id, project_id: values.project, name: values.name.trim(), ...described });
      await screen.refresh();
      made.reset();
      return t("Imported as version {version} of {name}; score it on a split before you trust it.", model);
    } finally {
      progress.hidden = true;
    }
  });
  return section(t("Bring a model"), make("p", { className: "quiet" }, t("Weights trained elsewhere, as safetensors. Their scores are not taken over.")),
    make("details", {}, make("summary", {}, t("Import a file")), made));
}

const COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"];

const coloured = (names) => names.map((name, place) => ({ name, colour: COLOURS[place % COLOURS.length] }));
