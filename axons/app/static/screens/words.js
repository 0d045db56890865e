/** The language of the screens: English is in the code, French in one catalogue beside it. */

const STORED = "axons-language";

let french = null;

/** The language that is shown: what the person has chosen, else the browser's. */
export const language = localStorage.getItem(STORED) ?? (navigator.language.startsWith("fr") ? "fr" : "en");

/** Fetch what the language needs; before it, everything is English. */
export async function loadWords() {
  document.documentElement.lang = language;
  if (language === "fr") french = await (await fetch(new URL("french.json", import.meta.url))).json();
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

/** A number as people write it there, with so many digits behind the point. */
export function number(value, digits = 0) {
  return value === null || value === undefined ? "–" : value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A time as people write it there. */
export function time(stamp) {
  return stamp ? new Date(stamp).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" }) : "–";
}
