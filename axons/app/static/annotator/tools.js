/** The tools: what a pointer at a place in the image does. Each is {down, move, up, cancel, draw, ...}; see `createTools`. */

import * as shapes from "./geometry.js";
import { polygonLayer } from "./layers.js";
import { boundsOf, intersection, regionOf } from "./r1.js";
import { countInside, fillRegion, unite, wand, without } from "./regions.js";
import { capsule } from "./strokes.js";
import { SUBPIXEL, UNLABELLED } from "./values.js";
import { t } from "../screens/words.js";

const HANDLE_PX = 9; // how near on the screen a pointer has to come to a vertex or an edge
const DRAG_PX = 4;
const MAX_OUTLINES_PX = 2048; // sides of the picture of all outlines
const FREEHAND_PX = 3; // on the screen, between vertices of a free-hand line
const SIMPLIFY_PX = 1; // on the screen: what a free-hand line may leave its pointer

/**
 * Tools by name. A pointer is {row, col, alt, shift, client} in image pixels, fractions kept.
 * @param {object} page {document, view, settings, selection, user, rgba, segments, say, changed}: `document` is the
 *   tile's at the moment, `settings` {value, brush, protect, mode, tolerance, segment, ...}
 */
export function createTools(page) {
  return {
    brush: brushTool(page, () => page.settings.value),
    eraser: brushTool(page, () => UNLABELLED),
    polygon: polygonTool(page),
    box: boxTool(page),
    select: selectTool(page),
    fill: fillTool(page),
    wand: wandTool(page),
    superpixel: superpixelTool(page),
  };
}

function keepOf(page, value) {
  return [...page.settings.protect].filter((kept) => kept !== value);
}

/** Paint what of a region is not protected; one part of the step that is open. */
function paint(page, region, value) {
  if (!region) return;
  const keep = new Set(keepOf(page, value));
  page.document.paint(keep.size ? without(region, page.document.plane, page.document.width, keep) : region, value);
}

function brushTool(page, valueOf) {
  let last = null; // where the last stroke has ended, in half pixels
  let isDown = false;
  let value = 0;

  function stroke(from, to) {
    const { height, width } = page.document;
    paint(page, capsule(...from, ...to, page.settings.brush, height, width), value);
  }

  /** A brush of one pixel covers none where it lies on a corner. */
  function placeOf(pointer) {
    return page.settings.brush > 0.5 ? inHalves(pointer) : pixelOf(pointer).map((place) => 2 * place + 1);
  }

  return {
    wantsEachMove: true,
    down(pointer) {
      isDown = true;
      value = pointer.alt ? UNLABELLED : valueOf();
      const here = placeOf(pointer);
      page.document.begin();
      stroke(pointer.shift && last ? last : here, here);
      last = here;
    },
    move(pointer) {
      if (!isDown) return;
      const here = placeOf(pointer);
      if (here[0] === last[0] && here[1] === last[1]) return;
      stroke(last, here);
      last = here;
    },
    up() {
      if (!isDown) return;
      isDown = false;
      if (page.document.commit()) page.changed();
    },
    cancel() {
      if (isDown) page.document.cancel();
      isDown = false;
    },
    leaveTile() {
      last = null;
    },
    draw(context, zoom, pointer) {
      if (!pointer) return;
      drawRing(context, zoom, pointer.col, pointer.row, page.settings.brush);
      if (pointer.shift && last && !isDown) drawLine(context, zoom, [last, inHalves(pointer)].map(([r, c]) => [r / 2, c / 2]));
    },
  };
}

