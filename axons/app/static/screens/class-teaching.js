/** What an educator does for a class: how far everybody is, tasks and what was handed in, people, rules, models. */

import { ask, button, carefulButton, choice, every, field, form, link, make, patch, post, remove, section, table } from "./base.js";
import { modelsPart } from "./class-models.js";
import { educatorParts, joinCode, studentParts } from "./class-people.js";
import { progressPart } from "./class-progress.js";
import { limitsForm, switches } from "./class-rules.js";
import { t, time } from "./words.js";

export async function drawClassroom(main, classroom, me) {
  const [members, tasks, projects, progress, models] = await Promise.all([
    every(`classrooms/${classroom.id}/members`), every(`assignments?classroom_id=${classroom.id}`), every("projects"),
    progressPart(classroom), modelsPart(classroom),
  ]);
  main.append(
    progress,
    section(t("Tasks"), ...(await taskParts(tasks)), assignForm(classroom, projects.filter((project) => project.owner_id === me.user.id))),
    section(t("Join code"), joinCode(classroom)),
    section(t("Accounts"), ...studentParts(classroom, members)),
    section(t("Educators"), ...educatorParts(classroom, members)),
    section(t("What students may do"), ...switches(classroom)),
    section(t("Limits"), make("p", { className: "quiet" }, t("They hold for each student in the projects of this class, not for educators.")), limitsForm(classroom)),
    models);
}

// -- Tasks ---------------------------------------------------------------------------------------------------------------

async function taskParts(tasks) {
  if (!tasks.length) return [make("p", {}, t("No task yet."))];
  return Promise.all(tasks.map(async (task) => {
    const handIns = newestOfEach(await every(`assignments/${task.id}/hand-ins`));
    const rows = handIns.map(handInRow);
    return make("article", { className: "card" },
      make("h3", {}, task.title), make("p", {}, task.text),
      make("p", {}, t("{started} of {students} have started, {handed} have handed in.",
        { started: task.num_started, students: task.num_students, handed: task.num_handed_in })),
      task.due_at ? make("p", {}, t("Due {time}", { time: time(task.due_at) })) : null,
      rows.length ? table(t("Handed in, the newest of each student"), [t("Student"), t("When"), t("Report"), t("Mark"), t("Do")], rows) : null,
      make("p", { className: "row" },
        task.template_project_id ? button(t("Hand out to all"), async () => {
          await post(`assignments/${task.id}/hand-out`);
          return t("Everybody has a copy.");
        }) : null,
        button(t("Change"), () => change(task), { "aria-label": t("Change the task {title}", task) }),
        carefulButton(t("Withdraw"), t("Withdraw the task?"), async () => {
          await remove(`assignments/${task.id}`);
          location.reload();
        })));
  }));
}

async function change(task) {
  const title = make("input", { required: true, maxLength: 120, value: task.title });
  const text = make("textarea", { maxLength: 5000, rows: 4, value: task.text });
  const due = make("input", { type: "datetime-local", value: task.due_at ? localMinute(task.due_at) : "" });
  const fields = [field(t("Title"), title), field(t("What to do"), text), field(t("Due"), due, t("Copies that were handed out stay as they are."))];
  if (await ask(t("Change the task"), fields, [["yes", t("Save"), true], ["", t("Leave it")]]) !== "yes") return;
  await patch(`assignments/${task.id}`, { title: title.value, text: text.value, due_at: moment(due.value) });
  location.reload();
}

/** What a field of a date and a time gives, as REST takes it. */
const moment = (value) => (value ? new Date(value).toISOString() : null);

/** A moment as such a field takes it, in the time of this computer. */
function localMinute(stamp) {
  const date = new Date(stamp);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Lists come with the newest first. */
function newestOfEach(handIns) {
  const seen = new Set();
  return handIns.filter(({ user_id: id }) => !seen.has(id) && seen.add(id));
}

function handInRow(handIn) {
  const report = handIn.has_report ? make("a", { href: `/api/v1/hand-ins/${handIn.id}/report`, target: "_blank", rel: "noopener" }, t("Open the report")) : "–";
  return [handIn.user_name, late(handIn), report, handIn.mark?.value ?? "–",
    make("span", { className: "row" }, link(t("Project"), "/results", { project: handIn.project_id }), button(t("Mark"), () => mark(handIn)))];
}

const late = ({ created_at: when, is_late: isLate }) => (isLate ? t("{time}, late", { time: time(when) }) : time(when));

async function mark(handIn) {
  const value = make("input", { maxLength: 40, value: handIn.mark?.value ?? "" });
  const comment = make("textarea", { maxLength: 5000, rows: 4, value: handIn.mark?.comment ?? "" });
  const said = handIn.comment ? [make("p", {}, handIn.comment)] : [];
  const choices = [["return", t("Mark and return"), true], ["mark", t("Mark only")], ["", t("Not yet")]];
  const chosen = await ask(t("Mark {student}", { student: handIn.user_name }), [...said, field(t("Mark"), value), field(t("Comment"), comment)], choices);
  if (!chosen) return;
  if (!value.value.trim()) throw new Error(t("Type a mark; nothing was kept."));
  await post(`hand-ins/${handIn.id}/marks`, { value: value.value, comment: comment.value });
  if (chosen === "return") await post(`hand-ins/${handIn.id}/return`);
  location.reload();
}

function assignForm(classroom, mine) {
  const fields = [
    field(t("Title"), make("input", { name: "title", required: true, maxLength: 120 })),
    field(t("What to do"), make("textarea", { name: "text", rows: 3, maxLength: 5000 })),
    field(t("Template project"), choice([["", t("none")], ...mine.map((row) => [row.id, row.name])], { name: "template" }), t("Every student gets a copy of it.")),
    field(t("Due"), make("input", { name: "due", type: "datetime-local" })),
  ];
  return form(fields, t("Assign"), async (values) => {
    await post("assignments", {
      classroom_id: classroom.id, title: values.title, text: values.text, template_project_id: values.template || null,
      due_at: moment(values.due),
    });
    location.reload();
  }, { isMain: true });
}
