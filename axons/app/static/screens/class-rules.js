/** What the students of a class may do, and how much of the server they may use. */

import { complain, field, form, make, patch } from "./base.js";
import { number, t } from "./words.js";

export function switches(classroom) {
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

const GIB = 2 ** 30;
const MEGA = 1e6;

/** Name of a limit, what it is called, how many there are of what the server counts, attributes of its field. */
const LIMITS = () => [
  ["max_active_trainings", t("Trainings of a student at a time"), 1, { min: 0, max: 100, step: 1 }],
  ["max_training_minutes", t("Longest training, minutes"), 1, { min: 0.1, max: 10_000, step: "any" }],
  ["max_gpu_minutes", t("GPU minutes of a student in all"), 1, { min: 0, step: "any" }],
  ["max_prediction_pixels", t("Largest image predicted at once, megapixels"), MEGA, { min: 0.001, step: "any" }],
  ["max_project_bytes", t("Storage of a project, GiB"), GIB, { min: 0, step: "any" }],
  ["max_user_bytes", t("Storage of all projects of a student, GiB"), GIB, { min: 0, step: "any" }],
];

export function limitsForm(classroom) {
  const fields = LIMITS().map(([name, text, unit, attributes]) => {
    const value = classroom.limits[name];
    const input = make("input", { type: "number", name, value: value === null ? "" : value / unit, ...attributes });
    const otherwise = classroom.default_limits[name];
    return field(text, input, otherwise === null ? t("no limit where the field is empty") : t("{n} where the field is empty", { n: plain(otherwise / unit) }));
  });
  return form(fields, t("Save the limits"), async (values) => {
    const limits = Object.fromEntries(LIMITS().map(([name, , unit]) => [name, values[name] === "" ? null : unit === 1 ? Number(values[name]) : Math.round(Number(values[name]) * unit)]));
    Object.assign(classroom, await patch(`classrooms/${classroom.id}`, { limits }));
    return t("The limits hold from the next training, prediction and upload on.");
  });
}

const plain = (value) => number(value, Number.isInteger(value) ? 0 : 1);
