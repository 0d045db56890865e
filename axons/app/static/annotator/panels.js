/** What stands around the picture: tools, classes, layers, map, history and the sheet of keys. */

import { ask, element } from "./dialogs.js";
import { HELD, KEYS } from "./keys.js";
import { IGNORED, UNLABELLED } from "./values.js";
import { number, t, time } from "../screens/words.js";

const MOST_LAYERS = 100;
const SOURCES = {
  manual: () => "", model: () => t("model"), forest: () => t("pixel classifier"), import: (what) => t("import {what}", { what }),
  copy: () => t("previous tile"),
};
const SAVED_BY = {
  manual: () => t("by hand"), model: () => t("model"), merge: () => t("merged"), restore: () => t("restored"), import: () => t("imported"),
  prediction: () => t("prediction"), retile: () => t("tiled anew"),
};

export const byId = (id) => document.getElementById(id);

/** What a new ring does to the polygons there are, as [mode, text]. */
export const modes = () => [["new", t("New")], ["add", t("Add")], ["subtract", t("Subtract")], ["split", t("Divide")]];

/** The tools with their keys, and the settings of those that have some. */
export function drawTools(page) {
  const nav = byId("tools");
  const tools = KEYS.filter(([, , , action]) => action === "setTool");
  nav.replaceChildren(
    ...tools.map(([, key, label, , name]) => toolButton(t(label).split(/:| and/)[0].trim(), key, "setTool", name)),
    element("hr"),
    ...modes().map(([mode, label]) => toolButton(label, "", "setMode", mode)),
    element("hr"),
    slider(page, t("Brush"), "brush", 0.5, 100, 0.5),
    slider(page, t("Wand ±"), "tolerance", 0, 128, 1),
    slider(page, t("Superpixel"), "segment", 6, 64, 2),
    element("hr"),
    toolButton(t("Undo"), "Ctrl Z", "undo"),
    toolButton(t("Redo"), "Ctrl Y", "redo"),
    toolButton(t("Copy previous"), "Ctrl D", "copyPrevious"),
  );
}

function toolButton(label, key, action, argument = "") {
  const button = element("button", { type: "button" }, label, ...(key ? [element("kbd", {}, key)] : []));
  Object.assign(button.dataset, { action, argument });
  return button;
}

function slider(page, label, name, min, max, step) {
  const output = element("output", {}, String(page.settings[name]));
  const input = element("input", { type: "range", min, max, step, value: page.settings[name], id: `setting-${name}` });
  input.addEventListener("input", () => page.set(name, Number(input.value)));
  // An output takes a label, too, and it comes first.
  return element("label", { htmlFor: input.id }, `${label} `, output, element("br"), input);
}

/** Which tool and mode are at hand, and what can be undone. */
export function showTools(page) {
  for (const button of byId("tools").querySelectorAll("button")) {
    const { action, argument } = button.dataset;
    if (action === "setTool") button.ariaPressed = String(argument === page.toolName);
    if (action === "setMode") button.ariaPressed = String(argument === page.settings.mode);
    if (action === "undo") button.disabled = !page.document?.undoDepth;
    if (action === "redo") button.disabled = !page.document?.redoDepth;
  }
  for (const name of ["brush", "tolerance", "segment"]) {
    const input = byId(`setting-${name}`);
    input.value = page.settings[name];
    input.parentElement.querySelector("output").value = page.settings[name];
  }
}

/** The classes that can be painted: those of the project, and "ignored". */
export function paintable(page) {
  const ignored = { index: IGNORED, name: t("ignored"), colour: "#a0a0a0" };
  return [...page.classes.filter((row) => !row.is_deleted || page.document.counts[row.index]), ignored];
}

export function drawClasses(page) {
  const rows = paintable(page);
  byId("classes").replaceChildren(...rows.map((row) => classRow(page, row)));
  byId("fill-value").replaceChildren(...rows.map((row) => element("option", { value: row.index }, row.name)));
  showClasses(page);
}

function classRow(page, { index, name, colour }) {
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = colour;
  const key = index === IGNORED ? "N" : index < 10 ? String(index) : "";
  const pick = element("button", { type: "button", className: "class" }, swatch, element("span", { className: "name" }, name),
    element("kbd", {}, key), element("span", { className: "share" }));
  pick.addEventListener("click", () => page.run("setClass", index));
  const eye = element("button", { type: "button", className: "small eye", title: t("Hide {name}; with Shift all others", { name }) }, t("Hide"));
  eye.addEventListener("click", (event) => page.run("toggleHidden", { value: index, isOthers: event.shiftKey }));
  const protectTip = t("Protect {name}: nothing paints over it", { name });
  const lock = element("button", { type: "button", className: "small lock", title: protectTip }, t("Protect"));
  lock.addEventListener("click", () => page.run("toggleProtect", index));
  const item = element("li", {}, pick, eye, lock);
  item.dataset.value = index;
  return item;
}

/** Pixels, eyes and locks of the classes. */
export function showClasses(page) {
  const { counts, height, width } = page.document;
  for (const item of byId("classes").children) {
    const value = Number(item.dataset.value);
    item.querySelector(".class").ariaPressed = String(value === page.settings.value);
    item.querySelector(".share").textContent = share(counts[value], height * width);
    item.querySelector(".eye").ariaPressed = String(page.view.hidden.has(value));
    item.querySelector(".lock").ariaPressed = String(page.settings.protect.has(value));
  }
}

export function share(pixels, all) {
  const percent = (100 * pixels) / all;
  return pixels === 0 ? "–" : percent < 0.1 ? `< ${number(0.1, 1)} %` : `${number(percent, percent < 10 ? 1 : 0)} %`;
}

