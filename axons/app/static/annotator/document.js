/** The labels of one tile while they are edited: layers, their plane, and what undo needs. */

import { crc32 } from "./crc32.js";
import { maskLayer, toDocument } from "./layers.js";
import { boundsOf, renderRect } from "./r1.js";
import { SEE_THROUGH, UNLABELLED } from "./values.js";

const MOST_STEPS = 300;

/**
 * Strokes go into the top mask layer if this session made it, else into a new one; polygons open a new place above.
 * A step is what one undo takes back; painting between `begin` and `commit` is one step.
 * @param {{height: number, width: number, by: string, onChange?: (rect: object) => void}} options
 */
export function createDocument({ height, width, by, onChange = () => {} }) {
  const whole = { row0: 0, col0: 0, row1: height, col1: width };
  const own = new Set(); // ids of mask layers that this session may paint on
  const counts = new Uint32Array(256);
  const plane = new Uint8Array(height * width).fill(UNLABELLED);
  let layers = [];
  let undoSteps = [];
  let redoSteps = [];
  let open = null; // the step that is being made
  let revision = 0;
  let changeNumber = 0;
  let checksum = null;
  counts[UNLABELLED] = height * width;

  function changed(rect) {
    checksum = null;
    if (rect) onChange(rect);
  }

  function count(rect, sign) {
    for (let row = rect.row0; row < rect.row1; row++) {
      for (let i = row * width + rect.col0, end = row * width + rect.col1; i < end; i++) counts[plane[i]] += sign;
    }
  }

  function renderAgain(rect) {
    if (!rect) return;
    count(rect, -1);
    renderRect(plane, layers, height, width, rect);
    count(rect, 1);
    changed(rect);
  }

  function setStack(next) {
    const before = new Set(layers);
    const after = new Set(next);
    let dirty = null;
    for (const layer of layers) if (!after.has(layer)) dirty = around(dirty, boundsOf(layer, height, width));
    for (const layer of next) if (!before.has(layer)) dirty = around(dirty, boundsOf(layer, height, width));
    if (!dirty && next.some((layer, i) => layer !== layers[i])) dirty = whole;
    layers = next;
    renderAgain(dirty);
  }

  function begin() {
    open ??= { before: layers, after: null, dabs: [] };
  }

  function commit() {
    const step = open;
    open = null;
    if (!step) return false;
    const patches = patchesOf(step.dabs);
    if (layers === step.before && !patches.length) return false;
    if (layers !== step.before && !patches.length && step.dabs.length) {
      setStack(step.before); // a new mask layer on which nothing was painted
      return false;
    }
    push({ before: step.before, after: layers, patches });
    return true;
  }

  function push(step) {
    undoSteps.push(step);
    if (undoSteps.length > MOST_STEPS) undoSteps.shift();
    redoSteps = [];
    changeNumber++;
  }

  function cancel() {
    const step = open;
    open = null;
    if (!step) return;
    for (const dab of step.dabs.reverse()) restore(dab);
    const dirty = step.dabs.reduce((rect, dab) => around(rect, dab.rect), null);
    if (layers !== step.before) setStack(step.before);
    renderAgain(dirty);
  }

  /** The mask layer that strokes go into, made where there is none on top. */
  function paintedLayer() {
    const top = layers[layers.length - 1];
    if (top?.t === "mask" && own.has(top.id)) return top;
    const values = new Uint8Array(height * width).fill(SEE_THROUGH);
    const layer = maskLayer({ rect: whole, values, by, src: "manual" });
    own.add(layer.id);
    layers = [...layers, layer];
    return layer;
  }

  /** Write a value on a region; between `begin` and `commit`. */
  function paint({ rect, inside }, value) {
    const layer = paintedLayer();
    const span = rect.col1 - rect.col0;
    open.dabs.push({ layer, rect, values: cut(layer.values, width, rect) });
    for (let row = rect.row0, k = 0; row < rect.row1; row++) {
      for (let i = row * width + rect.col0, end = i + span; i < end; i++, k++) {
        if (!inside[k]) continue;
        layer.values[i] = value;
        counts[plane[i]]--;
        counts[value]++;
        plane[i] = value;
      }
    }
    changed(rect);
  }

  function restore({ layer, rect, values }) {
    paste(layer.values, width, rect, values);
  }

  function apply(step, isUndo) {
    let dirty = null;
    for (const { layer, rect, lengths, before, after } of step.patches) {
      paste(layer.values, width, rect, unpackRuns(lengths, isUndo ? before : after, rect));
      dirty = around(dirty, rect);
    }
    setStack(isUndo ? step.before : step.after);
    renderAgain(dirty);
    changeNumber++;
  }

  function undo() {
    if (open || !undoSteps.length) return false;
    const step = undoSteps.pop();
    apply(step, true);
    redoSteps.push(step);
    return true;
  }

  function redo() {
    if (open || !redoSteps.length) return false;
    const step = redoSteps.pop();
    apply(step, false);
    undoSteps.push(step);
    return true;
  }

  return {
    height,
    width,
    counts,
    plane,
    get layers() { return layers; },
    get revision() { return revision; },
    get changeNumber() { return changeNumber; },
    get isDrawing() { return open !== null; },
    get undoDepth() { return undoSteps.length; },
    get redoDepth() { return redoSteps.length; },
    crc32: () => (checksum ??= crc32(plane)),
    toDocument: () => toDocument(layers, height, width, plane),
    begin,
    paint,
    commit,
    cancel,
    undo,
    redo,

    /** One step: paint a region. False where nothing changed. */
    paintOnce(region, value) {
      if (!region) return false;
      begin();
      paint(region, value);
      return commit();
    },

    /** One step: another stack of layers. */
    changeLayers(next) {
      begin();
      setStack(next);
      return commit();
    },

    /** Take over layers from elsewhere (the server, a draft, a merge); undo begins anew. */
    replaceLayers(next, newRevision) {
      open = null;
      own.clear();
      undoSteps = [];
      redoSteps = [];
      layers = [...next];
      renderRect(plane, layers, height, width, whole);
      counts.fill(0);
      count(whole, 1);
      revision = newRevision;
      changeNumber++;
      changed(whole);
    },

    /** The server has saved what there was, as this revision. */
    markSaved(newRevision) {
      revision = newRevision;
    },
  };
}

