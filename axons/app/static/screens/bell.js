/** The bell: what has ended since one last looked. */

import { addressOf, get, make, poll, say, stateText } from "./base.js";
import { disclosure } from "./menu.js";
import { fromServer, number, t, time } from "./words.js";

const EVERY_MS = 30_000;
const MOST = 50; // jobs that are looked through
const SHOWN = 10;
const SVG = "http://www.w3.org/2000/svg";

/** What each kind of job is called. */
export const KINDS = {
  import: () => t("Import"), tile: () => t("Tiling"), freeze: () => t("Training set"), train: () => t("Training"),
  evaluate: () => t("Evaluation"), predict: () => t("Prediction"), export: () => t("Export"), cleanup: () => t("Cleaning up"),
};
const PLACES = {
  import: () => ["/images"], tile: () => ["/images"], freeze: (id) => ["/dataset", { set: id }], train: (id) => ["/results", { run: id }],
  evaluate: () => ["/results"], predict: () => ["/predict"], export: () => ["/images"],
};

/** @param {{me: object}} context whose jobs */
export function drawBell({ me }) {
  const stored = `axons-seen-${me.user.id}`;
  const seen = () => localStorage.getItem(stored) ?? "";
  if (!seen()) localStorage.setItem(stored, new Date().toISOString()); // what ended before the first visit is no news
  const count = make("span", { className: "count", hidden: true });
  const list = make("ul", {});
  const panel = make("div", { className: "panel" }, make("p", { className: "quiet" }, t("What has ended")), list);
  const bell = disclosure(t("What has ended"), make("span", {}, drawing(), count), panel, () => {
    list.replaceChildren(...(jobs.length ? jobs.slice(0, SHOWN).map((job) => line(job, isNew(job))) : [make("li", { className: "quiet" }, t("Nothing yet."))]));
    if (jobs.length) localStorage.setItem(stored, jobs[0].finished_at);
    show();
  });
  const toggle = bell.querySelector("button");
  const isNew = (job) => new Date(job.finished_at) > new Date(seen());
  let jobs = [];
  let known = null;
  function show() {
    const fresh = jobs.filter(isNew).length;
    count.textContent = number(fresh);
    count.hidden = !fresh;
    toggle.setAttribute("aria-label", fresh ? t("What has ended: {count} new", { count: number(fresh) }) : t("What has ended"));
  }
  poll(bell, async () => {
    const { items } = await get(`jobs?is_over=true&limit=${MOST}`);
    jobs = items.filter((job) => job.finished_at).sort((one, other) => new Date(other.finished_at) - new Date(one.finished_at));
    // Spoken only of what ends while one looks at the page.
    if (known) jobs.filter((job) => !known.has(job.id)).forEach((job) => say(text(job), job.state === "failed" ? "bad" : "good"));
    known = new Set(jobs.map((job) => job.id));
    show();
    return false;
  }, EVERY_MS);
  return bell;
}

// Not a character: many machines have no font with a bell.
function drawing() {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 24 24", width: 22, height: 22, "aria-hidden": "true", fill: "currentColor" })) svg.setAttribute(name, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M12 2a2 2 0 0 0-2 2v.6A6.5 6.5 0 0 0 5.5 11v5L3 18.5V20h18v-1.5L18.5 16v-5A6.5 6.5 0 0 0 14 4.600V4a2 2 0 0 0-2-2Zm-2.5 19a2.5 2.5 0 0 0 5 0Z");
  svg.append(path);
  return svg;
}

const text = (job) => `${KINDS[job.kind]?.() ?? job.kind}: ${stateText(job)}`;

function line(job, isFresh) {
  const [path, query] = PLACES[job.kind]?.(job.target_id) ?? [null];
  const words = [isFresh ? make("strong", {}, text(job)) : text(job), make("small", {}, ` ${time(job.finished_at)}`)];
  const way = path && job.project_id ? make("a", { href: addressOf(path, { project: job.project_id, ...query }) }, ...words) : make("span", {}, ...words);
  return make("li", {}, way, job.state === "failed" ? make("p", { className: "bad" }, fromServer(job.reason)) : null);
}