function polygonTool(page) {
  let points = []; // [row16, col16] of the vertices so far
  let freehand = null;

  function finish(alt = false) {
    const drawn = points;
    points = [];
    freehand = null;
    page.view.ask();
    const mode = alt ? "subtract" : page.settings.mode;
    if (mode === "split") {
      if (drawn.length > 1) split(page, drawn);
    } else if (drawn.length > 2) {
      addRing(page, drawn, mode);
    } else if (drawn.length) {
      page.say(t("A polygon has at least three vertices."));
    }
  }

  function isAtStart(pointer) {
    if (points.length < 3) return false;
    const [row, col] = points[0];
    return Math.hypot(row / SUBPIXEL - pointer.row, col / SUBPIXEL - pointer.col) * page.view.zoom < HANDLE_PX;
  }

  return {
    wantsEachMove: true,
    down(pointer) {
      if (isAtStart(pointer)) finish(pointer.alt);
      else if (pointer.clicks > 1 && points.length > 2) finish(pointer.alt);
      else points.push(inSixteenths(pointer));
      freehand = pointer.shift ? [inSixteenths(pointer)] : null;
    },
    move(pointer) {
      if (!freehand) return;
      const here = inSixteenths(pointer);
      const [row, col] = freehand[freehand.length - 1];
      const distance = (Math.hypot(row - here[0], col - here[1]) / SUBPIXEL) * page.view.zoom;
      if (distance >= FREEHAND_PX) freehand.push(here);
    },
    up() {
      if (freehand?.length > 1) {
        const tolerance = (SIMPLIFY_PX * SUBPIXEL) / page.view.zoom;
        points.push(...pairs(shapes.simplify(flat(freehand), tolerance)).slice(1));
      }
      freehand = null;
    },
    finish,
    dropLast() {
      points.pop();
      page.view.ask();
      return points.length;
    },
    cancel() {
      points = [];
      freehand = null;
      page.view.ask();
    },
    get isBusy() { return points.length > 0; },
    draw(context, zoom, pointer) {
      const line = [...points, ...(freehand ?? []).slice(1)].map(toPixels);
      if (line.length && pointer && !freehand) line.push([pointer.row, pointer.col]);
      drawLine(context, zoom, line);
      for (const point of points) drawHandle(context, zoom, toPixels(point), false);
      if (pointer) drawCross(context, zoom, pointer);
    },
  };
}

function boxTool(page) {
  let start = null;
  let isClicked = false; // two clicks instead of a drag

  function finish(pointer) {
    const [row0, col0] = inSixteenths(start);
    const [row1, col1] = inSixteenths(pointer);
    start = null;
    isClicked = false;
    if (row0 === row1 || col0 === col1) return;
    const mode = pointer.alt ? "subtract" : page.settings.mode === "split" ? "new" : page.settings.mode;
    addRing(page, pairs(shapes.boxRing(row0, col0, row1, col1)), mode);
  }

  return {
    down(pointer) {
      if (isClicked) finish(pointer);
      else start = pointer;
    },
    move() {},
    up(pointer) {
      if (!start || isClicked) return;
      const [x, y] = start.client;
      if (Math.hypot(pointer.client[0] - x, pointer.client[1] - y) < DRAG_PX) isClicked = true;
      else finish(pointer);
    },
    cancel() {
      start = null;
      isClicked = false;
      page.view.ask();
    },
    get isBusy() { return start !== null; },
    draw(context, zoom, pointer) {
      if (!pointer) return;
      if (start) {
        const { row, col } = start;
        drawLine(context, zoom, [[row, col], [row, pointer.col], [pointer.row, pointer.col], [pointer.row, col], [row, col]]);
      }
      drawCross(context, zoom, pointer);
    },
  };
}

/** A polygon of its own, or one that is added to or taken from those that are selected or lie below. */
function addRing(page, points, mode) {
  const { document, settings, user } = page;
  const { height, width } = document;
  const ring = flat(points);
  const drawn = polygonLayer({
    value: settings.value, rings: [ring], keep: keepOf(page, settings.value), by: user.name, src: "manual",
  });
  if (!regionOf(drawn, height, width)) {
    page.say(t("The polygon covers no pixel of the tile."));
    return;
  }
  if (shapes.crossesItself(ring)) page.say(t("The outline crosses itself: where it does, inside and outside change places."));
  const touched = mode === "new" ? [] : targets(page, drawn, mode);
  if (!touched.length) {
    const layer = mode === "subtract" ? { ...drawn, value: UNLABELLED, keep: keepOf(page, UNLABELLED) } : drawn;
    page.document.changeLayers([...document.layers, layer]);
    page.selection.clear();
    page.selection.add(layer.id);
  } else {
    const change = mode === "add" ? shapes.uniteRing : shapes.subtractRing;
    replaceLayers(page, new Map(touched.map((layer) => [layer.id, change(layer, ring, height, width)])));
  }
  page.changed();
}

/** The polygons that a ring is added to or taken from: those selected, else the topmost one that it overlaps. */
function targets(page, drawn, mode) {
  const { document, selection, settings } = page;
  const { height, width } = document;
  const box = boundsOf(drawn, height, width);
  const isTouched = (layer) => {
    const bounds = layer.t === "poly" && boundsOf(layer, height, width);
    return bounds && intersection(bounds, box);
  };
  const selected = document.layers.filter((layer) => selection.has(layer.id) && layer.t === "poly");
  if (selected.length) return mode === "add" ? selected.slice(-1) : selected.filter(isTouched);
  const wanted = (layer) => isTouched(layer) && overlaps(layer, drawn, document)
    && (mode === "subtract" ? layer.value !== UNLABELLED : layer.value === settings.value);
  const top = document.layers.findLast(wanted);
  return top ? [top] : [];
}

