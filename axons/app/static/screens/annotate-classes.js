/** The classes of a project: colour, key and name of each. */

import { button, carefulButton, field, form, get, make, patch, post, remove, section, table } from "./base.js";
import { t } from "./words.js";

// Okabe and Ito, Color Universal Design, 2008: told apart by people who see red and green alike.
const SUGGESTED = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"];
const LAST_KEY = 9;
const BACKGROUND = 0;

export async function drawClasses(place, context) {
  const { project, mayEdit } = context;
  project.classes = await get(`projects/${project.id}/classes`);
  const classes = project.classes.filter((row) => !row.is_deleted);
  const draw = () => drawClasses(place, context);
  const head = [t("Name"), t("Colour"), t("Key"), t("Number in files")];
  const rows = classes.map((row) => [
    row.name, swatch(row), row.index <= LAST_KEY ? make("kbd", {}, String(row.index)) : t("none"), String(row.index),
  ]);
  place.replaceChildren(section(t("Classes"), table(t("Classes of {project}", { project: project.name }), head, rows, { className: "class-list" })));
  if (mayEdit) place.append(section(t("Change a class"), ...classes.map((row) => changing(project, row, draw))), adding(project, classes, draw), importing(project, draw));
}

function swatch({ colour }) {
  const patchOf = make("span", { className: "swatch", "aria-hidden": "true" });
  patchOf.style.background = colour;
  return make("span", { className: "row" }, patchOf, make("code", {}, colour));
}

function changing(project, row, draw) {
  const path = `projects/${project.id}/classes/${row.index}`;
  const name = make("input", { name: "name", value: row.name, required: true, maxLength: 80 });
  const colour = make("input", { name: "colour", type: "color", value: row.colour });
  const change = form([field(t("Name"), name), field(t("Colour"), colour), suggestions((chosen) => (colour.value = chosen))], t("Save"), async (values) => {
    await patch(path, values);
    await draw();
    return t("{name} saved.", values);
  });
  const away = carefulButton(t("Delete"), t("Really delete {name}?", row), async () => {
    await remove(path); // refused, with the tile that has it, while it is in use
    await draw();
    return t("{name} deleted.", row);
  });
  return make("details", {}, make("summary", {}, t("Change {name}", row)), change, row.index === BACKGROUND ? null : away);
}

function suggestions(choose) {
  return make("div", { className: "row", role: "group", "aria-label": t("Colours that everybody can tell apart") }, ...SUGGESTED.map((colour) => {
    const made = button("", async () => choose(colour), { className: "suggested", "aria-label": colour, title: colour });
    made.style.background = colour;
    return made;
  }));
}

function adding(project, classes, draw) {
  const taken = new Set(classes.map((row) => row.colour.toUpperCase()));
  const colour = make("input", { name: "colour", type: "color", value: (SUGGESTED.find((found) => !taken.has(found)) ?? SUGGESTED[0]).toLowerCase() });
  const name = make("input", { name: "name", required: true, maxLength: 80, autocomplete: "off" });
  return section(t("Add a class"), form([
    field(t("Name"), name), field(t("Colour"), colour), suggestions((chosen) => (colour.value = chosen)),
  ], t("Add the class"), async (values) => {
    await post(`projects/${project.id}/classes`, values);
    await draw();
    return t("{name} added.", values);
  }));
}

function importing(project, draw) {
  const file = make("input", { name: "file", type: "file", accept: ".json,application/json", required: true });
  return section(t("Take over classes"), form([
    field(t("Schema file of Django Labeller"), file, t("A JSON file; classes that are here already stay as they are.")),
  ], t("Add its classes"), async () => {
    const added = await post(`projects/${project.id}/classes:import`, await readSchema(file.files[0]));
    await draw();
    return t("{n} classes added.", { n: added.length });
  }));
}

async function readSchema(file) {
  try {
    return JSON.parse(await file.text());
  } catch {
    throw new Error(t("{name} is no JSON file; nothing was changed, choose the file that Django Labeller saved.", { name: file.name }));
  }
}
