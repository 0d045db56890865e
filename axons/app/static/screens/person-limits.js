/** What one person may use instead of what the class and the installation allow. */

import { field, form, make, patch } from "./base.js";
import { number, t } from "./words.js";

const LIMITS = () => [
  ["max_active_trainings", t("Trainings at a time"), { min: 0, max: 100, step: 1 }],
  ["max_gpu_minutes", t("GPU minutes in all"), { min: 0, max: 1_000_000, step: "any" }],
];

/** "12 of 60 min", or "12 min" where there is no limit. */
export function gpuMinutes(used, allowed) {
  const n = number(used, used < 10 ? 1 : 0);
  return allowed === null ? t("{n} min", { n }) : t("{n} of {most} min", { n, most: number(allowed) });
}

/** A part that opens, with the form in it. `onSaved` gets the limits as they are now. */
export function personLimits(id, name, limits, onSaved) {
  const fields = LIMITS().map(([limit, text, attributes]) => field(text,
    make("input", { type: "number", name: limit, value: limits[limit] ?? "", placeholder: t("as the class"), ...attributes })));
  const made = form(fields, t("Save the limits of {name}", { name }), async (values) => {
    const wanted = Object.fromEntries(LIMITS().map(([limit]) => [limit, values[limit] === "" ? null : Number(values[limit])]));
    onSaved((await patch(`users/${id}`, { limits: wanted })).limits);
    return t("The limits of {name} hold from the next training on.", { name });
  });
  return make("details", {}, make("summary", {}, t("Limits of {name}", { name })),
    make("p", { className: "quiet" }, t("They count instead of those of the class; an empty field means those. On the CPU one may train without GPU minutes.")), made);
}
