/** The annotation page: opens a tile, and gives its parts to the tools, the panels and the saver. */

import { createActivity } from "./activity.js";
import * as api from "./api.js";
import * as dialogs from "./dialogs.js";
import { createDocument } from "./document.js";
import { createDrafts } from "./drafts.js";
import { uniteLayers } from "./geometry.js";
import { listenToKeys } from "./keys.js";
import { copyMask, flatten, fromDocument, mergeNeighbours } from "./layers.js";
import { createLease } from "./lease.js";
import * as panels from "./panels.js";
import { createProposal } from "./proposal.js";
import { render } from "./r1.js";
import { withValue } from "./regions.js";
import { announce, createSaver } from "./saving.js";
import { createSegments } from "./segments.js";
import { createStage } from "./stage.js";
import { createTools, replaceLayers } from "./tools.js";
import { newId, UNLABELLED } from "./values.js";
import { createView, rgbOf } from "./view.js";
import { fromServer, loadWords, number, stateText, t, translatePage } from "../screens/words.js";

const MARGIN = 64; // px of surroundings on each side
const MAX_BRUSH = 100;
const LIMITS_MS = 150;
const POLL_MS = 2000;
const { byId } = panels;

const held = { isSpace: false };
const drafts = createDrafts();
const activity = createActivity(window);
const view = createView(byId("frame"));
const segments = createSegments(() => page.rgba() && { rgba: page.rgba(), height: page.tile.height, width: page.tile.width }, () => {
  say(t("{n} superpixels are ready.", { n: number(segments.count) }));
  view.ask();
});

/** What the tools, the stage and the panels share. */
const page = {
  view,
  settings: { value: 1, previous: 0, brush: 10, protect: new Set(), mode: "new", tolerance: 16, segment: 16 },
  selection: new Set(),
  classes: [],
  document: null,
  tile: null,
  image: null,
  user: null,
  isReadOnly: true,
  toolName: "brush",
  tool: () => page.document && page.tools[page.toolName],
  isPanning: () => held.isSpace,
  rgba: picturePixels,
  segments: () => segments.get(page.settings.segment),
  run,
  say,
  changed,
  set,
  hint,
  refuse,
  resizeBrush: (step) => set("brush", page.settings.brush + (step * Math.max(1, page.settings.brush)) / 8),
  pointerMoved,
  selectionChanged,
};
page.tools = createTools(page);
const stage = createStage(page);

let current = null; // {id, editor, saver, lease, leaseState, proposal, pixels, reason}
let prefetched = null; // {id, picture}
let isOpening = false;
let limitsTimer = null;

// -- Opening a tile ------------------------------------------------------------------------------------------------------

async function openTile(id, { reason = "", isBack = false } = {}) {
  if (isOpening) return;
  isOpening = true;
  try {
    const answers = [api.getJson(`/tiles/${id}/editor`), api.getAnnotation(id), pictureOf(id)];
    const [editor, annotation, picture] = await Promise.all(answers);
    if (!(await leaveTile())) return;
    if (!isBack) history.pushState(null, "", `/annotate/${id}`);
    show(id, editor, annotation, picture, reason);
  } catch (error) {
    const again = () => openTile(id, { reason, isBack });
    panels.showNotice(t("The tile cannot be opened: {why}.", { why: error.message }), [t("Try again"), again]);
    if (error instanceof api.AuthRequired && (await dialogs.askSignIn(api, page.user ?? { name: "" }))) setTimeout(again);
  } finally {
    isOpening = false;
  }
}

/** Save and close what is open. False where that is not possible and the person wants to stay. */
async function leaveTile() {
  stage.finish();
  if (!current) return true;
  const isSaved = page.isReadOnly || (await current.saver.saveNow());
  if (!isSaved) {
    const choice = await dialogs.ask({
      title: t("Not everything is saved"),
      text: t("This browser keeps your labels and offers them when you open the tile again."),
      choices: [["stay", t("Stay here")], ["leave", t("Leave all the same")]],
    });
    if (choice !== "leave") return false;
  }
  current.saver.close();
  current.lease?.close();
  current.proposal?.reject();
  for (const tool of Object.values(page.tools)) tool.leaveTile?.();
  segments.clear();
  current = null;
  return true;
}

