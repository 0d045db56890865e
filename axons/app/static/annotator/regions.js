/**
 * Regions: the pixels that a tool has chosen, {rect, inside}. What looks for pixels gives null where there are none;
 * what changes a region gives a region, even one with nothing inside.
 */

import { intersection } from "./r1.js";

const OUTSIDE = 0;
const CANDIDATE = 1;
const REACHED = 2;

/** @returns the 4-connected pixels around (row, col) that have its value */
export function fillRegion(plane, height, width, row, col) {
  return flooded(pixelsEqual(plane, plane[row * width + col]), height, width, row * width + col, 0);
}

/** @returns the 8-connected pixels around (row, col) that have its value: what looks like one piece */
export function part(plane, height, width, row, col) {
  return flooded(pixelsEqual(plane, plane[row * width + col]), height, width, row * width + col, 1);
}

/**
 * The 4-connected pixels around (row, col) whose red, green and blue each differ from that pixel's by at most
 * `tolerance` (0 to 255). A larger tolerance, or radius, never loses a pixel.
 * @param {Uint8ClampedArray} rgba height * width * 4 bytes
 * @param {number} radius px around (row, col) that the region does not leave
 */
export function wand(rgba, height, width, row, col, tolerance, radius = Infinity) {
  const start = row * width + col;
  const [red, green, blue] = rgba.subarray(4 * start, 4 * start + 3);
  const match = new Uint8Array(height * width);
  for (let r = Math.max(0, Math.ceil(row - radius)); r <= Math.min(height - 1, row + radius); r += 1) {
    const reach = radius === Infinity ? width : Math.floor(Math.sqrt(radius ** 2 - (r - row) ** 2));
    const end = r * width + Math.min(width, col + reach + 1);
    for (let i = r * width + Math.max(0, col - reach); i < end; i += 1) {
      const isNear =
        Math.abs(rgba[4 * i] - red) <= tolerance &&
        Math.abs(rgba[4 * i + 1] - green) <= tolerance &&
        Math.abs(rgba[4 * i + 2] - blue) <= tolerance;
      if (isNear) match[i] = CANDIDATE;
    }
  }
  return flooded(match, height, width, start, 0);
}

/** @returns the pixels of `value` in `rect` (the whole tile if it is not given), or null */
export function withValue(plane, height, width, value, rect = { row0: 0, col0: 0, row1: height, col1: width }) {
  const cols = rect.col1 - rect.col0;
  const inside = new Uint8Array((rect.row1 - rect.row0) * cols);
  for (let row = rect.row0; row < rect.row1; row += 1) {
    for (let col = rect.col0; col < rect.col1; col += 1) {
      if (plane[row * width + col] === value) inside[(row - rect.row0) * cols + col - rect.col0] = 1;
    }
  }
  return trim({ rect, inside });
}

/** The pixels of either region; either may be null. */
export function unite(a, b) {
  if (!a || !b) return a ?? b;
  const united = within(a, {
    row0: Math.min(a.rect.row0, b.rect.row0),
    col0: Math.min(a.rect.col0, b.rect.col0),
    row1: Math.max(a.rect.row1, b.rect.row1),
    col1: Math.max(a.rect.col1, b.rect.col1),
  });
  const cols = united.rect.col1 - united.rect.col0;
  const shift = (b.rect.row0 - united.rect.row0) * cols + b.rect.col0 - united.rect.col0;
  const colsOfB = b.rect.col1 - b.rect.col0;
  for (let i = 0; i < b.inside.length; i += 1) {
    if (b.inside[i]) united.inside[shift + Math.floor(i / colsOfB) * cols + (i % colsOfB)] = 1;
  }
  return united;
}

/** The region without the pixels whose value in `plane` is one of `keepValues`. */
export function without(region, plane, width, keepValues) {
  const { row0, col0, col1 } = region.rect;
  const cols = col1 - col0;
  const inside = region.inside.map((isInside, i) => {
    const value = plane[(row0 + Math.floor(i / cols)) * width + col0 + (i % cols)];
    return isInside && !keepValues.has(value) ? 1 : 0;
  });
  return { rect: region.rect, inside };
}

export function countInside(region) {
  let count = 0;
  for (const isInside of region.inside) count += isInside;
  return count;
}

