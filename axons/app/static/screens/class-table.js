/** A table that is read on a telephone, too: there each row is a card, and its cells name their columns but for those that hold `.whole`. */

import { make } from "./base.js";

/**
 * @param {[string, (Node | string)[]][]} rows what names each row, and its cells
 * @param {object} properties of the table
 */
export function cardTable(caption, head, rows, properties = {}) {
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    make("table", { role: "table", ...properties, className: "as-cards" },
      make("caption", {}, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...head.map((text) => make("th", { scope: "col", role: "columnheader" }, text)))),
      make("tbody", { role: "rowgroup" }, ...rows.map(([name, cells]) => cardRow(name, head, cells)))));
}

function cardRow(name, head, [first, ...others]) {
  return make("tr", { role: "row", "data-row": name },
    make("th", { scope: "row", role: "rowheader" }, first),
    ...others.map((cell, place) => make("td", { role: "cell", "data-head": head[place + 1] }, cell ?? "–")));
}
