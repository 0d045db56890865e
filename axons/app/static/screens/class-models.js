/** The models that a class shares: try them, share one's own, take them back. */

import { button, choice, every, field, form, link, make, post, section } from "./base.js";
import { cardTable } from "./class-table.js";
import { number, t, time } from "./words.js";

const EDITORS = new Set(["owner", "editor"]);

export async function modelsPart(classroom) {
  const place = make("div", {});
  await draw(classroom, place);
  return section(t("Models of the class"), place);
}

async function draw(classroom, place) {
  const [shared, models, projects] = await Promise.all([every(`classrooms/${classroom.id}/models`), every("models"), every("projects")]);
  const mine = new Map(projects.filter((row) => row.classroom_id === classroom.id && EDITORS.has(row.role) && !row.archived_at).map((row) => [row.id, row]));
  const head = [t("Model"), t("Mean IoU"), t("Trained"), t("Do")];
  const rows = shared.map((model) => [model.name, [
    titleOf(model), model.mean_iou === null ? t("not scored") : number(model.mean_iou, 3), time(model.created_at),
    make("span", { className: "whole row" },
      link(t("Try"), "/predict", { model: model.id }, { className: "button", "aria-label": t("Try {name}, version {version}", model) }),
      mine.has(model.project_id) ? unshare(classroom, model, place) : null)]]);
  place.replaceChildren(
    rows.length ? cardTable(t("What everybody in the class may use"), head, rows) : make("p", {}, t("No model is shared with the class.")),
    ...sharing(classroom, models.filter((model) => mine.has(model.project_id) && model.visibility === "private"), mine, place));
}

const titleOf = (model) => `${model.name} · ${t("version {version}", { version: model.version })}`;

function unshare(classroom, model, place) {
  return button(t("Stop sharing"), async () => {
    await post(`models/${model.id}/share`, { visibility: "private" });
    await draw(classroom, place);
    return t("Only its project may use it from now on.");
  }, { "aria-label": t("Stop sharing {name}, version {version}", model) });
}

function sharing(classroom, own, mine, place) {
  const isTeaching = classroom.your_role !== "student";
  if (!isTeaching && !classroom.switches.may_share_models) return [make("p", { className: "quiet" }, t("Students of this class do not share models at the moment; an educator can allow it."))];
  if (!own.length) return [make("p", { className: "quiet" }, t("A model that comes out of a project of this class can be shared here."))];
  const pairs = own.map((model) => [model.id, `${mine.get(model.project_id).name} · ${titleOf(model)}`]);
  return [form([field(isTeaching ? t("A model of a project of the class") : t("A model of mine"), choice(pairs, { name: "model" }))], t("Share with the class"), async (values) => {
    await post(`models/${values.model}/share`, { visibility: "classroom" });
    await draw(classroom, place);
    return t("Everybody in the class may use it from now on.");
  })];
}
