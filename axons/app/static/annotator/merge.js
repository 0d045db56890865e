/** Joining what two people have made of one saved state, layer by layer. */

import { trimmed } from "./layers.js";

/**
 * Merges layers by their ids: theirs in their order, then what only I have added. What one has changed or deleted and
 * the other has left as it was, is changed or deleted. Where both have changed a layer, theirs stands in `layers` (if
 * they have deleted it, none does) until somebody has decided.
 * @returns {{layers: object[], conflicts: {id: string, mine: object | null, theirs: object | null}[]}} null: deleted
 */
export function merge3(base, mine, theirs) {
  const [inBase, inMine, inTheirs] = [base, mine, theirs].map(byId);
  const merged = { layers: [], conflicts: [] };
  for (const layer of theirs) {
    const before = inBase.get(layer.id) ?? null;
    const own = inMine.get(layer.id) ?? null;
    if (isSame(own, before)) merged.layers.push(layer);
    else if (isSame(layer, before)) merged.layers.push(...(own ? [own] : []));
    else {
      if (!isSame(layer, own)) merged.conflicts.push({ id: layer.id, mine: own, theirs: layer });
      merged.layers.push(layer);
    }
  }
  for (const layer of mine) {
    if (inTheirs.has(layer.id)) continue;
    if (!inBase.has(layer.id)) merged.layers.push(layer);
    else if (!same(layer, inBase.get(layer.id))) {
      merged.conflicts.push({ id: layer.id, mine: layer, theirs: null });
    }
  }
  return merged;
}

/** Whether two layers paint the same, whoever made them and when. */
export function same(layerA, layerB) {
  if (layerA === layerB) return true;
  if (layerA.t !== layerB.t) return false;
  if (layerA.t === "mask") return isSameMask(trimmed(layerA), trimmed(layerB));
  return (
    layerA.value === layerB.value &&
    isSameList(layerA.keep, layerB.keep) &&
    layerA.rings.length === layerB.rings.length &&
    layerA.rings.every((ring, i) => isSameList(ring, layerB.rings[i]))
  );
}

function byId(layers) {
  return new Map(layers.map((layer) => [layer.id, layer]));
}

/** `same` for layers that may be null: not there. */
function isSame(a, b) {
  return a && b ? same(a, b) : a === b;
}

/** @param a, b trimmed layers; null: paints nothing */
function isSameMask(a, b) {
  return a && b ? isSameList(a.box, b.box) && isSameList(a.values, b.values) : a === b;
}

function isSameList(a, b) {
  return a.length === b.length && a.every((number, i) => number === b[i]);
}
