/** What every screen is made of: elements, REST, and buttons that say how it went. Text from elsewhere is never markup. */

import { fromServer, stateText, t } from "./words.js";

export { stateText };

const ID = /^[A-Za-z0-9_-]{1,64}$/;
const ID_BYTES = 18;
const PAGE = 500;

// -- Elements ------------------------------------------------------------------------------------------------------------

/**
 * Make an element. Of its properties `onclick`… listen, those with a dash and `role`, `for`, `list` are attributes, and
 * what is null or undefined is left out; so are such children.
 */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.includes("-") || ["role", "for", "list", "style"].includes(key)) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A link to a screen, which keeps the project. */
export function link(text, path, query = {}, properties = {}) {
  return make("a", { ...properties, href: addressOf(path, query) }, text);
}

/** The address of a screen; of the query what is null is left out. */
export function addressOf(path, query = {}) {
  const found = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined));
  return found.size ? `${path}?${found}` : path;
}

/** A label with the field that it names; `hint` is read with it, and stands above so that fields in a row are level. */
export function field(label, input, hint = null) {
  const said = hint && make("small", {}, hint);
  return make("label", { className: "field" }, make("span", {}, label), said, input);
}

/** A choice out of [value, text] pairs. */
export function choice(pairs, properties = {}) {
  const { value, ...others } = properties;
  const select = make("select", others, ...pairs.map(([key, text]) => make("option", { value: key }, text)));
  if (value !== undefined) select.value = value;
  return select;
}

/** A table with a caption that screen readers tell; cells are text or elements. */
export function table(caption, head, rows, properties = {}) {
  const cells = (row) => row.map((cell, place) => make(place ? "td" : "th", place ? {} : { scope: "row" }, cell ?? "–"));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption }, make("table", properties,
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...head.map((cell) => make("th", { scope: "col" }, cell)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))))));
}

/** A picture of the server. */
export function picture(path, alt, properties = {}) {
  return make("img", { loading: "lazy", ...properties, src: `/api/v1/${path}`, alt });
}

/** A part of a screen under a heading. */
export function section(title, ...children) {
  return make("section", {}, make("h2", {}, title), ...children);
}

/** Nothing is here yet: what it would be, and the way to it. */
export function empty(text, ...ways) {
  return make("div", { className: "empty" }, make("p", {}, text), ...ways);
}

/**
 * A button that cannot be pressed twice, and that tells what went wrong.
 * @param {() => Promise<string | void>} act what it returns is said
 * @param {object} properties of the button; `isMain` for the one main action of a screen
 */
export function button(text, act, { isMain = false, ...properties } = {}) {
  const made = make("button", { type: "button", className: isMain ? "primary" : "", ...properties }, text);
  made.addEventListener("click", () => during(made, act));
  return made;
}

/** A button that asks once more before it acts; the question stands on it for some seconds. */
export function carefulButton(text, question, act, properties = {}) {
  let isAsked = false;
  const made = button(text, async () => {
    if (isAsked) return act();
    isAsked = true;
    made.textContent = question;
    setTimeout(() => {
      isAsked = false;
      made.textContent = text;
    }, 5000);
  }, { ...properties, className: "danger" });
  return made;
}

/** A form of fields and a button; `act` gets its values by the names of its fields. */
export function form(fields, text, act, { isMain = false } = {}) {
  const submit = make("button", { className: isMain ? "primary" : "" }, text);
  const made = make("form", {}, ...fields, submit);
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    during(submit, () => act(Object.fromEntries(new FormData(made))));
  });
  return made;
}

/** Where what lies over a screen is put, so that it looks like the screen. */
const root = () => document.querySelector("axons-screen") ?? document.body;

async function during(pressed, act) {
  pressed.disabled = true;
  pressed.setAttribute("aria-busy", "true");
  try {
    const said = await act();
    if (said) say(said);
  } catch (error) {
    complain(error);
  } finally {
    pressed.disabled = false;
    pressed.removeAttribute("aria-busy");
  }
}

/** Tell something for some seconds, to screen readers too. */
export function say(text, kind = "good") {
  const place = document.getElementById("said") ?? root().appendChild(make("div", { id: "said", role: "status", "aria-live": "polite" }));
  const note = make("p", { className: kind }, text, make("button", { type: "button", "aria-label": t("Close"), onclick: () => note.remove() }, "×"));
  place.append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 15_000 : 6_000);
}

/** Tell what went wrong. */
export function complain(error) {
  console.warn(error);
  say(error.message, "bad");
}

/**
 * Ask something in a dialog; gives the value of the button that was pressed, or null.
 * @param {[string, string, boolean?][]} choices value, text, and whether it is the main one
 */