function show(id, editor, annotation, picture, reason) {
  const { tile, image, user, classes } = editor;
  const { layers } = fromDocument(annotation.json);
  const labels = createDocument({
    height: tile.height, width: tile.width, by: user.name, onChange: (rect) => view.labelsChanged(rect),
  });
  Object.assign(page, { document: labels, tile, image, user, classes });
  page.selection.clear();
  for (const tool of Object.values(page.tools)) tool.cancel();
  labels.replaceLayers(layers, annotation.revision);
  view.open(tile, labels.plane);
  current = { id, editor, reason, saver: saverOf(id, labels, user), lease: null, leaseState: null, proposal: null };
  showPicture(picture);
  showSaved(current.saver.state);
  if (!classes.some((row) => row.index === page.settings.value)) page.settings.value = classes.at(-1).index;
  setReadOnly();
  drawLimits();
  colour();
  drawAll();
  current.saver.start().then(drawAll);
  afterOpening(id);
}

function setReadOnly() {
  const { user, tile } = page;
  page.isReadOnly = !user.may_annotate || tile.status === "done";
  document.body.dataset.readOnly = String(page.isReadOnly);
  const isDone = tile.status === "done";
  document.querySelector("[data-action=reopen]").hidden = !(isDone && user.may_annotate);
  document.querySelector("[data-action=markDone]").hidden = page.isReadOnly;
  if (!user.may_annotate) panels.showNotice(t("You may look at this tile; its labels are not yours to change."));
  else if (isDone) panels.showNotice(t("This tile is done: its labels stay as they are."), [t("Reopen"), () => run("reopen")]);
  else panels.showNotice(null);
  if (page.isReadOnly) return;
  current.lease ??= createLease({ tileId: current.id, api, onLease: showLease, onError: (error) => console.warn(error) });
  current.lease.take();
}

function showLease(lease) {
  if (!current) return;
  const isNew = current.leaseState?.holder !== lease.holder;
  current.leaseState = lease;
  if (lease.isMine || !lease.holder) {
    if (isNew) panels.showNotice(null);
    return;
  }
  if (isNew) {
    const name = lease.holder;
    const onlyLook = () => {
      page.isReadOnly = true;
      current.lease.close();
      panels.showNotice(t("You only look; {name} is labelling.", { name }));
    };
    panels.showNotice(t("{name} is labelling this tile.", { name }),
      [t("Work anyway"), () => { panels.showNotice(null); current.lease.take(true); }],
      [t("Only look"), onlyLook],
      [t("Next tile"), () => run("nextInQueue")]);
  }
}

function saverOf(id, labels, user) {
  return createSaver({
    tileId: id, api, document: labels, user, drafts, activity,
    onState: showSaved,
    onSaved: (saved) => { page.tile.status = saved.status; },
    onMerged: (text) => { say(`${text[0].toUpperCase()}${text.slice(1)}.`); drawAll(); },
    onOtherPerson: dialogs.tellOtherPerson,
    onConflict: (model) => dialogs.askConflict(model, (value) => rgbOf(colourOf(value))),
    onSignIn: dialogs.askSignIn,
    onLocked: askAboutDone,
    onDraft: dialogs.askDraft,
  });
}

/** Somebody has marked the tile done meanwhile. */
async function askAboutDone(detail) {
  const choice = await dialogs.askLocked(detail);
  if (choice !== null) {
    page.tile.status = choice === "discard" ? "done" : "started";
    setReadOnly();
  }
  return choice;
}

/** What can wait until one may draw. */
async function afterOpening(id) {
  const { editor } = current;
  byId("map").src = `/api/v1/images/${page.image.id}/thumbnail`;
  panels.placeOnMap(page);
  const around = await bitmapOf(`/tiles/${id}/surroundings?margin=${MARGIN}`).catch(() => null);
  if (current?.id !== id) return;
  if (around) view.setSurroundings(around.picture);
  const next = editor.next_id;
  if (next && prefetched?.id !== next) prefetched = { id: next, picture: pictureOf(next, true) };
}

