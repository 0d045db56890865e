/** How far each student has come, who is stuck first; looked at again and again while the page is seen. */

import { choice, field, get, link, make, noteInAddress, poll, section, stateText } from "./base.js";
import { cardTable } from "./class-table.js";
import { gpuMinutes } from "./person-limits.js";
import { fromServer, language, number, t } from "./words.js";

const EVERY_MS = 10_000;
const DEFAULT_MINUTES = "30";
const MINUTES = { 10: () => t("10 minutes"), 20: () => t("20 minutes"), 30: () => t("30 minutes"), 60: () => t("1 hour"), 1440: () => t("1 day"), 10080: () => t("1 week") };
const MOST_PROJECTS = 3;

/** The part of the screen; it resolves once the grid is there. */
export async function progressPart(classroom) {
  const asked = new URLSearchParams(location.search).get("stuck");
  const minutes = choice(Object.entries(MINUTES).map(([value, text]) => [value, text()]), { value: Object.hasOwn(MINUTES, asked ?? "") ? asked : DEFAULT_MINUTES });
  const place = make("div", {});
  const said = make("p", { role: "status" });
  const part = section(t("Progress"), make("div", { className: "row" }, field(t("Without a change for so long one counts as stuck"), minutes)), said, place);
  const look = async () => {
    const wanted = minutes.value;
    const rows = await get(`classrooms/${classroom.id}/progress?stuck_minutes=${wanted}`);
    if (wanted === minutes.value) show(classroom, rows, said, place);
  };
  minutes.addEventListener("change", () => {
    noteInAddress({ stuck: minutes.value });
    return look();
  });
  await new Promise((resolve) => {
    poll(part, async () => {
      try {
        await look();
      } finally {
        resolve();
      }
    }, EVERY_MS);
  });
  return part;
}

function show(classroom, rows, said, place) {
  const now = rows.length ? summary(classroom, rows) : t("Nobody has joined yet: show the join code, or make accounts below.");
  if (said.textContent !== now) said.textContent = now;
  const head = [t("Student"), t("State"), t("Images"), t("Tiles done"), t("Training sets"), t("Trainings"), t("Models"), t("Predictions"), t("Handed in"), t("GPU minutes"), t("Last change")];
  const fresh = make("div", {}, rows.length ? cardTable(t("How far each one has come; who is stuck comes first"), head, rows.map((row) => [row.name, cells(row, classroom)])) : null);
  if (fresh.innerHTML === place.innerHTML) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.id : null;
  place.replaceChildren(...fresh.childNodes);
  if (focused) document.getElementById(focused)?.focus();
}

function summary(classroom, rows) {
  const stuck = rows.filter((row) => row.is_stuck).length;
  const waiting = rows.filter((row) => row.job).length;
  return [
    t("{stuck} of {all} are stuck, {waiting} have work that waits or runs.", { stuck, all: rows.length, waiting }),
    t("A training may take {minutes} minutes.", { minutes: limitOf(classroom, "max_training_minutes").toLocaleString(language) }),
  ].join(" ");
}

/** A limit as it holds for the students of the class, or for one of them. */
const limitOf = (classroom, name, row = null) => row?.limits[name] ?? classroom.limits[name] ?? classroom.default_limits[name];

/** With a limit, the minutes that it counts: those outside of the class, too. */
function gpuCell(row, classroom) {
  const most = limitOf(classroom, "max_gpu_minutes", row);
  if (most === null) return gpuMinutes(row.gpu_minutes, null);
  const isUsedUp = row.all_gpu_minutes >= most;
  return make("span", isUsedUp ? { className: "bad" } : {}, `${isUsedUp ? "⚠ " : ""}${gpuMinutes(row.all_gpu_minutes, most)}`);
}

function cells(row, classroom) {
  const tiles = row.num_tiles_by_status;
  const all = tiles.unlabelled + tiles.started + tiles.done;
  return [
    who(row),
    state(row),
    number(row.num_images),
    all ? t("{done} of {all}", { done: number(tiles.done), all: number(all) }) : "–",
    number(row.num_training_sets),
    trainings(row, classroom),
    number(row.num_models),
    number(row.num_predictions),
    number(row.num_hand_ins),
    gpuCell(row, classroom),
    row.last_change_at ? ago(row.last_change_at) : "–",
  ];
}

function who(row) {
  const name = row.display_name || row.name;
  const links = row.projects.slice(0, MOST_PROJECTS).map((project) =>
    make("small", {}, link(project.name, "/images", { project: project.id }, { id: `project-${row.user_id}-${project.id}`, "aria-label": t("Project {project} of {student}", { project: project.name, student: name }) })));
  const more = row.projects.length - MOST_PROJECTS;
  return make("span", { className: "who" }, name, ...links, more > 0 ? make("small", {}, t("and {n} more", { n: more })) : null);
}

/** Why somebody is stuck, or what is waited for, in one sentence. */
function state(row) {
  if (row.is_stuck) return make("span", { className: "whole bad" }, `⚠ ${t("Stuck: {why}", { why: whyStuck(row) })}`);
  if (row.is_active && !row.job && row.projects.length) return make("span", { className: "whole good" }, `✓ ${t("at work")}`);
  return make("span", { className: "whole" }, row.is_active ? row.job ? waiting(row.job) : t("not begun yet") : t("cannot sign in"));
}

function whyStuck(row) {
  if (row.stuck_because === "not begun") return t("has no project in the class yet");
  if (row.stuck_because === "nothing changed") return t("the last change was {time}", { time: ago(row.last_change_at) });
  return t("the last training failed – {why}", { why: fromServer(row.reason) });
}

const KINDS = {
  import: () => t("Import of images"), tile: () => t("Cutting into tiles"), freeze: () => t("Freezing a training set"), train: () => t("Training"),
  evaluate: () => t("Scoring"), predict: () => t("Prediction"), export: () => t("Export"), cleanup: () => t("Tidying up"),
};

function waiting(job) {
  const what = KINDS[job.kind]?.() ?? job.kind;
  if (job.state !== "queued") return t("{what}: {state}", { what, state: `${stateText(job)} ${Math.round(100 * job.progress)} %` });
  const place = job.ahead ? t("{ahead} before it", { ahead: job.ahead }) : t("starts next");
  // The reason says the place in the queue again, unless something else holds the job up.
  const why = /^(starts next|waits for \d+ other jobs?)$/.test(job.reason) ? "" : ` – ${fromServer(job.reason)}`;
  return t("{what}: {state}", { what, state: `${t("waiting")}, ${place}${why}` });
}

function trainings(row, classroom) {
  const { done, failed, cancelled } = row.num_trainings_by_state;
  const most = limitOf(classroom, "max_active_trainings", row);
  const parts = [done ? t("{n} done", { n: done }) : null, failed ? t("{n} failed", { n: failed }) : null, cancelled ? t("{n} stopped", { n: cancelled }) : null];
  const active = row.num_active_trainings ? t("{n} of {most} allowed are open", { n: row.num_active_trainings, most }) : null;
  return [...parts, active].filter(Boolean).join(", ") || number(0);
}

const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];

/** How long ago something was, in the largest unit that fits. */
function ago(stamp) {
  const seconds = (Date.now() - new Date(stamp)) / 1000;
  const [unit, size] = UNITS.find(([, length]) => seconds >= length) ?? ["minute", 60];
  return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(-Math.floor(Math.max(0, seconds) / size), unit);
}