function overlaps(a, b, { height, width }) {
  const first = regionOf(a, height, width);
  const second = regionOf(b, height, width);
  return first && second && countInside(unite(first, second)) < countInside(first) + countInside(second);
}

function split(page, line) {
  const { document, selection } = page;
  const { height, width } = document;
  const chosen = document.layers.filter((layer) => layer.t === "poly" && selection.has(layer.id));
  const parts = new Map();
  for (const layer of chosen.length ? chosen : document.layers.filter((one) => one.t === "poly")) {
    const pieces = shapes.splitLayer(layer, flat(line), height, width);
    if (pieces.length > 1) parts.set(layer.id, pieces);
  }
  if (!parts.size) {
    page.say(t("The line divides no polygon; begin and end it outside of one."));
    return;
  }
  replaceLayers(page, parts);
  page.changed();
}

/** Put other layers (one, several, or null for none) in the place of those with these ids. */
export function replaceLayers(page, replacements) {
  const next = [];
  for (const layer of page.document.layers) {
    if (!replacements.has(layer.id)) {
      next.push(layer);
      continue;
    }
    const others = [replacements.get(layer.id) ?? []].flat();
    if (page.selection.delete(layer.id)) for (const other of others) page.selection.add(other.id);
    next.push(...others);
  }
  page.document.changeLayers(next);
}

function selectTool(page) {
  let drag = null; // {layer, ring, vertex} or {layer, from}: what moves, and the layer as it was
  let ghost = null; // the layer as it would be
  let under = { key: "", depth: 0 };
  let outlines = { key: "", layers: null, canvas: null };

  function polygons() {
    return page.document.layers.filter((layer) => layer.t === "poly" && !page.view.hidden.has(layer.value));
  }

  /** The outlines of all polygons, from a picture while only the view moves: to stroke a thousand takes too long. */
  function drawOutlines(context, zoom) {
    const { layers, height, width } = page.document;
    const scale = context.getTransform().a;
    const draw = (target) => { for (const layer of polygons()) drawOutline(target, zoom, layer, "rgba(255, 220, 60, 0.8)"); };
    if (scale * Math.max(height, width) > MAX_OUTLINES_PX) { // then few of them are in sight
      draw(context);
      return;
    }
    const key = `${scale} ${[...page.view.hidden]}`;
    if (outlines.layers !== layers || outlines.key !== key) {
      const canvas = Object.assign(document.createElement("canvas"), { height: scale * height, width: scale * width });
      const picture = canvas.getContext("2d");
      picture.scale(scale, scale);
      draw(picture);
      outlines = { key, layers, canvas };
    }
    const { canvas } = outlines;
    context.drawImage(canvas, 0, 0, canvas.width / scale, canvas.height / scale);
  }

  function within16() {
    return (HANDLE_PX * SUBPIXEL) / page.view.zoom;
  }

  /** Polygons below the pointer, the topmost first. */
  function hits(pointer) {
    const [row, col] = inSixteenths(pointer);
    return polygons().filter((layer) => shapes.contains(layer, row, col)).reverse();
  }

  function choose(pointer, step) {
    const found = hits(pointer);
    const key = found.map((layer) => layer.id).join();
    under = { key, depth: key === under.key ? under.depth + step : 0 };
    const layer = found.length ? found[((under.depth % found.length) + found.length) % found.length] : null;
    if (!pointer.shift) page.selection.clear();
    if (layer && pointer.shift && page.selection.has(layer.id)) page.selection.delete(layer.id);
    else if (layer) page.selection.add(layer.id);
    page.selectionChanged(found.length);
    return layer;
  }

  function selected() {
    return polygons().filter((layer) => page.selection.has(layer.id));
  }

  function grabbed(pointer) {
    const [row, col] = inSixteenths(pointer);
    for (const layer of selected().reverse()) {
      const vertex = shapes.nearestVertex(layer, row, col, within16());
      if (vertex) return { layer, ...vertex };
      const edge = shapes.nearestEdge(layer, row, col, within16());
      if (edge && !pointer.alt) {
        const inserted = shapes.insertVertex(layer, edge.ring, edge.after, edge.row16, edge.col16);
        return { layer, inserted, ring: edge.ring, vertex: edge.after + 1 };
      }
    }
    return null;
  }

  function moved(pointer) {
    const [row, col] = inSixteenths(pointer);
    if (drag.vertex !== undefined) return shapes.moveVertex(drag.inserted ?? drag.layer, drag.ring, drag.vertex, row, col);
    const [fromRow, fromCol] = drag.from;
    // Whole pixels, so that moving changes no pixel of the shape.
    const whole = (distance) => Math.round(distance / SUBPIXEL) * SUBPIXEL;
    return shapes.translate(drag.layer, whole(row - fromRow), whole(col - fromCol));
  }

  return {
    down(pointer) {
      ghost = null;
      const grip = pointer.shift || page.isReadOnly ? null : grabbed(pointer);
      if (grip && pointer.alt) {
        const layer = shapes.removeVertex(grip.layer, grip.ring, grip.vertex);
        replaceLayers(page, new Map([[grip.layer.id, layer]]));
        page.changed();
        return;
      }
      if (grip) {
        drag = { ...grip, start: pointer.client };
        return;
      }
      const inside = hits(pointer).find((layer) => page.selection.has(layer.id));
      if (inside && !pointer.shift && !page.isReadOnly) drag = { layer: inside, from: inSixteenths(pointer), start: pointer.client, isMove: true };
      else choose(pointer, 0);
    },
    move(pointer) {
      if (!drag) return;
      const [x, y] = drag.start;
      if (ghost || Math.hypot(pointer.client[0] - x, pointer.client[1] - y) >= DRAG_PX) ghost = moved(pointer);
    },
    up(pointer) {
      const [dropped, layer] = [drag, ghost];
      drag = ghost = null;
      if (dropped && layer) {
        replaceLayers(page, new Map([[dropped.layer.id, layer]]));
        page.changed();
      } else if (dropped?.isMove) {
        choose(pointer, 0);
      }
    },
    /** Select the next polygon below the pointer. */
    cycle(step, pointer) {
      if (pointer) choose({ ...pointer, shift: false }, step);
    },
    cancel() {
      drag = ghost = null;
      if (page.selection.size) {
        page.selection.clear();
        page.selectionChanged(0);
      }
      page.view.ask();
    },
    get isBusy() { return drag !== null; },
    draw(context, zoom, pointer) {
      const chosen = new Set(selected());
      const hovered = pointer && !drag ? hits(pointer)[0] : null;
      drawOutlines(context, zoom);
      if (hovered && !chosen.has(hovered)) drawOutline(context, zoom, hovered, "#ffffff");
      for (const layer of chosen) {
        const seen = ghost && layer === drag?.layer ? ghost : layer;
        drawOutline(context, zoom, seen, "#ff3b3b");
        for (const ring of seen.rings) for (const point of pairs(ring)) drawHandle(context, zoom, toPixels(point), true);
      }
    },
  };
}