/** The picture of a tile with its surroundings; that of the next tile is fetched while one looks at this one. */
function pictureOf(id, isAhead = false) {
  const known = !isAhead && prefetched?.id === id ? prefetched.picture : null;
  if (!isAhead) prefetched = null;
  const fresh = () => bitmapOf(`/tiles/${id}/image?margin=${MARGIN}`);
  const made = known ? known.catch(fresh) : fresh();
  made.catch(() => {}); // whoever waits for it is told
  return made;
}

async function bitmapOf(path) {
  const answer = await api.request("GET", path);
  const [row0, col0, height, width] = answer.headers.get("Axons-Window").split(",").map(Number);
  return { picture: await createImageBitmap(await answer.blob()), window: { row0, col0, height, width } };
}

/** Show a picture whose window is counted in the image; from now on it is counted from the tile's corner. */
function showPicture({ picture, window: around }) {
  const { row0, col0 } = page.tile;
  current.picture = { picture, window: { ...around, row0: around.row0 - row0, col0: around.col0 - col0 } };
  current.pixels = null;
  view.setPicture(current.picture);
}

/** Contrast limits of a 16-bit picture: the server makes another 8-bit view of the original values. */
function drawLimits() {
  const { dtype, contrast_low: low, contrast_high: high } = page.image;
  byId("limits").hidden = dtype !== "uint16";
  for (const [id, value] of [["low", low], ["high", high]]) Object.assign(byId(id), { min: 0, max: 65535, step: 16, value });
}

function chooseLimits() {
  clearTimeout(limitsTimer);
  limitsTimer = setTimeout(async () => {
    const { id } = current;
    const [low, high] = [Number(byId("low").value), Number(byId("high").value)];
    if (low >= high) {
      say(t("The darkest value has to be below the brightest one."));
      return;
    }
    const picture = await bitmapOf(`/tiles/${id}/image?margin=${MARGIN}&low=${low}&high=${high}`).catch((error) => say(error.message));
    if (!picture || current?.id !== id) return;
    showPicture(picture);
    segments.clear();
  }, LIMITS_MS);
}

/** Open the tile below a click on the map. */
async function openOnMap({ target, offsetX, offsetY }) {
  const { id, editor } = current;
  current.neighbours ??= (await api.getJson(`/projects/${editor.project.id}/tiles?image_id=${page.image.id}&limit=500`)).items;
  const row = (offsetY / target.clientHeight) * page.image.height;
  const col = (offsetX / target.clientWidth) * page.image.width;
  const found = current.neighbours.find((tile) =>
    row >= tile.row0 && row < tile.row0 + tile.height && col >= tile.col0 && col < tile.col0 + tile.width);
  if (found && found.id !== id) await openTile(found.id);
}

/** The tile's own pixels as the browser shows them, for the wand and the superpixels; labels never come from here. */
function picturePixels() {
  if (!current?.picture) return null;
  if (!current.pixels) {
    const { height, width } = page.tile;
    const canvas = Object.assign(document.createElement("canvas"), { height, width });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(current.picture.picture, current.picture.window.col0, current.picture.window.row0);
    current.pixels = context.getImageData(0, 0, width, height).data;
  }
  return current.pixels;
}

// -- What is drawn -------------------------------------------------------------------------------------------------------

/** A step is over. */
function changed() {
  current.saver.committed();
  current.proposal?.draw();
  const ids = new Set(page.document.layers.map((layer) => layer.id));
  for (const id of page.selection) if (!ids.has(id)) page.selection.delete(id);
  drawAll();
}

