/** Everybody's jobs, to look at and to cancel several at once. */

import { ask, button, choice, every, field, isOver, link, make, noteInAddress, poll, post, stateText, table } from "./base.js";
import { KINDS } from "./bell.js";
import { fromServer, language, number, t } from "./words.js";

const EVERY_MS = 5000;
const PAGE = 100;
const MOST = 500; // that can be cancelled by one request
const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Which jobs are shown: what the choice is called, and what REST is asked for. */
const WHICH = {
  active: [() => t("waiting or running"), "is_over=false"],
  queued: [() => t("waiting"), "state=queued"],
  running: [() => t("running"), "state=running"],
  over: [() => t("ended"), "is_over=true"],
  done: [() => t("done"), "state=done"],
  failed: [() => t("failed"), "state=failed"],
  cancelled: [() => t("stopped"), "state=cancelled"],
};

export async function drawJobs(main) {
  const asked = new URLSearchParams(location.search);
  const known = (name, table) => (Object.hasOwn(table, asked.get(name) ?? "") ? asked.get(name) : null);
  const which = choice(Object.entries(WHICH).map(([key, [text]]) => [key, text()]), { value: known("state", WHICH) ?? "active" });
  const kind = choice([["", t("every kind")], ...Object.entries(KINDS).map(([key, text]) => [key, text()])], { value: known("kind", KINDS) ?? "" });
  const list = new JobList();
  const more = button(t("Show more"), () => list.show(list.most + PAGE));
  const change = () => {
    noteInAddress({ state: which.value, kind: kind.value || null });
    list.chosen.clear();
    return list.show(PAGE);
  };
  list.path = () => `jobs?all=true&${WHICH[which.value][1]}${kind.value ? `&kind=${kind.value}` : ""}`;
  list.onShown = () => { more.hidden = list.jobs.length < list.most || list.most >= MOST; };
  which.addEventListener("change", change);
  kind.addEventListener("change", change);
  main.append(
    make("div", { className: "row filters end" }, field(t("State"), which), field(t("Kind"), kind)),
    list.tools, list.place, make("p", { className: "row" }, more));
  await list.show(PAGE);
  poll(main, async () => { await list.show(list.most); }, EVERY_MS);
}

class JobList {
  constructor() {
    Object.assign(this, { jobs: [], chosen: new Set(), most: PAGE, rows: new Map() });
    this.place = make("div", {});
    this.table = table(t("Jobs of everybody, the newest first"),
      [t("Job"), t("State"), t("Owner"), t("Place in the queue"), t("Since"), t("Why"), t("Project")], [], { className: "jobs" });
    this.none = make("p", { className: "empty" }, t("No job is like that."));
    this.all = make("input", { type: "checkbox", onchange: () => this.chooseAll(this.all.checked) });
    this.cancel = button("", () => this.cancelChosen(), { isMain: true });
    this.tools = make("p", { className: "row" }, make("label", { className: "tick" }, this.all, t("Choose all that can be cancelled")), this.cancel);
    this.place.append(this.table, this.none);
  }

  async show(most) {
    const path = this.path();
    const jobs = await every(path, most);
    if (path !== this.path()) return; // something else was chosen meanwhile
    Object.assign(this, { jobs, most });
    const there = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.rows) if (!there.has(id)) this.forget(id, row);
    // Rows stay the same elements, so that nobody loses the place where they are by keys.
    const body = this.table.querySelector("tbody");
    jobs.forEach((job, place) => {
      const row = this.rows.get(job.id) ?? this.newRow(job);
      row.tell(job);
      if (body.children[place] !== row.element) body.insertBefore(row.element, body.children[place] ?? null);
    });
    this.table.hidden = !jobs.length;
    this.none.hidden = jobs.length > 0;
    this.tools.hidden = !jobs.some(canCancel);
    this.onShown();
    this.count();
  }

  newRow(job) {
    const box = make("input", { type: "checkbox", "aria-label": t("Choose {kind} of {owner}", { kind: KINDS[job.kind](), owner: job.user_name }) });
    box.addEventListener("change", () => {
      if (box.checked) this.chosen.add(job.id);
      else this.chosen.delete(job.id);
      this.count();
    });
    const cells = Array.from({ length: 5 }, () => make("td", {}));
    const project = job.project_id ? link(t("Open"), "/images", { project: job.project_id }) : "–";
    const element = make("tr", { "data-job": job.id },
      make("th", { scope: "row" }, make("label", { className: "tick" }, box, KINDS[job.kind]())), ...cells, make("td", {}, project));
    const tell = (now) => {
      box.disabled = !canCancel(now);
      if (box.disabled) this.chosen.delete(now.id);
      box.checked = this.chosen.has(now.id);
      element.dataset.state = now.state;
      const texts = [progressText(now), now.user_name ?? "–", now.ahead === null ? "–" : number(now.ahead + 1), ago(now.created_at), fromServer(now.reason) || "–"];
      texts.forEach((text, place) => { if (cells[place].textContent !== text) cells[place].textContent = text; });
    };
    const row = { element, tell };
    this.rows.set(job.id, row);
    return row;
  }

  forget(id, row) {
    row.element.remove();
    this.rows.delete(id);
    this.chosen.delete(id);
  }

  chooseAll(isChosen) {
    this.chosen = new Set(isChosen ? this.jobs.filter(canCancel).map((job) => job.id) : []);
    for (const job of this.jobs) this.rows.get(job.id).tell(job);
    this.count();
  }

  count() {
    const num = this.chosen.size;
    this.cancel.textContent = num ? t("Cancel {num} jobs", { num: number(num) }) : t("Cancel the chosen jobs");
    const able = this.jobs.filter(canCancel).length;
    this.all.checked = num > 0 && num === able;
    this.all.indeterminate = num > 0 && num < able;
  }

  async cancelChosen() {
    const ids = [...this.chosen];
    if (!ids.length) throw new Error(t("Choose one or more jobs first."));
    const question = t("Cancel {num} jobs", { num: number(ids.length) });
    const body = make("p", {}, t("Trainings keep their best state and can be resumed; other jobs leave nothing half done."));
    if (await ask(question, body, [["yes", question, true], ["", t("Let them run")]]) !== "yes") return null;
    const { cancelled, refused } = await post("jobs:cancel", { job_ids: ids });
    this.chosen.clear();
    await this.show(this.most);
    if (refused.length) throw new Error(t("{done} jobs are being cancelled; {num} were not: {why}", { done: number(cancelled.length), num: number(refused.length), why: fromServer(refused[0].reason) }));
    return t("{done} jobs are being cancelled.", { done: number(cancelled.length) });
  }
}

const canCancel = (job) => !isOver(job) && !job.is_cancel_requested;

/** "5 minutes ago" */
function ago(stamp) {
  const seconds = Math.max(0, (Date.now() - new Date(stamp)) / 1000);
  const [unit, length] = UNITS.find(([, each]) => seconds >= each) ?? UNITS.at(-1);
  return new Intl.RelativeTimeFormat(language, { style: "short" }).format(-Math.floor(seconds / length), unit);
}

function progressText(job) {
  if (job.is_cancel_requested && !isOver(job)) return t("being cancelled");
  return job.state === "running" && job.progress ? `${stateText(job)} ${number(100 * job.progress)} %` : stateText(job);
}
