// Two people have changed the same tile: what is merged by itself, and what a person has to choose.

import { merge3 } from "./merge.js";
import { boundsOf, render } from "./r1.js";
import { newId } from "./values.js";

const MARGIN = 8;

/** See merge3; and the model of the dialog, null where nothing has to be chosen. */
export function merge(base, mine, theirs, { height, width }, names) {
  const { layers, conflicts } = merge3(base, mine, theirs);
  const model = conflicts.length === 0 ? null : {
    names,
    height,
    width,
    planes: { mine: render(mine, height, width), theirs: render(theirs, height, width) },
    conflicts: conflicts.map((conflict) => ({ ...conflict, rect: around(conflict, height, width) })),
  };
  return { layers, conflicts, model };
}

/**
 * The layers after a person has chosen.
 * @param choices by layer id: "theirs", "mine", or "both" (mine becomes a new layer on top); what lacks is "both"
 */
export function resolve({ layers, conflicts }, choices) {
  const byId = new Map(conflicts.map((conflict) => [conflict.id, conflict]));
  const chosen = ({ id, mine, theirs }) => {
    if (choices[id] === "mine") return mine;
    return choices[id] === "theirs" ? theirs : (theirs ?? mine);
  };
  const placed = layers.map((layer) => (byId.has(layer.id) ? chosen(byId.get(layer.id)) : layer));
  const ids = new Set(layers.map((layer) => layer.id));
  const missing = conflicts.filter(({ id }) => !ids.has(id)).map(chosen);
  const copies = conflicts
    .filter(({ id, mine, theirs }) => mine && theirs && !["mine", "theirs"].includes(choices[id]))
    .map(({ mine }) => ({ ...mine, id: newId() }));
  return [...placed, ...missing, ...copies].filter(Boolean);
}

/** Whether a choice leaves out something of mine, which is then saved as a revision of its own first. */
export const losesMine = (choices) => Object.values(choices).includes("theirs");

/** What there is to see of a conflict: both layers with a margin. */
function around({ mine, theirs }, height, width) {
  const bounds = [mine, theirs].map((layer) => layer && boundsOf(layer, height, width)).filter(Boolean);
  if (bounds.length === 0) return { row0: 0, col0: 0, row1: height, col1: width };
  return {
    row0: Math.max(0, Math.min(...bounds.map((rect) => rect.row0)) - MARGIN),
    col0: Math.max(0, Math.min(...bounds.map((rect) => rect.col0)) - MARGIN),
    row1: Math.min(height, Math.max(...bounds.map((rect) => rect.row1)) + MARGIN),
    col1: Math.min(width, Math.max(...bounds.map((rect) => rect.col1)) + MARGIN),
  };
}
