/** My class: for students their tasks and the models of the class, for educators all that they do for it. */

import { ask, button, choice, empty, every, field, form, get, idInAddress, link, make, post, section } from "./base.js";
import { modelsPart } from "./class-models.js";
import { drawClassroom } from "./class-teaching.js";
import { number, t, time } from "./words.js";

export const isWide = true;

export const words = () => ({
  title: t("My class"),
  explain: [
    t("An educator hands out tasks; each student works on a project of their own and hands in a [[training-set]] and a [[run]] with its report."),
    t("You may hand in again; the newest counts."),
    t("Educators see how far everybody is, who waits for a [[gpu]], and who is stuck: whose last [[training]] failed, or who has changed nothing for some time."),
  ],
  command: ({ me }) => {
    const chosen = idInAddress("classroom");
    return me.user.role !== "student" && chosen ? `axons class progress ${chosen}` : "axons class list";
  },
});

export async function open(main, { me }) {
  const classrooms = await every("classrooms");
  const task = idInAddress("task");
  const wanted = task ? (await get(`assignments/${task}`)).classroom_id : idInAddress("classroom");
  const chosen = classrooms.find((row) => row.id === wanted) ?? classrooms[0];
  if (classrooms.length > 1) main.append(chooser(classrooms, chosen));
  if (!chosen) main.append(empty(t("You are in no class yet.")));
  else if (chosen.your_role === "student") await drawTasks(main, chosen);
  else await drawClassroom(main, chosen, me);
  main.append(section(t("Another class"), joinForm(), me.user.role === "student" ? null : newForm()));
}

function chooser(classrooms, chosen) {
  const select = choice(classrooms.map((row) => [row.id, row.name]), { value: chosen.id });
  select.addEventListener("change", () => location.assign(`/class?classroom=${select.value}`));
  return field(t("Class"), select);
}

function joinForm() {
  const code = make("input", { name: "code", required: true, autocomplete: "off", maxLength: 64 });
  return form([field(t("Join code"), code, t("Your educator has it."))], t("Join"), async (values) => {
    const joined = await post("classrooms/join", values);
    location.assign(`/class?classroom=${joined.id}`);
  });
}

function newForm() {
  const name = make("input", { name: "name", required: true, maxLength: 120 });
  return form([field(t("Name of the class"), name)], t("Make a class"), async (values) => {
    const made = await post("classrooms", values);
    location.assign(`/class?classroom=${made.id}`);
  });
}

// -- A student's tasks ---------------------------------------------------------------------------------------------------

async function drawTasks(main, classroom) {
  const tasks = await every(`assignments?classroom_id=${classroom.id}`);
  main.append(make("p", { className: "quiet" }, classroom.name));
  if (!tasks.length) {
    main.append(empty(t("There is no task yet."), link(t("Look at my projects"), "/")));
  } else {
    const cards = await Promise.all(tasks.map(taskCard));
    main.append(section(t("My tasks"), make("ul", { className: "cards" }, ...cards)));
  }
  main.append(await modelsPart(classroom));
}

async function taskCard(task, place) {
  const isFirst = place === 0; // one main action on a screen
  const handIns = task.your_hand_in_id ? (await get(`assignments/${task.id}/hand-ins?limit=1`)).items : [];
  const mark = handIns[0]?.mark;
  const state = handIns[0]?.returned_at ? t("returned") : handIns.length ? t("handed in {time}", { time: time(handIns[0].created_at) }) : t("open");
  return make("li", { className: "card" },
    make("h3", {}, task.title),
    make("p", {}, task.text),
    task.due_at ? make("p", {}, t("Due {time}", { time: time(task.due_at) })) : null,
    make("p", { role: "status" }, state),
    mark ? make("p", { className: "good" }, `${t("Mark: {value}", { value: mark.value })} · ${mark.comment}`) : null,
    make("p", { className: "row" },
      task.your_project_id
        ? link(t("Open my project"), "/images", { project: task.your_project_id }, { className: "button" })
        : button(t("Start"), () => start(task)),
      task.your_project_id ? button(t("Hand in"), () => handIn(task), { isMain: isFirst }) : null));
}

async function start(task) {
  const { project_id: id } = await post(`assignments/${task.id}/start`);
  location.assign(`/images?project=${id}`);
}

async function handIn(task) {
  const project = task.your_project_id;
  const [sets, runs] = await Promise.all([every(`projects/${project}/training-sets`), every(`runs?project_id=${project}`)]);
  const done = runs.filter((run) => run.state === "done");
  if (!sets.length || !done.length) {
    throw new Error(t("Freeze a training set and train on it first; then hand in both."));
  }
  const set = choice(sets.map((row) => [row.id, row.name]));
  const run = choice(done.map((row) => [row.id, `${t("Run {number}", { number: row.number })} · ${number(row.mean_iou, 3)}`]));
  const comment = make("textarea", { maxLength: 5000, rows: 4 });
  const fields = [field(t("Training set"), set), field(t("Run"), run), field(t("What you found out"), comment)];
  if (await ask(t("Hand in"), fields, [["yes", t("Hand in"), true], ["", t("Not yet")]]) !== "yes") return null;
  await post(`assignments/${task.id}/hand-ins`, { project_id: project, training_set_id: set.value, run_id: run.value, comment: comment.value });
  location.reload();
  return t("It is handed in.");
}
