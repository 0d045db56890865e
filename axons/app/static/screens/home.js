/** My projects: each with its way through the pipeline; what is new, what is put away. */

import { addressOf, button, carefulButton, choice, complain, empty, every, field, form, get, link, make, noteInAddress, patch, post, remove, section, table } from "./base.js";
import { ROLES, showMembers } from "./members.js";
import { nextStep, stageOf } from "./stages.js";
import { number, t, time } from "./words.js";

const AT_ONCE = 24;
const PAUSE_MS = 300; // after a key, before the search
const TILES = [64, 128, 256, 512, 1024];

export const words = () => ({
  title: t("My projects"),
  explain: [
    t("A project goes from images to a [[model]]: add images, label [[tile|tiles]], freeze a [[training-set|training set]], train, look, correct."),
    t("✓ is done, ● is what comes now, ○ comes later. The link on each card leads to what comes now."),
    t("What you delete stays in the trash for some days, and you can have it back."),
  ],
  command: () => "axons project list",
});

export async function open(main, { me }) {
  const query = new URLSearchParams(location.search);
  const [sample, tasks] = await Promise.all([get("projects:sample"), every("assignments", 20)]);
  const list = make("div", { "aria-live": "polite" });
  const trash = make("div", {});
  const shown = { search: query.get("search") ?? "", isArchived: query.has("archived") };
  const show = async () => {
    await Promise.all([showProjects(list, shown, me, show), showTrash(trash, show)]);
  };
  if (query.has("invitation")) main.append(invitation(query.get("invitation")));
  main.append(begin(sample, query.has("invitation")), myTasks(tasks), finder(shown, show), list, trash);
  await show();
}

// -- Begin ---------------------------------------------------------------------------------------------------------------

function invitation(code) {
  return section(t("You are invited"), make("p", {}, t("Somebody has sent you a link to a project of theirs.")), make("p", { className: "row" },
    button(t("Join the project"), async () => {
      const { project_id } = await post("invitations/accept", { code });
      location.assign(addressOf("/images", { project: project_id }));
    }, { isMain: true }),
    button(t("Not now"), async () => {
      noteInAddress({ invitation: null });
      location.reload();
    })));
}

/** The sample for who has not tried it, and a new project. */
function begin(sample, isInvited) {
  const maySample = sample.state === "ready" && !sample.project_id;
  const place = make("div", { className: "begin" });
  const openNew = button(t("New project"), async () => showForm(), { isMain: !maySample && !isInvited });
  const buttons = make("p", { className: "row" },
    maySample ? button(t("Try the sample"), openSample, { isMain: !isInvited }) : null,
    sample.project_id ? link(t("Open my sample project"), "/images", { project: sample.project_id }, { className: "button" }) : null,
    openNew,
    sample.state === "preparing" && !sample.project_id ? make("span", { className: "quiet" }, t("The sample project is being prepared; reload in a minute.")) : null);
  async function showForm() {
    const made = await projectForm(() => place.replaceChildren(buttons));
    place.replaceChildren(made);
    made.querySelector("input").focus();
  }
  place.append(buttons);
  return place;
}

async function openSample() {
  const project = await post("projects:sample");
  location.assign(addressOf(nextStep(project).path, { project: project.id }));
}

async function projectForm(onLeft) {
  const classrooms = await every("classrooms");
  const name = make("input", { name: "name", required: true, maxLength: 120, autocomplete: "off" });
  const classes = make("input", { name: "classes", required: true, value: t("object"), autocomplete: "off" });
  const tile = choice(TILES.map((side) => [side, t("{side} × {side} px", { side })]), { name: "tile", value: "256" });
  const rooms = classrooms.length ? choice([["", t("none")], ...classrooms.map((room) => [room.id, room.name])], { name: "classroom_id" }) : null;
  const made = form([
    field(t("Name"), name),
    field(t("Classes to find"), classes, t("Separate them by commas. Background is always there, and you can add more later.")),
    field(t("Size of the tiles"), tile, t("What you label at one sitting; you can cut anew later and keep every label.")),
    rooms && field(t("For the class"), rooms, t("Its educators see the project.")),
    make("div", { className: "row" }, button(t("Back"), async () => onLeft())),
  ].filter(Boolean), t("Create the project"), async (values) => {
    const names = values.classes.split(",").map((text) => text.trim()).filter(Boolean);
    const project = await post("projects", {
      name: values.name, tile: Number(values.tile), classes: [t("background"), ...names], classroom_id: values.classroom_id || null,
    });
    location.assign(addressOf("/images", { project: project.id }));
  }, { isMain: true });
  return section(t("New project"), made);
}

function myTasks(tasks) {
  const open = tasks.filter((task) => !task.your_hand_in_id);
  if (!open.length) return "";
  const lines = open.slice(0, 5).map((task) => make("li", {}, link(task.title, "/class", { task: task.id }),
    task.due_at ? make("span", { className: "quiet" }, ` · ${t("until {time}", { time: time(task.due_at) })}`) : null));
  return section(t("Tasks of my class"), make("ul", {}, ...lines), link(t("All tasks"), "/class"));
}

// -- Projects ------------------------------------------------------------------------------------------------------------

