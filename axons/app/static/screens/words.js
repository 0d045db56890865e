/** The language of the screens: English is in the code, French in one catalogue beside it. */

const STORED = "axons-language";

let french = null;
let served = []; // [pattern of a sentence of the server, its French], the longest first: they say the most

/** The language that is shown: what the person has chosen, else the browser's. */
export const language = localStorage.getItem(STORED) ?? (navigator.language.startsWith("fr") ? "fr" : "en");

/** Fetch what the language needs; before it, everything is English. */
export async function loadWords() {
  document.documentElement.lang = language;
  if (language !== "fr") return;
  const files = ["french.json", "french-server.json"].map(async (name) => (await fetch(new URL(name, import.meta.url))).json());
  const [ours, theirs] = await Promise.all(files);
  french = ours;
  const longestFirst = Object.entries(theirs).sort(([one], [other]) => other.length - one.length);
  served = longestFirst.map(([english, text]) => [patternOf(english), text]);
}

function patternOf(english) {
  const literal = english.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  return new RegExp(`^${literal.replace(/\{(\w+)\}/g, "(?<$1>.*?)")}$`, "s");
}

/** A sentence of the server in the person's language, with what is said in it; one that is not known stays English. */
export function fromServer(sentence) {
  for (const [pattern, text] of served) {
    const found = pattern.exec(sentence);
    if (found) return text.replace(/\{(\w+)\}/g, (_, name) => fromServer(found.groups[name]));
  }
  return sentence;
}

/** Show everything in another language, from now on in this browser. */
export function chooseLanguage(chosen) {
  localStorage.setItem(STORED, chosen);
  location.reload();
}

/** A sentence in the person's language, with values for {names} in it: `t("{n} tiles", {n: 3})`. */
export function t(text, values = {}) {
  return (french?.[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Say in the person's language what the page's own markup says: its texts, and the attributes that are read or shown. */
export function translatePage() {
  if (!french) return;
  const texts = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { currentNode: text } = texts;
    const said = text.data.trim();
    if (said) text.data = text.data.replace(said, () => t(said));
  }
  for (const name of ["aria-label", "title", "alt"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) element.setAttribute(name, t(element.getAttribute(name)));
  }
}

/** A number as people write it there, with so many digits behind the point. */
export function number(value, digits = 0) {
  return value === null || value === undefined ? "–" : value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const MIB = 2 ** 20;

/** So many bytes in the unit that shows them: "3.2 MiB", "1.5 GiB". */
export function size(bytes) {
  if (bytes >= 100 * MIB) return t("{n} GiB", { n: number(bytes / 2 ** 30, 1) });
  return t("{n} MiB", { n: number(bytes / MIB, bytes && bytes < 10 * MIB ? 1 : 0) });
}

/** A time as people write it there. */
export function time(stamp) {
  return stamp ? new Date(stamp).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" }) : "–";
}

const STATES = {
  queued: () => t("waiting"), preparing: () => t("preparing"), running: () => t("running"), validating: () => t("checking"),
  done: () => t("done"), failed: () => t("failed"), cancelled: () => t("stopped"),
};

/** The state of a job or a run as a word. */
export const stateText = (job) => STATES[job.state]?.() ?? job.state;