function drawAll() {
  if (!page.document || !current) return;
  const { editor } = current;
  byId("title").textContent = `${editor.project.name} · ${page.image.name}`;
  byId("place").textContent = t("of {n}", { n: number(editor.num_tiles) });
  Object.assign(byId("number").elements.number, { value: editor.number, max: editor.num_tiles });
  byId("hint").textContent = fromServer(current.reason);
  panels.drawClasses(page);
  panels.drawLayers(page);
  panels.showTools(page);
  panels.drawHelp(editor);
  drawSuggestions();
}

function drawSuggestions() {
  const { editor, proposal } = current;
  byId("suggestions").hidden = page.isReadOnly;
  const proposers = editor.models.map((row) => [row.id, `${row.name} ${row.version}${row.is_promoted ? ` (${t("promoted")})` : ""}`]);
  const select = byId("proposer");
  const chosen = select.value;
  select.replaceChildren(...[...proposers, ["forest", t("Pixel classifier, from your labels")]].map(([value, label]) =>
    dialogs.element("option", { value }, label)));
  if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
  select.disabled = !editor.offers_pre_labels;
  document.querySelector("[data-action=propose]").disabled = !editor.offers_pre_labels || current.isProposing;
  document.querySelector("[data-action=rankTiles]").hidden = !editor.models.length || select.value === "forest";
  byId("proposal").hidden = !proposal;
  if (!editor.offers_pre_labels) {
    byId("suggestions-said").textContent = t("This image tests the models: nothing is suggested here, so that the test stays honest.");
  }
}

function colour() {
  view.setColours(panels.paintable(page).map((row) => [row.index, row.colour]));
  current?.proposal?.draw();
}

function colourOf(value) {
  return panels.paintable(page).find((row) => row.index === value)?.colour ?? "#808080";
}

function showSaved(state) {
  const button = byId("save");
  button.textContent = state.text;
  button.dataset.state = state.name;
  button.title = state.detail || t("Save now (Ctrl+S)");
}

function say(text) {
  byId("said").textContent = text;
}

function refuse() {
  say(page.tile?.status === "done" ? t("The tile is done; reopen it to change its labels.") : t("You may only look at this tile."));
}

function pointerMoved(pointer) {
  if (!pointer || !page.document) {
    byId("where").textContent = "";
    return;
  }
  const [row, col] = [Math.floor(pointer.row), Math.floor(pointer.col)];
  const { height, width, plane } = page.document;
  if (row < 0 || col < 0 || row >= height || col >= width) {
    byId("where").textContent = "";
    return;
  }
  const value = plane[row * width + col];
  const name = value === UNLABELLED ? t("unlabelled") : panels.paintable(page).find((one) => one.index === value)?.name;
  byId("where").textContent = t("row {row}, column {col}: {name}", { row, col, name: name ?? value });
}

function selectionChanged(numBelow) {
  if (numBelow > 1) say(t("{n} polygons lie here; [ and ] go through them.", { n: numBelow }));
  panels.drawLayers(page);
  view.ask();
}

/** Show a region as a hint of what a tool would paint. */
function hint(region) {
  view.setHint(region, rgbOf(colourOf(page.settings.value)));
}

function set(name, value) {
  const limits = { brush: [0.5, MAX_BRUSH], tolerance: [0, 128], segment: [6, 64] }[name];
  const rounded = name === "brush" && value < 5 ? Math.round(value * 2) / 2 : Math.round(value);
  page.settings[name] = Math.min(limits[1], Math.max(limits[0], rounded));
  if (name === "segment" && page.toolName === "superpixel") page.segments();
  panels.showTools(page);
  view.ask();
}

// -- Suggestions ---------------------------------------------------------------------------------------------------------

