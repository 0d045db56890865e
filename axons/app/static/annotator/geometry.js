/**
 * Polygons: finding and moving their vertices, and joining and dividing them. Coordinates are whole sixteenths of a
 * pixel; layers are never changed, new ones are made. What joins and divides works on pixels, so that the result
 * renders to exactly the pixels that were seen.
 */

import { polygonLayer } from "./layers.js";
import { countInside, framed, trim, unite, within } from "./regions.js";
import { regionOf } from "./r1.js";
import { SUBPIXEL, newId } from "./values.js";

const HALF = SUBPIXEL / 2;
/** How far an outline may run beside the middles of pixels' edges. */
const LARGEST_SHORTCUT = 24;
/** How far an ellipse's chords may lie inside it. */
const SAGITTA = 2;
/** Links from a pixel to its neighbours east, south, south-east and south-west: rows and columns. */
const LINKS = [
  [0, 1],
  [1, 0],
  [1, 1],
  [1, -1],
];

/** Whether a point lies inside the rings by the even-odd rule, as R1 tests it. */
export function contains(layer, row16, col16) {
  let isInside = false;
  for (const ring of layer.rings) {
    for (const edge of edges(ring)) {
      const [row0, , row1] = edge;
      const isBetween = row0 <= row16 !== row1 <= row16;
      if (isBetween && side(edge, row16, col16) * (row1 - row0) >= 0) isInside = !isInside;
    }
  }
  return isInside;
}

/** @returns {{ring: number, vertex: number} | null} the nearest vertex, if it lies within `within16` */
export function nearestVertex(layer, row16, col16, within16) {
  let nearest = null;
  let least = within16 ** 2;
  layer.rings.forEach((points, ring) => {
    for (let vertex = 0; 2 * vertex < points.length; vertex += 1) {
      const distance = (points[2 * vertex] - row16) ** 2 + (points[2 * vertex + 1] - col16) ** 2;
      if (distance <= least) {
        least = distance;
        nearest = { ring, vertex };
      }
    }
  });
  return nearest;
}

/**
 * The nearest point of an outline, if it lies within `within16`.
 * @returns {{ring: number, after: number, row16: number, col16: number} | null} the edge starts at vertex `after`
 */
export function nearestEdge(layer, row16, col16, within16) {
  let nearest = null;
  let least = within16 ** 2;
  layer.rings.forEach((points, ring) => {
    edges(points).forEach((edge, after) => {
      const [row, col] = footOn(edge, row16, col16);
      const distance = (row - row16) ** 2 + (col - col16) ** 2;
      if (distance <= least) {
        least = distance;
        nearest = { ring, after, row16: Math.round(row), col16: Math.round(col) };
      }
    });
  });
  return nearest;
}

export function moveVertex(layer, ring, vertex, row16, col16) {
  return withPoints(layer, ring, 2 * vertex, 2, row16, col16);
}

/** The layer with a new vertex behind vertex `after` of a ring. */
export function insertVertex(layer, ring, after, row16, col16) {
  return withPoints(layer, ring, 2 * after + 2, 0, row16, col16);
}

/** The layer without a vertex: a ring of three goes as a whole, and with the last ring the layer (null). */
export function removeVertex(layer, ring, vertex) {
  if (layer.rings[ring].length > 6) return withPoints(layer, ring, 2 * vertex, 2);
  const rings = layer.rings.filter((_, i) => i !== ring);
  return rings.length > 0 ? { ...layer, rings } : null;
}

export function translate(layer, rows16, cols16) {
  const rings = layer.rings.map((ring) => ring.map((number, i) => number + (i % 2 ? cols16 : rows16)));
  return { ...layer, rings };
}

/** The layer with one ring more: by the even-odd rule, what lies inside it is turned over. */
export function addRing(layer, ring) {
  return { ...layer, rings: [...layer.rings, Int32Array.from(ring)] };
}

/**
 * A line with fewer points, none of which is left out unless it lies within `tolerance16` of the result.
 * @param {ArrayLike<number>} points16 row, column, row, column, ...; both ends stay
 */
export function simplify(points16, tolerance16) {
  return reduced(Int32Array.from(points16), (stretch, distance2) => distance2 <= tolerance16 ** 2);
}

