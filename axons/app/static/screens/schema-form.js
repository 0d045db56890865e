/** Fields made from a JSON schema, so that a new setting of the server appears by itself. */

import { choice, field, make } from "./base.js";
import { t } from "./words.js";

/**
 * Fields for the properties of an object's schema.
 * @param {object} schema of an object, as pydantic writes it: bounds, enums, defaults, descriptions, `anyOf` with null
 * @param {object} options `without`: names that have their own place elsewhere; `values` to begin with
 * @returns {{element: HTMLElement, values: () => object, complain: (name: string, text: string) => boolean, clear: () => void}}
 *   `values` gives what differs from the defaults; `complain` writes under a field, and tells whether there is one
 */
export function schemaForm(schema, { without = [], values = {} } = {}) {
  const names = Object.keys(schema.properties).filter((name) => !without.includes(name));
  const fields = new Map(names.map((name) => [name, schemaField(name, schema.properties[name], values[name])]));
  const element = make("div", { className: "settings" }, ...[...fields.values()].map((each) => each.element));
  return {
    element,
    values: () => Object.fromEntries([...fields].map(([name, each]) => [name, each.value()]).filter(([, value]) => value !== undefined)),
    complain(name, text) {
      const found = fields.get(name);
      if (!found) return false;
      found.complain(text);
      return true;
    },
    clear: () => fields.forEach((each) => each.complain("")),
  };
}

function schemaField(name, property, given) {
  const kinds = (property.anyOf ?? [property]).filter(({ type }) => type !== "null");
  const isOptional = kinds.length < (property.anyOf?.length ?? 1);
  const shown = given ?? property.default ?? null;
  const input = inputOf(kinds, { isOptional, shown });
  input.name = name;
  const wrong = make("small", { className: "bad", role: "alert", id: `wrong-${name}` });
  const title = t(property.title ?? name);
  const hint = [t(property.description ?? ""), boundsOf(kinds[0])].filter(Boolean).join(" ");
  const element = make("div", { className: "setting" }, field(title, input, hint), wrong);
  return {
    element,
    value: () => changed(valueOf(input, kinds[0]), property.default ?? null),
    complain(text) {
      wrong.textContent = text;
      input.toggleAttribute("aria-invalid", Boolean(text));
      if (text) input.setAttribute("aria-describedby", wrong.id);
      if (text) input.focus();
    },
  };
}

function inputOf(kinds, { isOptional, shown }) {
  const fixed = kinds.flatMap((kind) => kind.enum ?? ("const" in kind ? [kind.const] : [])).map(String);
  if (fixed.length) {
    const pairs = fixed.map((value) => [value, t(value)]);
    return choice(isOptional ? [["", t("by itself")], ...pairs] : pairs, { value: String(shown ?? "") });
  }
  const [kind] = kinds;
  if (kind.type === "boolean") return make("input", { type: "checkbox", checked: Boolean(shown) });
  if (kind.type === "integer" || kind.type === "number") {
    const step = kind.multipleOf ?? (kind.type === "integer" ? 1 : "any");
    return make("input", { type: "number", step, min: kind.minimum ?? kind.exclusiveMinimum, max: kind.maximum ?? kind.exclusiveMaximum,
      value: shown ?? "", placeholder: isOptional ? t("by itself") : "" });
  }
  return make("input", { type: "text", maxLength: kind.maxLength, value: shown ?? "", placeholder: isOptional ? t("by itself") : "" });
}

function valueOf(input, kind) {
  if (input.type === "checkbox") return input.checked;
  if (input.value === "") return null;
  return kind.type === "integer" || kind.type === "number" ? Number(input.value) : input.value;
}

/** Settings that are as they were by default are not sent: the server's own default may change. */
const changed = (value, standard) => (value === standard ? undefined : value);

function boundsOf(kind) {
  const low = kind.minimum ?? kind.exclusiveMinimum;
  const high = kind.maximum ?? kind.exclusiveMaximum;
  if (low === undefined || high === undefined) return "";
  return kind.multipleOf
    ? t("From {low} to {high}, a multiple of {step}.", { low, high, step: kind.multipleOf })
    : t("From {low} to {high}.", { low, high });
}