async function propose() {
  const { id } = current;
  const proposer = byId("proposer").value;
  const place = byId("suggestions-said");
  current.isProposing = true;
  drawSuggestions();
  place.textContent = t("Working on it …");
  try {
    const isForest = proposer === "forest";
    const path = isForest ? `/tiles/${id}/assist/forest` : `/tiles/${id}/pre-label`;
    const answer = await api.request("POST", path, { json: isForest ? page.document.toDocument() : { model_id: proposer } });
    const planes = new Uint8Array(await answer.arrayBuffer());
    if (current?.id !== id) return;
    const size = page.tile.height * page.tile.width;
    current.proposal?.reject();
    current.proposal = createProposal(page, {
      mask: planes.subarray(0, size), confidence: planes.subarray(size), source: answer.headers.get("Axons-Source"),
    });
    current.proposal.setKeepsLabels(byId("keeps-labels").checked);
    current.proposal.setThreshold(Math.round(2.55 * byId("threshold").value));
    const notices = JSON.parse(decodeURIComponent(answer.headers.get("Axons-Notices") ?? "[]"));
    place.textContent = [t("Hatched is suggested. Y accepts the part below the pointer."), ...notices.map(fromServer)].join(" ");
  } catch (error) {
    place.textContent = error.message;
  } finally {
    if (current?.id === id) {
      current.isProposing = false;
      drawSuggestions();
    }
  }
}

/** Let a model find the tiles of which it is unsure, for the queue. */
async function rankTiles() {
  const { editor } = current;
  const place = byId("suggestions-said");
  let job = await api.post(`/projects/${editor.project.id}/tiles:rank`, { model_id: byId("proposer").value });
  while (!["done", "failed", "cancelled"].includes(job.state)) {
    place.textContent = t("Looking at all tiles: {state}, {share} %.", { state: stateText(job), share: Math.round(100 * job.progress) });
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    job = await api.getJson(`/jobs/${job.id}`);
  }
  place.textContent = job.state === "done"
    ? t("Choose “most useful first” as queue.") : t("The tiles could not be looked at: {why}.", { why: fromServer(job.reason) });
}

function withProposal(act) {
  if (!current?.proposal) say(t("Nothing is suggested; choose where suggestions come from, then Suggest."));
  else if (act(current.proposal) === false) say(t("Nothing is suggested there."));
}

// -- Actions -------------------------------------------------------------------------------------------------------------

