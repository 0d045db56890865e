/** One's own account: password, tokens, language, signing out. */

import { button, carefulButton, choice, empty, field, form, get, make, post, remove, section, snippet, table } from "./base.js";
import { LANGUAGES, signOut } from "./menu.js";
import { chooseLanguage, language, t, time } from "./words.js";

export const words = () => ({
  title: t("Account"),
  explain: [
    t("A token lets a script or the command work in your name, without your password. Keep it like a password; end it when you no longer need it."),
    t("When you change your password, your other sessions and all your tokens end."),
  ],
  command: () => "axons token create laptop --days 90",
});

const ROLES = { student: () => t("student"), educator: () => t("educator"), administrator: () => t("administrator") };
const DAYS = [["30", () => t("30 days")], ["90", () => t("90 days")], ["365", () => t("1 year")], ["", () => t("until I end it")]];

export async function open(main, { me }) {
  const tokens = make("div", { "aria-live": "polite" });
  main.append(
    section(t("You"), table(t("Your account"), [t("What"), t("Value")], [
      [t("Sign-in name"), me.user.name],
      [t("Name"), me.user.display_name || "–"],
      [t("Role"), ROLES[me.user.role]?.() ?? me.user.role],
      [t("Member since"), time(me.user.created_at)],
    ])),
    section(t("Change password"), passwordForm(me, () => showTokens(tokens))),
    section(t("Tokens"), tokens, tokenForm(tokens)),
    section(t("Language"), languageForm()),
    section(t("Sign out"), make("p", {}, t("It ends this session; what you saved stays.")), button(t("Sign out"), signOut)));
  await showTokens(tokens);
}

function passwordForm(me, onChanged) {
  const input = (name, autocomplete) => make("input", { type: "password", name, autocomplete, required: true, maxLength: 256 });
  const current = me.has_password ? field(t("Password until now"), input("current", "current-password")) : null;
  const fields = [current, field(t("New password"), input("new", "new-password")), field(t("New password, again"), input("again", "new-password"))];
  const made = form(fields.filter(Boolean), t("Change password"), async (values) => {
    if (values.new !== values.again) throw new Error(t("The two new passwords differ; your password was not changed. Type the new one twice."));
    await post("auth/password", { new: values.new, ...(me.has_password ? { current: values.current } : {}) });
    made.reset();
    await onChanged();
    return t("Your password is changed; your other sessions and tokens have ended.");
  }, { isMain: true });
  // Lets password managers know whose password it is.
  made.prepend(make("input", { type: "text", autocomplete: "username", value: me.user.name, hidden: true, readOnly: true }));
  return made;
}

async function showTokens(place) {
  const tokens = await get("auth/tokens");
  const rows = tokens.map((token) => [
    token.name, time(token.created_at), token.expires_at ? time(token.expires_at) : t("when you end it"), token.last_used_at ? time(token.last_used_at) : t("never"),
    carefulButton(t("End it"), t("End “{name}” now?", { name: token.name }), async () => {
      await remove(`auth/tokens/${token.id}`);
      await showTokens(place);
      return t("The token has ended.");
    }, { "aria-label": t("End the token {name}", { name: token.name }) }),
  ]);
  place.replaceChildren(rows.length
    ? table(t("Your tokens that work"), [t("Name"), t("Made"), t("Ends"), t("Last used"), t("Action")], rows)
    : empty(t("You have no token. Make one below to work by the command or a script.")));
}

function tokenForm(tokens) {
  const fresh = make("div", { role: "status" });
  const days = choice(DAYS.map(([value, text]) => [value, text()]), { name: "days", value: "90" });
  const name = make("input", { name: "name", required: true, maxLength: 80, placeholder: "laptop", autocomplete: "off" });
  const made = form([field(t("What the token is for"), name), field(t("It works for"), days)], t("Make a token"), async (values) => {
    const { token } = await post("auth/tokens", { name: values.name, days: values.days ? Number(values.days) : null });
    made.reset();
    fresh.replaceChildren(make("p", {}, make("strong", {}, t("Copy the token now: it is shown this once."))), snippet(token));
    await showTokens(tokens);
  });
  return make("div", {}, make("h3", {}, t("Make a token")), made, fresh);
}

function languageForm() {
  const select = choice(LANGUAGES, { value: language, onchange: () => chooseLanguage(select.value) });
  return field(t("Language of the screens in this browser"), select);
}