/** The layers, the topmost first. */
export function drawLayers(page) {
  const { layers } = page.document;
  const names = new Map(paintable(page).map((row) => [row.index, row]));
  byId("num-layers").textContent = layers.length ? `(${layers.length})` : "";
  const rows = layers.slice(-MOST_LAYERS).reverse().map((layer) => layerRow(page, layer, names));
  if (layers.length > MOST_LAYERS) rows.push(element("li", {}, t("and {n} more below", { n: number(layers.length - MOST_LAYERS) })));
  byId("layers").replaceChildren(...rows);
}

function layerRow(page, layer, names) {
  const isPolygon = layer.t === "poly";
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = isPolygon ? (names.get(layer.value)?.colour ?? "transparent") : "transparent";
  const [kind, detail] = layer.src.split(":");
  const source = SOURCES[kind]?.(detail) ?? kind;
  const nameOf = (value) => names.get(value)?.name ?? t("class {n}", { n: value });
  const name = !isPolygon ? t("Painted") : layer.value === UNLABELLED ? t("Erased") : nameOf(layer.value);
  const button = element("button", { type: "button", disabled: !isPolygon }, swatch,
    element("span", {}, name), element("span", {}, [source, layer.by].filter(Boolean).join(" · ")));
  button.ariaPressed = String(page.selection.has(layer.id));
  button.addEventListener("click", (event) => page.run("selectLayer", { id: layer.id, isMore: event.shiftKey }));
  return element("li", {}, button);
}

/** Where the tile and what one sees of it lie in the image, in percent of the map. */
export function placeOnMap(page) {
  const { tile, image, view } = page;
  const place = (id, { row0, col0, row1, col1 }) => Object.assign(byId(id).style, {
    top: `${(100 * row0) / image.height}%`, left: `${(100 * col0) / image.width}%`,
    height: `${(100 * (row1 - row0)) / image.height}%`, width: `${(100 * (col1 - col0)) / image.width}%`,
  });
  byId("map").parentElement.style.setProperty("--ratio", image.width / image.height);
  place("map-tile", { row0: tile.row0, col0: tile.col0, row1: tile.row0 + tile.height, col1: tile.col0 + tile.width });
  const seen = view.seen();
  const clip = (position, most) => Math.min(most, Math.max(0, position));
  place("map-view", {
    row0: clip(tile.row0 + seen.row0, image.height), col0: clip(tile.col0 + seen.col0, image.width),
    row1: clip(tile.row0 + seen.row1, image.height), col1: clip(tile.col0 + seen.col1, image.width),
  });
}

/** Instructions of the project and pictures that show what is meant. */
export function drawHelp({ project, examples }) {
  byId("help").hidden = !project.instructions && !examples.length;
  byId("instructions").textContent = project.instructions;
  byId("examples").replaceChildren(...examples.map((row) => {
    const src = `/api/v1/projects/${project.id}/examples/${row.id}/picture`;
    const picture = element("img", { src, alt: row.caption, width: row.width, height: row.height, loading: "lazy" });
    const figure = element("figure", { className: row.is_good ? "good" : "bad" }, picture, element("figcaption", {}, row.caption));
    return element("li", {}, figure);
  }));
}

/** The keys, with a field to search in them. */
export function showKeys() {
  const rows = [...KEYS, ...HELD.map(([group, keys, label]) => [group, t(keys), label])].map(([group, keys, label]) =>
    element("tr", {}, element("td", {}, t(group)), element("td", {}, element("kbd", {}, keys)), element("td", {}, t(label))));
  const search = element("input", { type: "search", ariaLabel: t("Search the keys"), placeholder: t("Search") });
  search.addEventListener("input", () => {
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(search.value.toLowerCase());
  });
  const content = [search, element("table", {}, element("tbody", {}, ...rows))];
  return ask({ title: t("Keys"), content, choices: [["close", t("Close")]] });
}

/** What was saved, the newest first. @returns {Promise<number|null>} the revision to restore */
export async function askRevision(page, revisions) {
  let chosen = null;
  const preview = element("img", { alt: "", width: page.tile.width, height: page.tile.height });
  const rows = revisions.map((row) => {
    const radio = element("input", { type: "radio", name: "revision", value: row.number });
    radio.addEventListener("change", () => {
      chosen = row.number;
      preview.src = `/api/v1/tiles/${page.tile.id}/mask?revision=${row.number}`;
    });
    return element("tr", {}, element("td", {}, element("label", {}, radio, ` ${row.number}`)), element("td", {}, time(row.created_at)),
      element("td", {}, row.author_name), element("td", {}, SAVED_BY[row.source]?.() ?? row.source));
  });
  const head = element("tr", {}, ...[t("Revision"), t("Saved"), t("By"), t("How")].map((title) => element("th", {}, title)));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  const canRestore = rows.length && !page.isReadOnly;
  const choices = [["close", t("Close")], ...(canRestore ? [["restore", t("Restore the chosen one")]] : [])];
  const text = rows.length
    ? t("Restoring makes an earlier state the newest once more; nothing is lost.") : t("Nothing was saved yet.");
  const answer = await ask({ title: t("History"), text, content: rows.length ? [table, preview] : [], choices });
  return answer === "restore" ? chosen : null;
}

/** A sentence over the picture; null takes it away. */
export function showNotice(text, ...buttons) {
  byId("frame").querySelector(".notice")?.remove();
  if (text === null) return;
  const notice = element("div", { className: "notice" }, `${text} `, ...buttons.map(([label, act]) => {
    const button = element("button", { type: "button" }, label);
    button.addEventListener("click", act);
    return button;
  }));
  notice.addEventListener("pointerdown", (event) => event.stopPropagation());
  byId("frame").append(notice);
}
