/** Everybody's accounts: find, add, change the role, give a new password, disable. */

import { ask, button, carefulButton, choice, complain, field, form, get, link, make, noteInAddress, patch, post, section, snippet } from "./base.js";
import { gpuMinutes, personLimits } from "./person-limits.js";
import { t, time } from "./words.js";

const PAGE = 50;
const ROLES = { student: () => t("student"), educator: () => t("educator"), administrator: () => t("administrator") };
const roleChoice = (properties, pairs = []) => choice([...pairs, ...Object.entries(ROLES).map(([role, text]) => [role, text()])], properties);

export async function drawPeople(main, me) {
  const asked = new URLSearchParams(location.search);
  const search = make("input", { type: "search", name: "search", maxLength: 120, value: asked.get("search") ?? "", autocomplete: "off" });
  const role = roleChoice({ name: "role", value: Object.hasOwn(ROLES, asked.get("role") ?? "") ? asked.get("role") : "" }, [["", t("every role")]]);
  const list = make("ul", { className: "people" });
  const none = make("p", { className: "empty", hidden: true }, t("Nobody is called like that; take away a letter, or add the account below."));
  let next = null;
  const show = async () => {
    const query = new URLSearchParams({ limit: PAGE, search: search.value.trim(), ...(role.value ? { role: role.value } : {}), ...(next ? { cursor: next } : {}) });
    const page = await get(`users?${query}`);
    if (!next) list.replaceChildren();
    list.append(...page.items.map((user) => personCard(user, me)));
    next = page.next;
    more.hidden = !next;
    none.hidden = list.childElementCount > 0;
  };
  const more = button(t("Show more"), show);
  const find = form([field(t("Part of the name"), search), field(t("Role"), role)], t("Find"), async () => {
    noteInAddress({ search: search.value.trim() || null, role: role.value || null });
    next = null;
    await show();
  });
  main.append(section(t("Accounts"), find, list, none, make("p", { className: "row" }, more)), section(t("Add an account"), addForm()));
  await show();
}

function personCard(user, me) {
  const secret = make("div", { role: "status" });
  const card = make("li", { className: "card", "data-user": user.name });
  const draw = () => {
    const isMe = user.id === me.user.id;
    const parts = [
      make("h3", {}, user.name, user.is_active ? null : make("small", { className: "warn" }, ` – ${t("cannot sign in")}`)),
      make("p", { className: "quiet" }, [user.display_name, t("since {time}", { time: time(user.created_at) })].filter(Boolean).join(" · ")),
      make("p", { className: "row" },
        field(t("Role of {name}", { name: user.name }), roleSelect()),
        isMe ? null : resetButton(),
        isMe ? null : activeButton(),
        link(t("What {name} did", { name: user.name }), "/admin", { part: "audit", actor: user.id })),
      make("p", {}, t("GPU minutes: {used}", { used: gpuMinutes(user.gpu_minutes, user.limits.max_gpu_minutes) })),
      user.role === "student" ? personLimits(user.id, user.name, user.limits, (limits) => {
        user.limits = limits;
        draw();
      }) : null,
      isMe ? make("p", { className: "quiet" }, t("This is you; your password is changed on the page “Account”.")) : null,
      secret,
    ];
    card.replaceChildren(...parts.filter(Boolean));
  };
  const change = async (changes) => {
    Object.assign(user, await patch(`users/${user.id}`, changes));
    draw();
  };

  function roleSelect() {
    const select = roleChoice({ value: user.role });
    select.addEventListener("change", async () => {
      const chosen = select.value;
      select.value = user.role;
      const title = t("Make {name} {role}?", { name: user.name, role: ROLES[chosen]() });
      try {
        if (await ask(title, make("p", {}, EFFECTS[chosen]()), [["yes", t("Change the role"), true], ["", t("Leave it")]]) === "yes") await change({ role: chosen });
      } catch (error) {
        complain(error);
      }
    });
    return select;
  }

  const resetButton = () => carefulButton(t("New password"), t("End the old one of {name}?", { name: user.name }), async () => {
    const { password } = await post(`users/${user.id}/reset`);
    secret.replaceChildren(...passwordOf(user, password));
  });

  const activeButton = () => (user.is_active
    ? carefulButton(t("Disable"), t("Keep {name} out?", { name: user.name }), () => change({ is_active: false }))
    : button(t("Enable"), () => change({ is_active: true })));

  draw();
  return card;
}

const EFFECTS = {
  student: () => t("A student works in projects of their own and in classes; classes that were taught until now are only attended."),
  educator: () => t("An educator makes classes and sees the projects of their students."),
  administrator: () => t("An administrator sees and changes everything of everybody."),
};

function passwordOf(user, password) {
  return [make("p", {}, make("strong", {}, t("First password of {name}; it is shown this once and must be changed:", { name: user.name }))), snippet(password)];
}

function addForm() {
  const made = make("div", { role: "status" });
  const fields = [
    field(t("Sign-in name"), make("input", { name: "name", required: true, maxLength: 60, autocomplete: "off" })),
    field(t("Shown as"), make("input", { name: "display_name", maxLength: 120, autocomplete: "off" })),
    field(t("Role"), roleChoice({ name: "role", value: "student" })),
  ];
  const adding = form(fields, t("Add the account"), async (values) => {
    const user = await post("users", values);
    adding.reset();
    made.replaceChildren(...passwordOf(user, user.password));
  }, { isMain: true });
  return make("div", {}, adding, made, make("p", { className: "quiet" }, t("A whole class is added on the page “My class”, from a pasted list of names.")));
}