export function boxRing(row0, col0, row1, col1) {
  return Int32Array.of(row0, col0, row0, col1, row1, col1, row1, col0);
}

/** Whether two edges of the ring cross; edges that only touch do not. */
export function crossesItself(ring) {
  const all = edges(ring);
  return all.some((a, i) => {
    const isLast = i === 0 ? all.length - 1 : all.length;
    for (let k = i + 2; k < isLast; k += 1) if (isCrossing(a, all[k])) return true;
    return false;
  });
}

/** Rings along the pixels' edges around the 4-connected pieces of a region, and around their holes. */
export function trace(region) {
  const { rect, inside } = framed(region, 1);
  const cols = rect.col1 - rect.col0;
  const isTraced = new Uint8Array(inside.length);
  const rings = [];
  for (let i = cols; i < inside.length; i += 1) {
    // Each ring has an edge with the region below it and its outside above.
    if (!inside[i] || inside[i - cols] || isTraced[i]) continue;
    const corners = follow(inside, cols, i, isTraced);
    rings.push(Int32Array.from(corners, (corner, k) => SUBPIXEL * (corner + (k % 2 ? rect.col0 : rect.row0))));
  }
  return rings;
}

/** Rings with few vertices, through the middles of pixels' edges, that R1 renders to exactly the region. */
export function outline(region) {
  return trace(region).map((ring) => {
    const points = edges(ring).flatMap(([row0, col0, row1, col1]) => {
      const rows = HALF * Math.sign(row1 - row0);
      const cols = HALF * Math.sign(col1 - col0);
      return [row0 + rows, col0 + cols, row1 - rows, col1 - cols];
    });
    return reduced(Int32Array.of(...points, points[0], points[1]), isLossless).subarray(0, -2);
  });
}

/**
 * One polygon that covers what the polygons cover, with the value that covers most; null where that is no pixel.
 * Polygons that do not overlap keep their vertices.
 */
export function uniteLayers(layers, height, width, origin = {}) {
  const sizes = new Map();
  for (const layer of layers) {
    const region = regionOf(layer, height, width);
    if (region) sizes.set(layer.value, (sizes.get(layer.value) ?? 0) + countInside(region));
  }
  if (sizes.size === 0) return null;
  const [value] = [...sizes].reduce((most, next) => (next[1] > most[1] ? next : most));
  const first = layers.find((layer) => layer.value === value);
  const united = layers.reduce((sum, layer) => uniteRings(sum, layer.rings, height, width), { ...first, rings: [] });
  return polygonLayer({ value, keep: first.keep, rings: united.rings, ...origin });
}

/** The polygon and what lies inside a ring. */
export function uniteRing(layer, ring, height, width) {
  return uniteRings(layer, [ring], height, width);
}

/** The polygon without what lies inside a ring: a hole where the polygon is all around it; null if nothing is left. */
export function subtractRing(layer, ring, height, width) {
  const region = regionOf({ t: "poly", rings: [ring] }, height, width);
  const own = regionOf(layer, height, width);
  if (!region || !own) return layer;
  const shared = countShared(own, region);
  if (shared === 0) return layer;
  if (shared === countInside(region) && shared < countInside(own)) return addRing(layer, ring);
  return subtractRegion(layer, region, height, width);
}

export function addRegion(layer, region, height, width) {
  return { ...layer, rings: outline(unite(regionOf(layer, height, width), region)) };
}

/** The polygon without the pixels of a region; null if nothing is left. */
export function subtractRegion(layer, region, height, width) {
  const own = regionOf(layer, height, width);
  if (!own) return null;
  const { inside } = within(region, own.rect);
  const left = { rect: own.rect, inside: own.inside.map((isInside, i) => isInside && 1 - inside[i]) };
  return left.inside.includes(1) ? { ...layer, rings: outline(left) } : null;
}

/**
 * The parts into which an open line divides a polygon: each pixel of it is in exactly one. The first part is the
 * largest, with the layer's id and with pieces that the line leaves whole; [layer] if nothing is divided.
 */