function fillTool(page) {
  return {
    down(pointer) {
      const { document, settings } = page;
      const [row, col] = pixelOf(pointer);
      if (!isInside(document, row, col)) return;
      const value = pointer.alt ? UNLABELLED : settings.value;
      document.begin();
      paint(page, fillRegion(document.plane, document.height, document.width, row, col), value);
      if (document.commit()) page.changed();
    },
    move() {},
    up() {},
    cancel() {},
    draw(context, zoom, pointer) {
      if (pointer) drawCross(context, zoom, pointer);
    },
  };
}

/** Press and drag away: the further, the more different colours belong to it. */
function wandTool(page) {
  let start = null;
  let region = null;
  let tolerance = 0;

  function look(pointer) {
    const { document, settings, rgba } = page;
    const away = Math.hypot(pointer.client[0] - start.client[0], pointer.client[1] - start.client[1]);
    tolerance = Math.min(255, Math.round(settings.tolerance + away / 2));
    region = wand(rgba(), document.height, document.width, ...start.pixel, tolerance);
    page.hint(region);
  }

  return {
    down(pointer) {
      const [row, col] = pixelOf(pointer);
      if (!isInside(page.document, row, col) || !page.rgba()) return;
      start = { client: pointer.client, pixel: [row, col], alt: pointer.alt };
      look(pointer);
    },
    move(pointer) {
      if (start) look(pointer);
    },
    up() {
      if (!start) return;
      const value = start.alt ? UNLABELLED : page.settings.value;
      page.document.begin();
      paint(page, region, value);
      this.cancel();
      if (page.document.commit()) page.changed();
    },
    cancel() {
      start = region = null;
      page.hint(null);
    },
    get isBusy() { return start !== null; },
    get tolerance() { return tolerance; },
    draw(context, zoom, pointer) {
      if (!pointer) return;
      drawCross(context, zoom, pointer);
      if (start) drawText(context, zoom, pointer, `± ${tolerance}`);
    },
  };
}

