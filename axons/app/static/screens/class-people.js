/** Who is in a class: join code, accounts of students, other educators. */

import { button, carefulButton, field, form, make, patch, post, remove, saveText, table } from "./base.js";
import { cardTable } from "./class-table.js";
import { personLimits } from "./person-limits.js";
import { t } from "./words.js";

const MAX_NAMES = 200;

export function joinCode(classroom) {
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

// -- Students ------------------------------------------------------------------------------------------------------------

/** The roster, and the form that adds to it. */
export function studentParts(classroom, members) {
  const students = members.filter((member) => member.role === "student");
  const secret = make("div", { "aria-live": "polite" });
  const renewed = [];
  const renew = async (member) => {
    renewed.unshift(await post(`users/${member.user_id}/reset`));
    secret.replaceChildren(passwords(renewed));
    secret.scrollIntoView({ block: "nearest" });
  };
  const head = [t("Student"), t("Sign-in name"), t("Can sign in"), t("Do")];
  const caption = students.length === 1 ? t("1 student") : t("{num} students", { num: students.length });
  const rows = students.map((member) => [member.name, studentCells(classroom, member, renew)]);
  return [students.length ? cardTable(caption, head, rows) : make("p", {}, t("No student yet.")), secret, pastedForm(classroom)];
}

function studentCells(classroom, member, renew) {
  const state = make("span", { role: "status" });
  const toggle = make("span", {});
  const { name } = member;
  const draw = () => {
    state.className = member.is_active ? "" : "warn";
    state.textContent = member.is_active ? t("yes") : t("no");
    const set = async (isActive) => {
      await patch(`users/${member.user_id}`, { is_active: isActive });
      member.is_active = isActive;
      draw();
    };
    toggle.replaceChildren(member.is_active
      ? carefulButton(t("Disable"), t("Keep {name} out?", { name }), () => set(false))
      : button(t("Enable"), () => set(true)));
  };
  draw();
  return [member.display_name || name, make("code", {}, name), state, make("span", { className: "whole row" },
    carefulButton(t("New password"), t("End the old one of {name}?", { name }), () => renew(member)),
    toggle,
    takeOut(classroom, member),
    personLimits(member.user_id, name, member.limits, (limits) => { member.limits = limits; }))];
}

function takeOut(classroom, member) {
  return carefulButton(t("Take out"), t("Take {name} out?", { name: member.name }), async () => {
    await remove(`classrooms/${classroom.id}/members/${member.user_id}`);
    location.reload();
  });
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
  const rows = created.map((user) => [user.display_name || user.name, make("code", {}, user.name), make("code", {}, user.password)]);
  const head = [t("Name"), t("Sign-in name"), t("First password")];
  const csv = [head, ...created.map((user) => [user.display_name, user.name, user.password])].map((row) => row.map(cell).join(","));
  return make("div", {}, make("p", { className: "warn" }, t("The first passwords are shown this once: print them or save the file.")),
    button(t("Save as CSV"), async () => saveText("passwords.csv", csv.join("\r\n"), "text/csv")),
    table(t("First passwords"), head, rows));
}

// -- Educators -----------------------------------------------------------------------------------------------------------

export function educatorParts(classroom, members) {
  const educators = members.filter((member) => member.role === "educator");
  const head = [t("Educator"), t("Sign-in name"), t("Do")];
  const rows = educators.map((member) => [member.name, [member.display_name || member.name, make("code", {}, member.name),
    educators.length > 1 ? takeOut(classroom, member) : t("A class keeps at least one.")]]);
  const name = make("input", { name: "name", required: true, maxLength: 60, autocomplete: "off" });
  const adding = form([field(t("Sign-in name of an educator"), name)], t("Add to the class"), async (values) => {
    await post(`classrooms/${classroom.id}/members`, { name: values.name.trim(), role: "educator" });
    location.reload();
  });
  return [cardTable(t("Who teaches the class"), head, rows), adding];
}