export function splitLayer(layer, line, height, width) {
  const own = regionOf(layer, height, width);
  if (!own) return [layer];
  const region = framed(own, 1);
  const whole = pieces(region, new Uint8Array(region.inside.length));
  const divided = pieces(region, cuts(region, line));
  if (divided.length === whole.length) return [layer];
  const isWhole = (piece) => whole.some((other) => other[0] === piece[0] && other.length === piece.length);
  const parts = divided.filter((piece) => !isWhole(piece)).sort((a, b) => b.length - a.length);
  parts[0] = [...parts[0], ...divided.filter(isWhole).flat()];
  return parts.map((pixels, i) => {
    const inside = new Uint8Array(region.inside.length);
    for (const pixel of pixels) inside[pixel] = 1;
    return { ...layer, id: i === 0 ? layer.id : newId(), rings: outline(trim({ rect: region.rect, inside })) };
  });
}

function uniteRings(layer, rings, height, width) {
  const region = regionOf({ t: "poly", rings }, height, width);
  const own = regionOf(layer, height, width);
  if (!region) return layer;
  if (!own || countShared(own, region) === 0) return { ...layer, rings: [...layer.rings, ...rings] };
  return addRegion(layer, region, height, width);
}

/**
 * A line without the points between the ends of stretches that may be straight.
 * Source: Douglas and Peucker, Cartographica 10(2), 1973, doi:10.3138/FM57-6770-U75U-7727.
 * @param {(stretch: Int32Array, distance2: number) => boolean} mayBeStraight is told how far, squared, a point would be
 */
function reduced(points, mayBeStraight) {
  const last = points.length / 2 - 1;
  const isKept = new Uint8Array(last + 1);
  isKept[0] = isKept[last] = 1;
  const stack = [[0, last]];
  while (stack.length > 0) {
    const [start, end] = stack.pop();
    const chord = [...pointAt(points, start), ...pointAt(points, end)];
    let farthest = -1;
    let middle = 0;
    for (let i = start + 1; i < end; i += 1) {
      const [row, col] = footOn(chord, points[2 * i], points[2 * i + 1]);
      const distance2 = (row - points[2 * i]) ** 2 + (col - points[2 * i + 1]) ** 2;
      if (distance2 > farthest) [farthest, middle] = [distance2, i];
    }
    if (middle === 0 || mayBeStraight(points.subarray(2 * start, 2 * end + 2), farthest)) continue;
    isKept[middle] = 1;
    stack.push([start, middle], [middle, end]);
  }
  return points.filter((_, i) => isKept[i >> 1]);
}

/** Whether no centre of a pixel lies between a stretch and its chord: by the even-odd rule, just those would change. */
function isLossless(stretch, distance2) {
  return distance2 <= LARGEST_SHORTCUT ** 2 && !regionOf({ t: "poly", rings: [stretch] }, Infinity, Infinity);
}

function countShared(a, b) {
  const { inside } = within(b, a.rect);
  return inside.reduce((count, isInside, i) => count + (isInside & a.inside[i]), 0);
}

/** The layer with some numbers of a ring replaced. */
function withPoints(layer, ring, start, count, ...numbers) {
  const points = Array.from(layer.rings[ring]);
  points.splice(start, count, ...numbers);
  return { ...layer, rings: layer.rings.map((other, i) => (i === ring ? Int32Array.from(points) : other)) };
}

function pointAt(points, i) {
  return [points[2 * i], points[2 * i + 1]];
}

/** Each edge as [row0, col0, row1, col1]; edge i starts at vertex i. */
function edges(ring) {
  const count = ring.length / 2;
  return Array.from({ length: count }, (_, i) => [...pointAt(ring, i), ...pointAt(ring, (i + 1) % count)]);
}

/** The point of an edge that is nearest to (row, col). */
function footOn([row0, col0, row1, col1], row, col) {
  const length2 = (row1 - row0) ** 2 + (col1 - col0) ** 2;
  const along = length2 === 0 ? 0 : ((row - row0) * (row1 - row0) + (col - col0) * (col1 - col0)) / length2;
  const share = Math.min(Math.max(along, 0), 1);
  return [row0 + share * (row1 - row0), col0 + share * (col1 - col0)];
}

/** Above zero on one side of the line through an edge, below on the other. */
function side([row0, col0, row1, col1], row, col) {
  return (row1 - row0) * (col - col0) - (col1 - col0) * (row - row0);
}

