/** What was done, by whom and when: the newest first, by person and by action. */

import { button, field, form, get, idInAddress, make, noteInAddress, section, table } from "./base.js";
import { t, time } from "./words.js";

const PAGE = 50;
const ACTION = /^[A-Za-z0-9_.-]{1,64}$/;

export async function drawAudit(main) {
  const actor = idInAddress("actor");
  const asked = new URLSearchParams(location.search).get("action") ?? "";
  const person = make("input", { name: "person", type: "search", maxLength: 60, autocomplete: "off", value: actor ? await nameOf(actor) : "" });
  const actions = make("datalist", { id: "actions" });
  const action = make("input", { name: "action", type: "search", list: "actions", maxLength: 64, autocomplete: "off", placeholder: "user.role", pattern: "[A-Za-z0-9_.\\-]*", value: ACTION.test(asked) ? asked : "" });
  const rows = table(t("What was done, the newest first"), [t("When"), t("Who"), t("Action"), t("To what"), t("Details")], [], { className: "audit" });
  const body = rows.querySelector("tbody");
  const none = make("p", { className: "empty", hidden: true }, t("Nothing was done that fits; leave a field empty to see more."));
  const chosen = { actor, action: action.value };
  let next = null;
  const show = async () => {
    const query = new URLSearchParams({
      limit: PAGE, ...(chosen.actor ? { actor_id: chosen.actor } : {}), ...(chosen.action ? { action: chosen.action } : {}), ...(next ? { cursor: next } : {}),
    });
    const page = await get(`audit?${query}`);
    if (!next) body.replaceChildren();
    body.append(...page.items.map(auditRow));
    const seen = new Set([...actions.children].map((option) => option.value));
    actions.append(...[...new Set(page.items.map((row) => row.action))].filter((name) => !seen.has(name)).map((value) => make("option", { value })));
    next = page.next;
    older.hidden = !next;
    none.hidden = body.childElementCount > 0;
    rows.hidden = !none.hidden;
  };
  const older = button(t("Show older"), show);
  const find = form([
    field(t("Person"), person, t("The whole sign-in name.")),
    field(t("Action"), action, t("For instance user.role, job.cancel or project.delete.")), actions,
  ], t("Find"), async () => {
    Object.assign(chosen, { actor: await idOf(person.value.trim()), action: action.value.trim() });
    noteInAddress({ actor: chosen.actor, action: chosen.action || null });
    next = null;
    await show();
  }, { isMain: true });
  main.append(section(t("What was done"), find, rows, none, make("p", { className: "row" }, older)));
  await show();
}

const nameOf = async (id) => (await get(`users/${id}`)).name;

/** The id of the account of a sign-in name; null where no name is given. */
async function idOf(name) {
  if (!name) return null;
  const { items } = await get(`users?${new URLSearchParams({ search: name, limit: 500 })}`);
  const found = items.find((user) => user.name.toLowerCase() === name.toLowerCase());
  if (!found) throw new Error(t("Nobody has the sign-in name “{name}”; the list was left as it is. Look at the people.", { name }));
  return found.id;
}

function auditRow(row) {
  const details = Object.entries(row.detail).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  return make("tr", { "data-action": row.action },
    make("th", { scope: "row" }, time(row.at)), make("td", {}, row.actor_name ?? row.actor_id ?? t("the server")),
    make("td", {}, row.action), make("td", {}, row.object_kind, make("small", {}, row.object_id)), make("td", {}, details || "–"));
}
