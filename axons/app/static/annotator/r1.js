/**
 * Rule R1, the same as `render` in axons/data/layers.py byte for byte: start with 255; each layer in order writes its
 * value on the pixels it covers. A polygon covers the pixels whose centre lies inside its rings (even-odd); an edge
 * reaches from its upper end down to just above its lower end. Values in the polygon's `keep` stay as they are.
 */

import { SEE_THROUGH, SUBPIXEL, UNLABELLED } from "./values.js";

const CENTRE = SUBPIXEL / 2;
const SHORT_RUN = 24;

/** Pixels that a polygon may cover; its rings never change. */
const polygonBounds = new WeakMap();
const isKept = new Uint8Array(256);
let crossings = new Int32Array(1 << 14);

/** @returns {Uint8Array} plane of height * width values */
export function render(layers, height, width) {
  const plane = new Uint8Array(height * width);
  renderRect(plane, layers, height, width, { row0: 0, col0: 0, row1: height, col1: width });
  return plane;
}

/** Paints the layers anew inside `rect` (clipped to the tile) and leaves the rest of the plane. */
export function renderRect(plane, layers, height, width, rect) {
  const inTile = intersection(rect, { row0: 0, col0: 0, row1: height, col1: width });
  if (!inTile) return;
  for (let row = inTile.row0; row < inTile.row1; row += 1) {
    plane.fill(UNLABELLED, row * width + inTile.col0, row * width + inTile.col1);
  }
  for (const layer of layers) {
    const clip = intersection(unclippedBounds(layer), inTile);
    if (clip && layer.t === "poly") paintPolygon(plane, width, layer, clip);
    else if (clip) paintMask(plane, width, layer, clip);
  }
}

/** @returns the smallest known rect around what the layer covers in the tile, or null */
export function boundsOf(layer, height, width) {
  return intersection(unclippedBounds(layer), { row0: 0, col0: 0, row1: height, col1: width });
}

/** @returns the pixels that a polygon covers, whatever it keeps, as a region; null where that is no pixel */
export function regionOf(layer, height, width) {
  const rect = boundsOf(layer, height, width);
  if (!rect) return null;
  const cols = rect.col1 - rect.col0;
  const inside = new Uint8Array((rect.row1 - rect.row0) * cols);
  const ends = runs(layer.rings, rect, 0, cols);
  for (let i = 0; i < ends.length; i += 2) inside.fill(1, ends[i], ends[i + 1]);
  return inside.includes(1) ? { rect, inside } : null;
}

/** @returns the rect that two rects share, or null */
export function intersection(a, b) {
  const row0 = Math.max(a.row0, b.row0);
  const row1 = Math.min(a.row1, b.row1);
  const col0 = Math.max(a.col0, b.col0);
  const col1 = Math.min(a.col1, b.col1);
  return row0 < row1 && col0 < col1 ? { row0, col0, row1, col1 } : null;
}

function unclippedBounds(layer) {
  if (layer.t === "mask") {
    const [row0, col0, height, width] = layer.box;
    return { row0, col0, row1: row0 + height, col1: col0 + width };
  }
  let bounds = polygonBounds.get(layer);
  if (!bounds) polygonBounds.set(layer, (bounds = boundsOfRings(layer.rings)));
  return bounds;
}

function boundsOfRings(rings) {
  const bounds = { row0: Infinity, col0: Infinity, row1: -Infinity, col1: -Infinity };
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      const row = firstCentre(ring[i]);
      const col = firstCentre(ring[i + 1]);
      bounds.row0 = Math.min(bounds.row0, row);
      bounds.row1 = Math.max(bounds.row1, row);
      bounds.col0 = Math.min(bounds.col0, col);
      bounds.col1 = Math.max(bounds.col1, col);
    }
  }
  return bounds;
}

/** The first row or column whose centre lies at or after a coordinate in sixteenths. */
function firstCentre(coordinate) {
  return (coordinate + CENTRE - 1) >> 4;
}

function paintPolygon(plane, width, layer, clip) {
  const { value, keep } = layer;
  const ends = runs(layer.rings, clip, clip.row0 * width + clip.col0, width);
  for (const kept of keep) isKept[kept] = 1;
  for (let i = 0; i < ends.length; i += 2) {
    const start = ends[i];
    const end = ends[i + 1];
    if (keep.length) {
      for (let k = start; k < end; k += 1) if (!isKept[plane[k]]) plane[k] = value;
    } else if (end - start < SHORT_RUN) {
      for (let k = start; k < end; k += 1) plane[k] = value;
    } else {
      plane.fill(value, start, end);
    }
  }
  for (const kept of keep) isKept[kept] = 0;
}

function paintMask(plane, width, layer, clip) {
  const [row0, col0, , cols] = layer.box;
  const { values } = layer;
  for (let row = clip.row0; row < clip.row1; row += 1) {
    const shift = (row - row0) * cols - col0 - row * width;
    for (let k = row * width + clip.col0; k < row * width + clip.col1; k += 1) {
      const value = values[k + shift];
      if (value !== SEE_THROUGH) plane[k] = value;
    }
  }
}

/**
 * The runs of pixels inside `rings` and `clip`: [start, end, start, end, ...], half-open, valid until the next call.
 * They index an array with rows of `width`, in which the first pixel of `clip` is at `origin`.
 */
function runs(rings, clip, origin, width) {
  const stride = clip.col1 - clip.col0 + 1;
  let count = 0;
  for (const ring of rings) count = cross(ring, clip, stride, count);
  const ends = crossings.subarray(0, count).sort();
  for (let i = 0; i < count; i += 1) {
    const row = Math.floor(ends[i] / stride);
    ends[i] += origin + row * (width - stride);
  }
  return ends;
}

/** Writes where the edges of `ring` cross the lines through pixel centres into `crossings`, from `count` on. */
function cross(ring, clip, stride, count) {
  let row0 = ring[ring.length - 2];
  let col0 = ring[ring.length - 1];
  for (let i = 0; i < ring.length; i += 2) {
    const row1 = ring[i];
    const col1 = ring[i + 1];
    const first = Math.max(firstCentre(Math.min(row0, row1)), clip.row0);
    const end = Math.min(firstCentre(Math.max(row0, row1)), clip.row1);
    if (first < end) {
      reserve(count + end - first);
      // column = ceil(numerator / den). All numbers stay below 2**53 and a quotient that is not whole is at least
      // 2**-23 away from the next whole number, so doubles give the exact answer.
      const den = SUBPIXEL * (row1 - row0);
      const slope = SUBPIXEL * (col1 - col0);
      let numerator = (col0 - CENTRE) * (row1 - row0) + (CENTRE - row0) * (col1 - col0) + first * slope;
      for (let row = first; row < end; row += 1) {
        const col = Math.min(Math.max(Math.ceil(numerator / den), clip.col0), clip.col1);
        crossings[count] = (row - clip.row0) * stride + col - clip.col0;
        count += 1;
        numerator += slope;
      }
    }
    row0 = row1;
    col0 = col1;
  }
  return count;
}

function reserve(count) {
  if (count <= crossings.length) return;
  const larger = new Int32Array(2 * count);
  larger.set(crossings);
  crossings = larger;
}