const whileOpen = {
  setTool(name) {
    page.tool()?.cancel();
    page.toolName = name;
    page.tool()?.enter?.();
    panels.showTools(page);
    view.ask();
  },
  setMode(mode) {
    page.settings.mode = mode;
    panels.showTools(page);
  },
  nextMode() {
    const modes = panels.modes();
    const [mode, name] = modes[(modes.findIndex(([one]) => one === page.settings.mode) + 1) % modes.length];
    whileOpen.setMode(mode);
    say(t("Polygons: {mode}.", { mode: name.toLowerCase() }));
  },
  setClass(value) {
    const { settings } = page;
    if (value !== settings.value) Object.assign(settings, { value, previous: settings.value });
    const chosen = page.document.layers.filter((layer) => page.selection.has(layer.id) && layer.value !== value);
    if (chosen.length && page.toolName === "select" && !page.isReadOnly) {
      replaceLayers(page, new Map(chosen.map((layer) => [layer.id, { ...layer, value }])));
      changed();
    }
    panels.showClasses(page);
    view.ask();
  },
  setClassByKey(digit) {
    if (panels.paintable(page).some((row) => row.index === digit)) whileOpen.setClass(digit);
    else say(t("There is no class {n}.", { n: digit }));
  },
  swapClasses: () => whileOpen.setClass(page.settings.previous),
  pickClass() {
    const pointer = stage.pointer;
    const value = pointer && page.document.plane[Math.floor(pointer.row) * page.tile.width + Math.floor(pointer.col)];
    if (value !== undefined && value !== null && value !== UNLABELLED) whileOpen.setClass(value);
  },
  toggleProtect(value = page.settings.value) {
    const { protect } = page.settings;
    if (!protect.delete(value)) protect.add(value);
    panels.showClasses(page);
  },
  toggleHidden({ value, isOthers }) {
    const values = panels.paintable(page).map((row) => row.index);
    if (isOthers) {
      const others = values.filter((other) => other !== value);
      const isAlone = others.every((other) => view.hidden.has(other));
      view.hidden.clear();
      if (!isAlone) for (const other of others) view.hidden.add(other);
    } else if (!view.hidden.delete(value)) view.hidden.add(value);
    panels.showClasses(page);
    colour();
  },
  smaller: () => (page.toolName === "select" ? page.tools.select.cycle(-1, stage.pointer) : page.resizeBrush(-1)),
  larger: () => (page.toolName === "select" ? page.tools.select.cycle(1, stage.pointer) : page.resizeBrush(1)),
  finish: () => { if (page.tools.polygon.isBusy) page.tools.polygon.finish(); },
  cancel() {
    stage.cancel();
    page.tool()?.cancel();
  },
  dropVertex: () => (page.toolName === "select" ? run("deleteSelected") : page.tools.polygon.dropLast()),
  nudge: ([rows, cols]) => stage.nudge(rows, cols),
  press: () => stage.press(),
  hold: () => stage.press({ holds: true }),
  selectLayer({ id, isMore }) {
    whileOpen.setTool("select");
    if (!isMore) page.selection.clear();
    page.selection.add(id);
    selectionChanged(0);
  },
  selectAll() {
    whileOpen.setTool("select");
    for (const layer of page.document.layers) if (layer.t === "poly" && !view.hidden.has(layer.value)) page.selection.add(layer.id);
    selectionChanged(0);
  },
  zoom: (factor) => view.zoomBy(factor, stage.pointer?.client),
  fit: () => view.fit(),
  toggleOutline() {
    byId("outline").checked = view.show.isOutline = !view.show.isOutline;
    view.recolour();
  },
  fullWindow() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => window.open(location.href, "_blank"));
  },
  resetView() {
    for (const [id, value] of [["opacity", 50], ["brightness", 100], ["contrast", 100]]) {
      byId(id).value = value;
      byId(id).dispatchEvent(new Event("input"));
    }
    view.fit();
  },
  toggleProposal: () => withProposal((proposal) => proposal.toggle()),
  rejectProposal: () => withProposal((proposal) => {
    proposal.reject();
    current.proposal = null;
    drawSuggestions();
  }),
  showKeys: () => panels.showKeys(),
  async showHistory() {
    const { id, saver } = current;
    if (!page.isReadOnly) await saver.saveNow();
    const revision = await panels.askRevision(page, await api.listRevisions(id));
    if (revision === null) return;
    const saved = await api.restoreRevision(id, revision, page.document.revision, newId());
    await saver.refresh();
    announce(id, saved.revision, saved.status);
    drawAll();
    say(t("Revision {n} is the newest once more.", { n: revision }));
  },
  save: () => current.saver.saveNow(),
  previousTile: () => goTo(current.editor.previous_id),
  nextTile: () => goTo(current.editor.next_id),
  async openNumber(place) {
    await openTile((await api.getJson(`/tiles/${current.id}/numbered/${place}`)).id);
  },
  async nextInQueue() {
    const order = byId("queue").value;
    const wanted = {
      order: "", useful: "&order=useful", mine: "&owner=mine", unlabelled: "&status=unlabelled", started: "&status=started",
    }[order];
    const { tile, reason } = await api.getJson(`/projects/${current.editor.project.id}/queue/next?after=${current.id}${wanted}`);
    if (tile) await openTile(tile.id, { reason });
    else say(t("Nothing more to do: {reason}.", { reason: fromServer(reason) }));
  },
  async reopen() {
    Object.assign(page.tile, await api.reopen(current.id));
    announce(current.id, page.tile.revision, page.tile.status);
    setReadOnly();
    drawAll();
  },
};

