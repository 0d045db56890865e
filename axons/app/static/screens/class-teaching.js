/** What an educator does for a class: people, tasks, and what was handed in. */

import { ask, button, carefulButton, choice, complain, every, field, form, link, make, patch, post, remove, saveText, section, table } from "./base.js";
import { t, time } from "./words.js";

const MAX_NAMES = 200;

export async function drawClassroom(main, classroom) {
  const [members, tasks, projects] = await Promise.all([
    every(`classrooms/${classroom.id}/members`), every(`assignments?classroom_id=${classroom.id}`), every("projects"),
  ]);
  const students = members.filter((member) => member.role === "student");
  main.append(
    section(t("Tasks"), ...(await taskParts(tasks)), assignForm(classroom, projects)),
    section(t("Join code"), joinCode(classroom)),
    section(t("Roster"), roster(classroom, members, students), pastedForm(classroom)),
    section(t("What students may do"), ...switches(classroom)));
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
        carefulButton(t("Withdraw"), t("Withdraw the task?"), async () => {
          await remove(`assignments/${task.id}`);
          location.reload();
        })));
  }));
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

function assignForm(classroom, projects) {
  const mine = projects.filter((project) => project.role === "owner");
  const fields = [
    field(t("Title"), make("input", { name: "title", required: true, maxLength: 120 })),
    field(t("What to do"), make("textarea", { name: "text", rows: 3, maxLength: 5000 })),
    field(t("Template project"), choice([["", t("none")], ...mine.map((row) => [row.id, row.name])], { name: "template" }), t("Every student gets a copy of it.")),
    field(t("Due"), make("input", { name: "due", type: "datetime-local" })),
  ];
  return form(fields, t("Assign"), async (values) => {
    await post("assignments", {
      classroom_id: classroom.id, title: values.title, text: values.text, template_project_id: values.template || null,
      due_at: values.due ? new Date(values.due).toISOString() : null,
    });
    location.reload();
  }, { isMain: true });
}

// -- People --------------------------------------------------------------------------------------------------------------

function joinCode(classroom) {
  return make("p", { className: "row" },
    make("strong", {}, classroom.join_code ?? t("Nobody can join by a code.")),
    button(t("Make a new code"), async () => {
      await post(`classrooms/${classroom.id}/join-code`);
      location.reload();
    }),
    classroom.join_code ? button(t("Let nobody else join"), async () => {
      await remove(`classrooms/${classroom.id}/join-code`);
      location.reload();
    }) : null);
}

function roster(classroom, members, students) {
  const roles = { student: t("student"), educator: t("educator") };
  const rows = members.map((member) => [member.name, member.display_name || "–", roles[member.role], member.is_active ? t("yes") : t("no"),
    carefulButton(t("Take out"), t("Take out of the class?"), async () => {
      await remove(`classrooms/${classroom.id}/members/${member.user_id}`);
      location.reload();
    })]);
  return table(t("{num} students", { num: students.length }), [t("Name"), t("Shown as"), t("Role"), t("Can sign in"), t("Do")], rows);
}

function pastedForm(classroom) {
  const names = make("textarea", { name: "names", rows: 4, required: true });
  const place = make("div", { "aria-live": "polite" });
  const made = form([field(t("Add students"), names, t("One name a line; each gets an account and a first password."))], t("Make the accounts"), async (values) => {
    const lines = values.names.split("\n").map((line) => line.trim()).filter(Boolean);
    if (lines.length > MAX_NAMES) throw new Error(t("These are {num} names; paste at most {most} at once.", { num: lines.length, most: MAX_NAMES }));
    const created = await post(`classrooms/${classroom.id}/students`, { students: lines.map((name) => ({ name: signInName(name), display_name: name })) });
    names.value = "";
    place.replaceChildren(passwords(created));
  });
  return make("div", {}, made, place);
}

/** What somebody of this name types to sign in: "Ana Müller" is ana.muller. */
const signInName = (name) => name.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/\s+/g, ".").replace(/[^\p{L}\p{N}_.@+-]/gu, "").replace(/^[.@+-]+/, "");

/** Names that begin with a sign of a formula are kept from running in a spreadsheet. */
const cell = (text) => `"${(/^[=+\-@]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;

function passwords(created) {
  const rows = created.map((user) => [user.display_name, make("code", {}, user.name), make("code", {}, user.password)]);
  const head = [t("Name"), t("Sign-in name"), t("First password")];
  const csv = [head, ...created.map((user) => [user.display_name, user.name, user.password])].map((row) => row.map(cell).join(","));
  return make("div", {}, make("p", { className: "warn" }, t("The first passwords are shown this once: print them or save the file.")),
    button(t("Save as CSV"), async () => saveText("passwords.csv", csv.join("\r\n"), "text/csv")),
    table(t("First passwords"), head, rows));
}

function switches(classroom) {
  const texts = {
    may_train: t("Train"), may_share_models: t("Share models"), may_invite: t("Invite others"), may_create_projects: t("Create projects"), may_predict: t("Predict"),
  };
  return Object.entries(classroom.switches).map(([name, isOn]) => {
    const box = make("input", { type: "checkbox", checked: isOn });
    box.addEventListener("change", () => patch(`classrooms/${classroom.id}`, { switches: { [name]: box.checked } }).catch((error) => {
      box.checked = !box.checked;
      complain(error);
    }));
    return make("label", { className: "row" }, box, texts[name]);
  });
}