/** Whole segments are painted, those that the pointer comes over while it is pressed. */
function superpixelTool(page) {
  let painted = null; // labels that this stroke has painted
  let value = 0;
  let hovered = -1;

  function labelAt(pointer) {
    const [row, col] = pixelOf(pointer);
    const { labels } = page.segments() ?? {};
    return labels && isInside(page.document, row, col) ? labels[row * page.document.width + col] : -1;
  }

  function add(pointer) {
    const label = labelAt(pointer);
    if (label < 0 || painted.has(label)) return;
    painted.add(label);
    paint(page, page.segments().regionOf(label), value);
  }

  return {
    wantsEachMove: true,
    enter() {
      page.segments();
    },
    down(pointer) {
      if (!page.segments()) {
        page.say(t("The superpixels are being made; a moment."));
        return;
      }
      painted = new Set();
      value = pointer.alt ? UNLABELLED : page.settings.value;
      page.document.begin();
      add(pointer);
    },
    move(pointer) {
      if (painted) {
        add(pointer);
        return;
      }
      const label = labelAt(pointer);
      if (label === hovered) return;
      hovered = label;
      page.hint(label < 0 ? null : page.segments().regionOf(label));
    },
    up() {
      if (!painted) return;
      painted = null;
      if (page.document.commit()) page.changed();
    },
    cancel() {
      if (painted) page.document.cancel();
      painted = null;
      hovered = -1;
      page.hint(null);
    },
    draw(context, zoom, pointer) {
      if (pointer) drawCross(context, zoom, pointer);
    },
  };
}

function isInside({ height, width }, row, col) {
  return row >= 0 && col >= 0 && row < height && col < width;
}

function pixelOf({ row, col }) {
  return [Math.floor(row), Math.floor(col)];
}

function inHalves({ row, col }) {
  return [Math.round(row * 2), Math.round(col * 2)];
}

function inSixteenths({ row, col }) {
  return [Math.round(row * SUBPIXEL), Math.round(col * SUBPIXEL)];
}

function toPixels([row16, col16]) {
  return [row16 / SUBPIXEL, col16 / SUBPIXEL];
}

function flat(points) {
  return Int32Array.from(points.flat());
}

function pairs(ring) {
  return Array.from({ length: ring.length / 2 }, (_, i) => [ring[2 * i], ring[2 * i + 1]]);
}

/** White on black, so that it is seen on every picture. */
function strokeTwice(context, zoom, colour = "#ffffff") {
  for (const [style, width] of [["rgba(0, 0, 0, 0.8)", 3], [colour, 1.5]]) {
    context.strokeStyle = style;
    context.lineWidth = width / zoom;
    context.stroke();
  }
}

function drawRing(context, zoom, col, row, radius) {
  context.beginPath();
  context.arc(col, row, radius, 0, 2 * Math.PI);
  strokeTwice(context, zoom);
}

function drawLine(context, zoom, points) {
  if (points.length < 2) return;
  context.beginPath();
  for (const [row, col] of points) context.lineTo(col, row);
  strokeTwice(context, zoom);
}

function drawCross(context, zoom, { row, col }) {
  const arm = 7 / zoom;
  context.beginPath();
  context.moveTo(col - arm, row);
  context.lineTo(col + arm, row);
  context.moveTo(col, row - arm);
  context.lineTo(col, row + arm);
  strokeTwice(context, zoom);
}

function drawOutline(context, zoom, layer, colour) {
  context.beginPath();
  for (const ring of layer.rings) {
    for (let i = 0; i < ring.length; i += 2) {
      if (i) context.lineTo(ring[i + 1] / SUBPIXEL, ring[i] / SUBPIXEL);
      else context.moveTo(ring[1] / SUBPIXEL, ring[0] / SUBPIXEL);
    }
    context.closePath();
  }
  context.strokeStyle = colour;
  context.lineWidth = 1.5 / zoom;
  context.stroke();
}

function drawHandle(context, zoom, [row, col], isSquare) {
  const half = 4 / zoom;
  context.beginPath();
  if (isSquare) context.rect(col - half, row - half, 2 * half, 2 * half);
  else context.arc(col, row, half, 0, 2 * Math.PI);
  context.fillStyle = "#ffffff";
  context.fill();
  context.strokeStyle = "#000000";
  context.lineWidth = 1 / zoom;
  context.stroke();
}

function drawText(context, zoom, { row, col }, text) {
  context.font = `${13 / zoom}px system-ui, sans-serif`;
  context.lineWidth = 3 / zoom;
  context.strokeStyle = "#000000";
  context.fillStyle = "#ffffff";
  context.strokeText(text, col + 12 / zoom, row - 12 / zoom);
  context.fillText(text, col + 12 / zoom, row - 12 / zoom);
}