/** Actions that change labels. */
const whileEditable = {
  undo() {
    if (page.tools.polygon.isBusy) page.tools.polygon.dropLast();
    else if (page.document.undo()) changed();
  },
  redo: () => { if (page.document.redo()) changed(); },
  async deleteSelected() {
    const chosen = page.document.layers.filter((layer) => page.selection.has(layer.id));
    if (!chosen.length) {
      say(t("Nothing is selected; choose polygons with V."));
      return;
    }
    const title = chosen.length === 1
      ? t("Delete the selected polygon?") : t("Delete {n} selected polygons?", { n: chosen.length });
    const choices = [["delete", t("Delete")], ["keep", t("Keep")]];
    const choice = await dialogs.ask({ title, text: t("Undo brings them back."), choices });
    if (choice !== "delete") return;
    replaceLayers(page, new Map(chosen.map((layer) => [layer.id, null])));
    changed();
  },
  mergeSelected() {
    const chosen = page.document.layers.filter((layer) => page.selection.has(layer.id) && layer.t === "poly");
    if (chosen.length < 2) {
      say(t("Select at least two polygons to merge (Shift adds)."));
      return;
    }
    const merged = uniteLayers(chosen, page.tile.height, page.tile.width, { by: page.user.name, src: "manual" });
    replaceLayers(page, new Map(chosen.map((layer, i) => [layer.id, i === chosen.length - 1 ? merged : null])));
    page.selection.add(merged.id);
    changed();
  },
  flatten() {
    const { layers, height, width } = page.document;
    if (layers.length < 2) return;
    page.document.changeLayers(flatten(layers, height, width, { by: page.user.name, src: "manual" }));
    changed();
  },
  async copyPrevious() {
    const { editor, id } = current;
    const before = editor.previous_id && (await api.getAnnotation(editor.previous_id));
    if (current?.id !== id) return;
    if (!before) {
      say(t("There is no tile before this one."));
      return;
    }
    const { height, width, layers } = fromDocument(before.json);
    if (height !== page.tile.height || width !== page.tile.width) {
      const [other, own] = [`${width} × ${height}`, `${page.tile.width} × ${page.tile.height}`];
      say(t("The previous tile has {other} px, this one {own} px: nothing was copied.", { other, own }));
      return;
    }
    const copy = copyMask(render(layers, height, width), height, width, { by: page.user.name, src: `copy:${editor.previous_id}` });
    if (!copy) {
      say(t("The previous tile has no labels."));
      return;
    }
    page.document.changeLayers([...page.document.layers, copy]);
    changed();
  },
  fillUnlabelled(value = Number(byId("fill-value").value)) {
    const { plane, height, width } = page.document;
    if (page.document.paintOnce(withValue(plane, height, width, UNLABELLED), Number(value))) changed();
    else say(t("Nothing is unlabelled."));
  },
  propose,
  rankTiles,
  acceptPart: () => withProposal((proposal) => {
    const pointer = stage.pointer;
    return pointer ? proposal.acceptPart(Math.floor(pointer.row), Math.floor(pointer.col)) : false;
  }),
  acceptAll: () => withProposal((proposal) => proposal.acceptAll()),
  acceptClass: () => withProposal((proposal) => proposal.acceptClass(page.settings.value)),
  markDone,
};

async function markDone() {
  const { document: labels } = page;
  const open = labels.counts[UNLABELLED];
  if (open) {
    const background = page.classes[0].name;
    const choice = await dialogs.ask({
      title: t("{share} of the tile is unlabelled", { share: panels.share(open, labels.height * labels.width) }),
      text: t("Training does not learn from unlabelled pixels. Is the rest {background}?", { background }),
      choices: [
        ["go-on", t("Go on labelling")], ["fill", t("The rest is {background}", { background })], ["as-is", t("Leave it unlabelled")],
      ],
    });
    if (choice === "fill") whileEditable.fillUnlabelled(page.classes[0].index);
    else if (choice !== "as-is") return;
  }
  const joined = mergeNeighbours(labels.layers);
  if (joined.length < labels.layers.length && labels.changeLayers(joined)) changed();
  if (!(await current.saver.saveNow())) return;
  Object.assign(page.tile, await api.markDone(current.id));
  announce(current.id, page.tile.revision, page.tile.status);
  current.lease?.close();
  current.lease = null;
  setReadOnly();
  await whileOpen.nextInQueue();
}

async function goTo(id) {
  if (id) await openTile(id);
  else say(t("There is no further tile this way."));
}