export function ask(title, body, choices) {
  return new Promise((resolve) => {
    const buttons = choices.map(([value, text, isMain]) => make("button", { value, className: isMain ? "primary" : "" }, text));
    const dialog = make("dialog", { "aria-label": title }, make("form", { method: "dialog" },
      make("h2", {}, title), ...[body].flat(), make("p", { className: "row" }, ...buttons)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
    root().append(dialog);
    dialog.showModal();
  });
}

/** Let the browser keep a text as a file. */
export function saveText(name, text, type = "text/plain") {
  saveBlob(name, new Blob([text], { type }));
}

/**
 * Let the browser keep a file that the server makes first.
 * @throws {RequestFailed} the server refuses
 */
export async function saveFile(path, name) {
  const response = await fetch(path);
  if (!response.ok) throw new RequestFailed(response.status, await response.json().catch(() => null));
  saveBlob(name, await response.blob());
}

function saveBlob(name, blob) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Text to be copied, with the button that does it. */
export function snippet(text) {
  // The clipboard is there on trusted addresses only; elsewhere the text is selected, to be copied by hand.
  const code = make("code", {}, text);
  const copy = button(t("Copy"), async () => {
    getSelection().selectAllChildren(code);
    await navigator.clipboard?.writeText(text);
  });
  return make("div", { className: "snippet" }, make("pre", { tabIndex: 0 }, code), copy);
}

// -- Addresses -----------------------------------------------------------------------------------------------------------

/** An id in this page's address, or null. */
export function idInAddress(name) {
  const id = new URLSearchParams(location.search).get(name) ?? "";
  return ID.test(id) ? id : null;
}

/** Note in the address what is shown, so that it is shown again after a reload and in somebody else's browser. */
export function noteInAddress(query) {
  const found = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(query)) {
    if (value === null) found.delete(name);
    else found.set(name, value);
  }
  history.replaceState(null, "", `${location.pathname}?${found}`);
}

/** @returns {string} 24 random characters out of A-Z, a-z, 0-9, "-" and "_" */
export function newId() {
  // Over plain http only getRandomValues is there, not randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

// -- REST ----------------------------------------------------------------------------------------------------------------

/** What the server refuses: `message` is its sentence, `field` what to correct, `status` the number. */
export class RequestFailed extends Error {
  constructor(status, answer) {
    super(answer?.detail ? fromServer(answer.detail) : t("The server answered {status}.", { status }));
    Object.assign(this, { status, field: answer?.field ?? null });
  }
}

/**
 * Ask REST; the answer's JSON, its text where it is none, or null where it is empty.
 * @param {string} path below /api/v1
 * @throws {RequestFailed} the server refuses
 */
export async function request(method, path, body = undefined, options = {}) {
  const headers = { ...(options.headers ?? {}) };
  if (body !== undefined && !(body instanceof Blob)) headers["Content-Type"] ??= "application/json";
  if (method === "POST") headers["Idempotency-Key"] ??= newId();
  let response;
  try {
    const sent = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
    response = await fetch(`/api/v1/${path}`, { method, headers, body: sent, signal: options.signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(t("The server does not answer; what you entered is still here, try again."));
  }
  if (response.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("content-type") ?? "");
  const answer = isJson && text ? JSON.parse(text) : text || null;
  if (!response.ok) throw new RequestFailed(response.status, isJson ? answer : null);
  return answer;
}

export const get = (path, options) => request("GET", path, undefined, options);
export const post = (path, body = {}, options = {}) => request("POST", path, body, options);
export const patch = (path, body) => request("PATCH", path, body);
export const put = (path, body) => request("PUT", path, body);
export const remove = (path) => request("DELETE", path);

/** All rows of a list that comes in pages, or the first `most`. */
export async function every(path, most = Infinity) {
  const rows = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ limit: Math.min(PAGE, most), ...(cursor ? { cursor } : {}) });
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}${query}`);
    rows.push(...page.items);
    cursor = page.next;
  } while (cursor && rows.length < most);
  return rows;
}

const OVER = new Set(["done", "failed", "cancelled"]);

/** Whether a job or a run has come to its end. */
export const isOver = (job) => OVER.has(job.state);

/**
 * Look again and again while somebody sees the page, until `look` gives true or its element has left the page.
 * @param {HTMLElement} element that shows it
 */
export async function poll(element, look, ms = 2000) {
  let isFirst = true;
  while (isFirst || element.isConnected) {
    if (isFirst || document.visibilityState === "visible") {
      try {
        if (await look()) return;
      } catch (error) {
        console.warn(error); // the server is asked again
      }
    }
    isFirst = false;
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

/** Show a job until it is over: its state, its progress, and a button that stops it. Gives the job as it ended. */
export function watchJob(place, job) {
  return new Promise((resolve) => {
    const bar = make("progress", { max: 1, "aria-label": t("Progress") });
    const text = make("span", { role: "status" });
    const stop = button(t("Stop"), () => post(`jobs/${job.id}/cancel`));
    place.replaceChildren(make("p", { className: "job" }, bar, text, stop));
    poll(place, async () => {
      const now = await get(`jobs/${job.id}`);
      if (now.state === "queued") bar.removeAttribute("value");
      else bar.value = now.progress ?? 0;
      text.textContent = jobText(now);
      if (!isOver(now)) return false;
      stop.remove();
      if (now.state === "done") place.replaceChildren();
      resolve(now);
      return true;
    }, 1000);
  });
}

function jobText(job) {
  const place = job.state === "queued" && job.ahead !== null ? ` · ${t("{ahead} before it", { ahead: job.ahead })}` : "";
  const share = job.progress ? ` ${Math.round(100 * job.progress)} %` : "";
  return `${stateText(job)}${share}${place}${job.reason ? ` · ${fromServer(job.reason)}` : ""}`;
}