/** The same pixels in the smallest rect; null if there is none. */
export function trim({ rect, inside }) {
  const cols = rect.col1 - rect.col0;
  let [row0, row1, col0, col1] = [Infinity, 0, Infinity, 0];
  for (let row = 0; row < rect.row1 - rect.row0; row += 1) {
    const line = inside.subarray(row * cols, (row + 1) * cols);
    const first = line.indexOf(1);
    if (first < 0) continue;
    row0 = Math.min(row0, row);
    row1 = row + 1;
    col0 = Math.min(col0, first);
    col1 = Math.max(col1, line.lastIndexOf(1) + 1);
  }
  if (row1 === 0) return null;
  const box = { row0: rect.row0 + row0, col0: rect.col0 + col0, row1: rect.row0 + row1, col1: rect.col0 + col1 };
  return within({ rect, inside }, box);
}

/** The region cut or widened to another rect. */
export function within(region, rect) {
  const from = region.rect;
  const cols = rect.col1 - rect.col0;
  const inside = new Uint8Array((rect.row1 - rect.row0) * cols);
  const col0 = Math.max(from.col0, rect.col0);
  const col1 = Math.min(from.col1, rect.col1);
  for (let row = Math.max(from.row0, rect.row0); row < Math.min(from.row1, rect.row1) && col0 < col1; row += 1) {
    const start = (row - from.row0) * (from.col1 - from.col0) - from.col0;
    inside.set(region.inside.subarray(start + col0, start + col1), (row - rect.row0) * cols + col0 - rect.col0);
  }
  return { rect, inside };
}

/** The region in a rect that is larger by `margin` px on each side. */
export function framed(region, margin) {
  const { row0, col0, row1, col1 } = region.rect;
  const rect = { row0: row0 - margin, col0: col0 - margin, row1: row1 + margin, col1: col1 + margin };
  return within(region, rect);
}

function pixelsEqual(plane, value) {
  const match = new Uint8Array(plane.length);
  for (let i = 0; i < plane.length; i += 1) if (plane[i] === value) match[i] = CANDIDATE;
  return match;
}

/** The region that a flood from `start` reaches; see `flood`. */
function flooded(match, height, width, start, reach) {
  const { spans, ...rect } = flood(match, height, width, start, reach);
  const cols = rect.col1 - rect.col0;
  const inside = new Uint8Array((rect.row1 - rect.row0) * cols);
  for (let i = 0; i < spans.length; i += 2) {
    const row = Math.floor(spans[i] / width);
    const shift = (row - rect.row0) * cols - rect.col0 - row * width;
    inside.fill(1, spans[i] + shift, spans[i + 1] + shift);
  }
  return { rect, inside };
}

/**
 * Marks the candidates in `match` that are connected with `start` as reached.
 * @param {0 | 1} reach 0 for 4-connected pixels, 1 for 8-connected ones
 * @returns their runs in rows, [start, end, ...], and their rect
 */
function flood(match, height, width, start, reach) {
  const found = { spans: [], row0: Infinity, col0: Infinity, row1: 0, col1: 0 };
  const stack = [start];
  while (stack.length > 0) {
    let left = stack.pop();
    if (match[left] !== CANDIDATE) continue;
    const row = Math.floor(left / width);
    const begin = row * width;
    let right = left + 1;
    while (left > begin && match[left - 1] === CANDIDATE) left -= 1;
    while (right < begin + width && match[right] === CANDIDATE) right += 1;
    match.fill(REACHED, left, right);
    found.spans.push(left, right);
    found.row0 = Math.min(found.row0, row);
    found.row1 = Math.max(found.row1, row + 1);
    found.col0 = Math.min(found.col0, left - begin);
    found.col1 = Math.max(found.col1, right - begin);
    const from = Math.max(left - reach, begin);
    const to = Math.min(right + reach, begin + width);
    if (row > 0) pushStarts(match, from - width, to - width, stack);
    if (row < height - 1) pushStarts(match, from + width, to + width, stack);
  }
  return found;
}

/** Pushes the first candidate of each run between `from` and `to`. */
function pushStarts(match, from, to, stack) {
  let before = OUTSIDE;
  for (let i = from; i < to; i += 1) {
    if (match[i] === CANDIDATE && before !== CANDIDATE) stack.push(i);
    before = match[i];
  }
}