/** The smallest rect around both; null is nothing. */
export function around(a, b) {
  if (!a || !b) return a ?? b;
  return {
    row0: Math.min(a.row0, b.row0),
    col0: Math.min(a.col0, b.col0),
    row1: Math.max(a.row1, b.row1),
    col1: Math.max(a.col1, b.col1),
  };
}

function cut(values, width, rect) {
  const span = rect.col1 - rect.col0;
  const part = new Uint8Array(span * (rect.row1 - rect.row0));
  for (let row = rect.row0, k = 0; row < rect.row1; row++, k += span) {
    part.set(values.subarray(row * width + rect.col0, row * width + rect.col1), k);
  }
  return part;
}

function paste(values, width, rect, part) {
  const span = rect.col1 - rect.col0;
  for (let row = rect.row0, k = 0; row < rect.row1; row++, k += span) {
    values.set(part.subarray(k, k + span), row * width + rect.col0);
  }
}

/** What many overlapping dabs have changed in each layer, as runs: a long stroke takes some KB. */
function patchesOf(dabs) {
  const patches = [];
  for (const layer of new Set(dabs.map((dab) => dab.layer))) {
    const mine = dabs.filter((dab) => dab.layer === layer);
    const rect = mine.reduce((sum, dab) => around(sum, dab.rect), null);
    const width = layer.box[3];
    const after = cut(layer.values, width, rect);
    const before = after.slice();
    const span = rect.col1 - rect.col0;
    for (const dab of mine.reverse()) {
      const at = { row0: dab.rect.row0 - rect.row0, row1: dab.rect.row1 - rect.row0,
                   col0: dab.rect.col0 - rect.col0, col1: dab.rect.col1 - rect.col0 };
      paste(before, span, at, dab.values);
    }
    const runs = packRuns(before, after);
    if (runs) patches.push({ layer, rect, ...runs });
  }
  return patches;
}

function packRuns(before, after) {
  const lengths = [];
  const olds = [];
  const news = [];
  let isSame = true;
  for (let i = 0; i < before.length; ) {
    let end = i + 1;
    while (end < before.length && before[end] === before[i] && after[end] === after[i]) end++;
    lengths.push(end - i);
    olds.push(before[i]);
    news.push(after[i]);
    isSame &&= before[i] === after[i];
    i = end;
  }
  return isSame ? null : { lengths: Uint32Array.from(lengths), before: Uint8Array.from(olds), after: Uint8Array.from(news) };
}

function unpackRuns(lengths, values, rect) {
  const part = new Uint8Array((rect.row1 - rect.row0) * (rect.col1 - rect.col0));
  for (let run = 0, i = 0; run < lengths.length; i += lengths[run++]) part.fill(values[run], i, i + lengths[run]);
  return part;
}
