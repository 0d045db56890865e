/** The glossary: terms of the field, each explained where it is used. */

import { make } from "./base.js";
import { GLOSSARY } from "./glossary.js";
import { t } from "./words.js";

/** A term that explains itself when one points at it, touches it or comes to it by keys. */
export function term(key, text = null) {
  const { name, meaning } = GLOSSARY[key];
  const tip = make("span", { role: "tooltip", className: "tip" }, t(meaning));
  return make("button", { type: "button", className: "term", "aria-label": `${text ?? t(name)}: ${t(meaning)}` }, text ?? t(name), tip);
}

/** A sentence with [[terms]] in it, as nodes: `[[iou]]`, or `[[iou|overlap]]` to call it otherwise. */
export function explained(sentence) {
  return sentence.split(/(\[\[[a-z-]+(?:\|[^\]]+)?\]\]\S*)/).map((part) => {
    const found = /^\[\[([a-z-]+)(?:\|([^\]]+))?\]\](.*)$/.exec(part);
    if (!found) return part;
    const [, key, text, after] = found; // a full stop must not stand alone on the next line
    return after ? make("span", { className: "together" }, term(key, text), after) : term(key, text);
  });
}
