/** Who works on a project: by name, by role, and by links that invite. */

import { button, carefulButton, choice, field, form, get, make, patch, post, remove, snippet, table } from "./base.js";
import { t, time } from "./words.js";

export const ROLES = { owner: () => t("owner"), editor: () => t("editor"), viewer: () => t("viewer") };
const DAYS = [["1", () => t("1 day")], ["7", () => t("7 days")], ["30", () => t("30 days")]];

/**
 * Show the members of a project; its owners change them, everybody else may leave.
 * @param {HTMLElement} place is filled
 * @param {() => void} onLeft the person has left the project
 */
export async function showMembers(place, project, me, onLeft) {
  const mayChange = project.role === "owner";
  const again = () => showMembers(place, project, me, onLeft);
  const members = await get(`projects/${project.id}/members`);
  const rows = members.map((member) => [member.display_name || member.name, role(project, member, mayChange, again), action(project, member, me, mayChange, again, onLeft)]);
  const parts = [table(t("Members of {project}", { project: project.name }), [t("Name"), t("Role"), t("Action")], rows)];
  if (mayChange) parts.push(addForm(project, again), ...(await invitations(project, again)));
  place.replaceChildren(...parts);
}

function role(project, member, mayChange, again) {
  if (!mayChange || member.is_creator) return ROLES[member.role]();
  const select = choice(rolePairs(), { value: member.role, "aria-label": t("Role of {name}", { name: member.name }) });
  select.addEventListener("change", async () => {
    try {
      await patch(`projects/${project.id}/members/${member.user_id}`, { role: select.value });
    } finally {
      await again();
    }
  });
  return select;
}

const rolePairs = (names = Object.keys(ROLES)) => names.map((name) => [name, ROLES[name]()]);

function action(project, member, me, mayChange, again, onLeft) {
  if (member.is_creator) return t("made the project");
  const isMe = member.user_id === me.user.id;
  if (!isMe && !mayChange) return null;
  return carefulButton(isMe ? t("Leave the project") : t("Remove"), isMe ? t("Leave now?") : t("Remove {name} now?", { name: member.name }), async () => {
    await remove(`projects/${project.id}/members/${member.user_id}`);
    if (isMe) onLeft();
    else await again();
  }, isMe ? {} : { "aria-label": t("Remove {name}", { name: member.name }) });
}

function addForm(project, again) {
  const name = make("input", { name: "name", required: true, maxLength: 60, autocomplete: "off" });
  const roles = choice(rolePairs(), { name: "role", value: "editor" });
  return form([field(t("Sign-in name"), name), field(t("Role"), roles, t("Editors work on everything, viewers only look."))], t("Add a member"), async (values) => {
    await post(`projects/${project.id}/members`, values);
    await again();
    return t("{name} works on the project now.", { name: values.name });
  });
}

async function invitations(project, again) {
  const links = await get(`projects/${project.id}/invitations`);
  const fresh = make("div", { role: "status" });
  const roles = choice(rolePairs(["editor", "viewer"]), { name: "role", value: "editor" });
  const days = choice(DAYS.map(([value, text]) => [value, text()]), { name: "days", value: "7" });
  const made = form([field(t("Whoever opens the link becomes"), roles), field(t("It works for"), days)], t("Make a link"), async (values) => {
    const { link } = await post(`projects/${project.id}/invitations`, { role: values.role, days: Number(values.days) });
    fresh.replaceChildren(make("p", {}, make("strong", {}, t("Copy the link now: it is shown this once."))), snippet(link));
  });
  const rows = links.map((link) => [ROLES[link.role](), time(link.expires_at), button(t("End the link"), async () => {
    await remove(`projects/${project.id}/invitations/${link.id}`);
    await again();
  })]);
  return [make("h4", {}, t("Invite by a link")), made, fresh, ...(rows.length ? [table(t("Links that work"), [t("Role"), t("Ends"), t("Action")], rows)] : [])];
}