/** Do something by its name, and tell what went wrong. */
function run(name, argument) {
  if (!current || isOpening) return;
  if (name in whileEditable && page.isReadOnly) {
    refuse();
    return;
  }
  const act = whileOpen[name] ?? whileEditable[name];
  Promise.resolve(act(argument)).catch((error) => say(error.message));
}

// -- The page itself -----------------------------------------------------------------------------------------------------

function listen() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    run(button.dataset.action, button.dataset.argument || undefined);
    if (!document.querySelector("dialog[open]")) byId("frame").focus({ preventScroll: true });
  });
  listenToKeys(run, held, { frame: byId("frame"), onHide: (isHidden) => { view.show.isHidden = isHidden; view.ask(); } });
  const onInput = (id, act) => byId(id).addEventListener("input", (event) => act(event.target));
  onInput("opacity", ({ value }) => { view.show.opacity = value / 100; view.ask(); });
  onInput("brightness", ({ value }) => { view.show.brightness = Number(value); view.adjust(); });
  onInput("contrast", ({ value }) => { view.show.contrast = Number(value); view.adjust(); });
  onInput("outline", ({ checked }) => { view.show.isOutline = checked; view.recolour(); });
  onInput("patterns", ({ checked }) => { view.show.hasPatterns = checked; view.recolour(); });
  onInput("threshold", ({ value }) => {
    byId("threshold-value").value = `${value} %`;
    current?.proposal?.setThreshold(Math.round(2.55 * value));
  });
  onInput("proposer", () => drawSuggestions());
  onInput("keeps-labels", ({ checked }) => current?.proposal?.setKeepsLabels(checked));
  byId("new-class").addEventListener("submit", (event) => {
    event.preventDefault();
    addClass(event.target.elements.name).catch((error) => say(error.message));
  });
  byId("number").addEventListener("submit", (event) => {
    event.preventDefault();
    run("openNumber", event.target.elements.number.value);
  });
  window.addEventListener("popstate", () => openTile(idOf(location), { isBack: true }));
  for (const id of ["low", "high"]) onInput(id, () => chooseLimits());
  byId("map").addEventListener("click", (event) => openOnMap(event).catch((error) => say(error.message)));
  view.setOnMoved(() => { if (page.tile) panels.placeOnMap(page); });
}

async function addClass(field) {
  const made = await api.post(`/projects/${current.editor.project.id}/classes`, { name: field.value });
  field.value = "";
  page.classes.push(made);
  colour();
  drawAll();
  whileOpen.setClass(made.index);
}

function idOf({ pathname }) {
  return pathname.split("/").pop();
}

/** What tests may look at. */
function state() {
  const labels = page.document;
  if (!labels || !current) return { ready: false };
  const counts = {};
  labels.counts.forEach((count, value) => { if (count) counts[value] = count; });
  const { saver, proposal, leaseState } = current;
  return {
    ready: !isOpening, tile: current.id, rev: labels.revision, crc32: labels.crc32(), counts, status: page.tile.status,
    tool: page.toolName, class: page.settings.value, brush: page.settings.brush, mode: page.settings.mode,
    protect: [...page.settings.protect], selection: [...page.selection], layers: labels.layers.length,
    zoom: view.zoom, offset: view.offset, undo: labels.undoDepth, redo: labels.redoDepth, dirty: saver.state.name !== "saved",
    save: saver.state.name, lease: leaseState && { isMine: leaseState.isMine, holder: leaseState.holder },
    prelabel: proposal && { source: proposal.source, pixels: proposal.numPixels, isShown: proposal.isShown },
    hidden: [...view.hidden], isHidden: view.show.isHidden,
    segments: segments.count, segmentsTook: segments.took, wand: page.tools.wand.tolerance, readOnly: page.isReadOnly,
    reason: current.reason, busy: stage.isBusy || segments.isBusy, dabTimes: [...view.times],
  };
}

await loadWords();
translatePage();
window.axons = { state };
panels.drawTools(page);
listen();
openTile(idOf(location), { isBack: true });
