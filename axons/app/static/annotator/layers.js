/** Layers and the document they are saved as: the JSON of `to_json` and `from_json` in axons/data/layers.py. */

import { crc32 } from "./crc32.js";
import { render } from "./r1.js";
import { SEE_THROUGH, UNLABELLED, newId } from "./values.js";
import { t } from "../screens/words.js";

const SCHEMA = 1;

/**
 * A mask layer; `id` and `at` are made where they are not given.
 * @param {{rect: object, values: Uint8Array, id?: string, by?: string, at?: string, src?: string}} parts
 */
export function maskLayer({ rect, values, ...origin }) {
  const { row0, col0, row1, col1 } = rect;
  return { t: "mask", box: [row0, col0, row1 - row0, col1 - col0], values, ...originOf(origin) };
}

/**
 * A polygon layer; `id` and `at` are made where they are not given.
 * @param {{value: number, rings: Iterable<ArrayLike<number>>, keep?: Iterable<number>, id?: string, by?: string,
 *   at?: string, src?: string}} parts
 */
export function polygonLayer({ value, rings, keep = [], ...origin }) {
  return {
    t: "poly",
    value,
    keep: [...new Set(keep)].sort((a, b) => a - b),
    rings: Array.from(rings, (ring) => Int32Array.from(ring)),
    ...originOf(origin),
  };
}

/**
 * The document to save: mask layers are cut to what they paint, and those that paint nothing are left out.
 * @param {Uint8Array} plane what `layers` render to
 */
export function toDocument(layers, height, width, plane) {
  return {
    schema: SCHEMA,
    height,
    width,
    layers: layers.map(layerToJson).filter((layer) => layer !== null),
    crc32: crc32(plane),
    counts: countValues(plane),
  };
}

/**
 * The layers of a saved document.
 * @throws {Error} with a sentence that says what is wrong with it
 */
export function fromDocument(json) {
  if (json?.schema !== SCHEMA) {
    throw new Error(t("annotation schema is {found}; this page reads {known}: reload the page", { found: json?.schema, known: SCHEMA }));
  }
  return { height: json.height, width: json.width, layers: json.layers.map(layerFromJson) };
}

/** @returns a mask layer that renders to `plane`, with `origin` ({src, by, ...}); null if nothing is labelled */
export function copyMask(plane, height, width, origin = {}) {
  const values = plane.map((value) => (value === UNLABELLED ? SEE_THROUGH : value));
  return trimmed(maskLayer({ rect: { row0: 0, col0: 0, row1: height, col1: width }, values, ...origin }));
}

/** @returns one mask layer that renders as `layers` do, in an array; no layer if nothing is labelled */
export function flatten(layers, height, width, origin = {}) {
  const layer = copyMask(render(layers, height, width), height, width, origin);
  return layer ? [layer] : [];
}

/** Joins neighbouring mask layers of one author and source; the rendering stays the same. */
export function mergeNeighbours(layers) {
  const merged = [];
  for (const layer of layers) {
    const below = merged.at(-1);
    const isJoined = below?.t === "mask" && layer.t === "mask" && below.by === layer.by && below.src === layer.src;
    if (isJoined) merged[merged.length - 1] = joined(below, layer);
    else merged.push(layer);
  }
  return merged;
}

/** @returns the mask layer cut to the box of what it paints; itself if nothing is cut, null if it paints nothing */
export function trimmed(layer) {
  const [row0, col0, height, width] = layer.box;
  const { values } = layer;
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let row = 0; row < height; row += 1) {
    const end = (row + 1) * width;
    let first = row * width;
    while (first < end && values[first] === SEE_THROUGH) first += 1;
    if (first === end) continue;
    let last = end - 1;
    while (values[last] === SEE_THROUGH) last -= 1;
    top = Math.min(top, row);
    bottom = row + 1;
    left = Math.min(left, first - row * width);
    right = Math.max(right, last + 1 - row * width);
  }
  if (top >= bottom) return null;
  if (bottom - top === height && right - left === width) return layer;
  const cut = new Uint8Array((bottom - top) * (right - left));
  for (let row = top; row < bottom; row += 1) {
    cut.set(values.subarray(row * width + left, row * width + right), (row - top) * (right - left));
  }
  return { ...layer, box: [row0 + top, col0 + left, bottom - top, right - left], values: cut };
}

function originOf({ id = newId(), by = "", at = new Date().toISOString(), src = "manual" }) {
  return { id, by, at, src };
}

function layerToJson(layer) {
  const { id, by, at, src } = layer;
  if (layer.t === "poly") {
    const rings = layer.rings.map((ring) => Array.from(ring));
    return { t: "poly", value: layer.value, keep: layer.keep, rings, id, by, at, src };
  }
  const mask = trimmed(layer);
  return mask && { t: "mask", box: mask.box, rle: encodeRuns(mask.values), id, by, at, src };
}

function layerFromJson({ t: type, id, by, at, src, ...layer }) {
  const origin = { id: id || newId(), by, at, src };
  if (type === "poly") return polygonLayer({ value: layer.value, keep: layer.keep, rings: layer.rings, ...origin });
  if (type !== "mask") throw new Error(t("a layer has type “{type}”; reload the page", { type }));
  const [row0, col0, height, width] = layer.box;
  const rect = { row0, col0, row1: row0 + height, col1: col0 + width };
  return maskLayer({ rect, values: decodeRuns(layer.rle, height * width), ...origin });
}

function encodeRuns(values) {
  const runs = [];
  let start = 0;
  for (let i = 1; i <= values.length; i += 1) {
    if (values[i] !== values[start]) {
      runs.push(i - start, values[start]);
      start = i;
    }
  }
  return runs;
}

function decodeRuns(runs, size) {
  const values = new Uint8Array(size);
  let end = 0;
  for (let i = 0; i < runs.length; i += 2) {
    values.fill(runs[i + 1], end, end + runs[i]);
    end += runs[i];
  }
  if (end !== size) throw new Error(t("a mask layer's runs cover {end} px of a box of {size} px; reload the tile", { end, size }));
  return values;
}

function countValues(plane) {
  const counts = new Uint32Array(256);
  for (const value of plane) counts[value] += 1;
  return Object.fromEntries([...counts.entries()].filter(([, count]) => count > 0));
}

/** The upper mask layer painted over the lower one, with a new id: neither is any more what was saved. */
function joined(lower, upper) {
  const ends = (layer) => [layer.box[0] + layer.box[2], layer.box[1] + layer.box[3]];
  const row0 = Math.min(lower.box[0], upper.box[0]);
  const col0 = Math.min(lower.box[1], upper.box[1]);
  const row1 = Math.max(ends(lower)[0], ends(upper)[0]);
  const col1 = Math.max(ends(lower)[1], ends(upper)[1]);
  const values = new Uint8Array((row1 - row0) * (col1 - col0)).fill(SEE_THROUGH);
  for (const { box, values: painted } of [lower, upper]) {
    for (let i = 0; i < painted.length; i += 1) {
      if (painted[i] === SEE_THROUGH) continue;
      const row = box[0] - row0 + Math.floor(i / box[3]);
      values[row * (col1 - col0) + box[1] - col0 + (i % box[3])] = painted[i];
    }
  }
  return maskLayer({ rect: { row0, col0, row1, col1 }, values, by: upper.by, at: upper.at, src: upper.src });
}
