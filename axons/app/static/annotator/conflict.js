/** Two people have changed the same tile: what is merged by itself, and what a person has to choose. */

import { merge3 } from "./merge.js";
import { boundsOf, render } from "./r1.js";
import { newId } from "./values.js";

const MARGIN = 8;

/** See merge3; `model` is what the dialog shows, null where nothing has to be chosen. */
export function merge(base, mine, theirs, { height, width }, names) {
  const { layers, conflicts } = merge3(base, mine, theirs);
  if (!conflicts.length) return { layers, conflicts, model: null };
  const planes = { mine: render(mine, height, width), theirs: render(theirs, height, width) };
  const shown = conflicts.map((conflict) => ({ ...conflict, rect: around(conflict, height, width) }));
  return { layers, conflicts, model: { names, width, planes, conflicts: shown } };
}

/**
 * The layers after a person has chosen.
 * @param choices by layer id: "theirs", "mine", or "both" (mine becomes a new layer on top); what lacks is "both"
 */
export function resolve({ layers, conflicts }, choices) {
  const choiceOf = (id) => choices[id] ?? "both";
  const chosen = ({ id, mine, theirs }) => ({ mine, theirs, both: theirs ?? mine })[choiceOf(id)];
  const byId = new Map(conflicts.map((conflict) => [conflict.id, conflict]));
  const placed = layers.map((layer) => (byId.has(layer.id) ? chosen(byId.get(layer.id)) : layer));
  const missing = conflicts.filter(({ theirs }) => !theirs).map(chosen);
  const copied = conflicts.filter(({ id, mine, theirs }) => mine && theirs && choiceOf(id) === "both");
  return [...placed, ...missing, ...copied.map(({ mine }) => ({ ...mine, id: newId() }))].filter(Boolean);
}

/** Whether something of mine is left out, which is then saved as a revision of its own first. */
export const losesMine = (choices) => Object.values(choices).includes("theirs");

/** Both layers with a margin. */
function around({ mine, theirs }, height, width) {
  const bounds = [mine, theirs].map((layer) => layer && boundsOf(layer, height, width)).filter(Boolean);
  const least = (side) => Math.max(0, Math.min(...bounds.map((rect) => rect[side])) - MARGIN);
  const most = (side, limit) => Math.min(limit, Math.max(...bounds.map((rect) => rect[side])) + MARGIN);
  if (!bounds.length) return { row0: 0, col0: 0, row1: height, col1: width };
  return { row0: least("row0"), col0: least("col0"), row1: most("row1", height), col1: most("col1", width) };
}