function finder(shown, show) {
  const search = make("input", { type: "search", value: shown.search, maxLength: 120 });
  const which = choice([["", t("in use")], ["1", t("in the archive")]], { value: shown.isArchived ? "1" : "" });
  const again = () => {
    Object.assign(shown, { search: search.value.trim(), isArchived: which.value === "1" });
    noteInAddress({ search: shown.search || null, archived: shown.isArchived ? "1" : null });
    show().catch(complain);
  };
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(again, PAUSE_MS);
  });
  which.addEventListener("change", again);
  return make("div", { className: "row finder", role: "search" }, field(t("Search by name"), search), field(t("Projects"), which));
}

async function showProjects(place, { search, isArchived }, me, again) {
  const address = (cursor) => `projects?${new URLSearchParams({ search, is_archived: isArchived, limit: AT_ONCE, ...(cursor ? { cursor } : {}) })}`;
  const page = await get(address(null));
  const cards = make("ul", { className: "cards projects" });
  const more = make("p", {});
  const add = ({ items, next }) => {
    cards.append(...items.map((project) => card(project, me, again)));
    more.replaceChildren(next ? button(t("Show more"), async () => add(await get(address(next)))) : "");
  };
  add(page);
  if (page.items.length) place.replaceChildren(cards, more);
  else if (search) place.replaceChildren(empty(t("No project is called so. Search for a part of its name.")));
  else if (isArchived) place.replaceChildren(empty(t("Nothing is in the archive. “Change” on a card puts a project there.")));
  else place.replaceChildren(empty(t("You have no project yet. Press “New project” above, or try the sample to see how it goes.")));
}

/** A project; its stages come a moment later. */
function card(project, me, again) {
  const way = make("div", { className: "way" });
  const people = project.owner_id === me.user.id ? t("yours") : t("of {owner}, you are {role}", { owner: project.owner_name, role: ROLES[project.role]?.() ?? project.role });
  get(`projects/${project.id}`).then((detail) => showWay(way, detail)).catch(complain);
  return make("li", { className: "card" },
    make("h2", {}, link(project.name, "/images", { project: project.id })),
    make("p", { className: "quiet" }, `${people} · ${t("changed {time}", { time: time(project.updated_at) })}`),
    project.description ? make("p", { className: "description" }, project.description) : null,
    way,
    changes(project, me, again));
}

function showWay(place, project) {
  const stages = project.stages.map(({ name }) => {
    const { mark, state, said, text } = stageOf(project, name);
    return make("li", { className: state }, make("span", { className: `mark ${state}`, role: "img", "aria-label": said }, mark), ` ${text}`);
  });
  const { path, text } = nextStep(project);
  place.replaceChildren(make("ol", { className: "stages" }, ...stages),
    link(`${text} →`, path, { project: project.id }, { className: "button", "aria-label": t("{step} in {project}", { step: text, project: project.name }) }));
}

/** What one may change of a project, made when it is opened. */
function changes(project, me, again) {
  const inside = make("div", {});
  const isOwner = project.role === "owner";
  const summary = make("summary", { "aria-label": `${isOwner ? t("Change") : t("Members")}: ${project.name}` }, isOwner ? t("Change") : t("Members"));
  const details = make("details", {}, summary, inside);
  details.addEventListener("toggle", () => {
    if (!details.open || inside.childElementCount) return;
    const members = make("div", {});
    inside.append(...(isOwner ? ownerForms(project, again) : []), make("h3", {}, t("Members")), members);
    showMembers(members, project, me, again).catch(complain);
  });
  return details;
}

function ownerForms(project, again) {
  const name = make("input", { name: "name", required: true, maxLength: 120, value: project.name, autocomplete: "off" });
  const description = make("textarea", { name: "description", rows: 3, maxLength: 20_000, value: project.description });
  const isArchived = project.archived_at !== null;
  return [
    form([field(t("Name"), name), field(t("Description"), description)], t("Save"), async (values) => {
      await patch(`projects/${project.id}`, values);
      await again();
      return t("Name and description are saved.");
    }),
    make("p", { className: "row" },
      button(isArchived ? t("Take out of the archive") : t("Put into the archive"), async () => {
        await patch(`projects/${project.id}`, { is_archived: !isArchived });
        await again();
        return isArchived ? t("{name} is in use again.", { name: project.name }) : t("{name} is in the archive; choose “in the archive” to see it.", { name: project.name });
      }),
      carefulButton(t("Delete"), t("Put it into the trash?"), async () => {
        await remove(`projects/${project.id}`);
        await again();
        return t("{name} is in the trash below; you can restore it.", { name: project.name });
      })),
  ];
}

// -- Trash ---------------------------------------------------------------------------------------------------------------

const KINDS = {
  project: () => t("project"), image: () => t("image"), training_set: () => t("training set"), run: () => t("run"),
  model: () => t("model"), prediction: () => t("prediction"),
};

async function showTrash(place, again) {
  const rows = (await get("trash")).map((row) => [row.label, KINDS[row.kind]?.() ?? row.kind, time(row.purge_after),
    button(t("Restore"), async () => {
      await post(`trash/${row.id}/restore`);
      await again();
      return t("{name} is back.", { name: row.label });
    }, { "aria-label": t("Restore {name}", { name: row.label }) })]);
  const wasOpen = place.querySelector("details")?.open ?? false;
  place.replaceChildren(rows.length
    ? make("details", { open: wasOpen }, make("summary", {}, t("Trash ({count})", { count: number(rows.length) })),
      table(t("What you can have back"), [t("Name"), t("Kind"), t("Gone for good"), t("Action")], rows))
    : "");
}