function isCrossing(a, b) {
  return side(a, b[0], b[1]) * side(a, b[2], b[3]) < 0 && side(b, a[0], a[1]) * side(b, a[2], a[3]) < 0;
}

/**
 * Follows the outline from the upper edge of pixel `start` with the region to the right, and marks the upper edges
 * that it passes. Returns its corners in pixels.
 */
function follow(inside, cols, start, isTraced) {
  const forward = [1, cols, -1, -cols]; // east, south, west, north
  // Of a corner's index: the pixels ahead on the left and on the right, in each direction.
  const left = [-cols, 0, -1, -cols - 1];
  const right = [0, -1, -cols - 1, -cols];
  const corners = [];
  let direction = 0;
  let corner = start;
  do {
    if (direction === 0) isTraced[corner] = 1;
    corner += forward[direction];
    const isRight = inside[corner + right[direction]];
    // Pixels that only touch at a corner are kept apart: right before left.
    const turn = !isRight ? 1 : inside[corner + left[direction]] ? 3 : 0;
    if (turn !== 0) corners.push(Math.floor(corner / cols), corner % cols);
    direction = (direction + turn) % 4;
  } while (corner !== start || direction !== 0);
  return corners;
}

/** For each pixel, which of its `LINKS` the line crosses: bit k for link k. */
function cuts({ rect, inside }, line) {
  const cols = rect.col1 - rect.col0;
  const crossed = new Uint8Array(inside.length);
  for (let i = 0; i + 3 < line.length; i += 2) {
    const stretch = [line[i], line[i + 1], line[i + 2], line[i + 3]];
    const [top, bottom] = pixelsNear(line[i], line[i + 2], rect.row0, rect.row1);
    const [left, right] = pixelsNear(line[i + 1], line[i + 3], rect.col0, rect.col1);
    for (let row = top; row < bottom; row += 1) {
      for (let col = left; col < right; col += 1) {
        const pixel = (row - rect.row0) * cols + col - rect.col0;
        // A line that crosses a link twice leaves both ends on one side.
        if (inside[pixel]) crossed[pixel] ^= crossedLinks(stretch, SUBPIXEL * row + HALF, SUBPIXEL * col + HALF);
      }
    }
  }
  return crossed;
}

function pixelsNear(a16, b16, first, end) {
  return [
    Math.max(Math.floor(Math.min(a16, b16) / SUBPIXEL) - 2, first),
    Math.min(Math.floor(Math.max(a16, b16) / SUBPIXEL) + 3, end),
  ];
}

function crossedLinks(stretch, row, col) {
  const isOver = side(stretch, row, col) >= 0; // a point on the line counts to one side, so that none slips through
  return LINKS.reduce((bits, [rows, cols], k) => {
    const link = [row, col, row + SUBPIXEL * rows, col + SUBPIXEL * cols];
    const isCrossed =
      side(stretch, link[2], link[3]) >= 0 !== isOver &&
      side(link, stretch[0], stretch[1]) >= 0 !== side(link, stretch[2], stretch[3]) >= 0;
    return isCrossed ? bits | (1 << k) : bits;
  }, 0);
}

/** The 8-connected pieces of a framed region along links that are not crossed: indices, from the first pixel on. */
function pieces({ rect, inside }, crossed) {
  const steps = LINKS.map(([rows, cols]) => rows * (rect.col1 - rect.col0) + cols);
  const left = inside.slice();
  const found = [];
  for (let start = left.indexOf(1); start >= 0; start = left.indexOf(1, start + 1)) {
    const piece = [start];
    left[start] = 0;
    const add = (pixel, isCrossed) => {
      if (!left[pixel] || isCrossed) return;
      left[pixel] = 0;
      piece.push(pixel);
    };
    for (let done = 0; done < piece.length; done += 1) {
      const pixel = piece[done];
      for (let k = 0; k < steps.length; k += 1) {
        add(pixel + steps[k], (crossed[pixel] >> k) & 1);
        add(pixel - steps[k], (crossed[pixel - steps[k]] >> k) & 1);
      }
    }
    found.push(piece);
  }
  return found;
}
