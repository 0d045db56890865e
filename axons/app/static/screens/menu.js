/** The menu of the account: account, language, tour, description of REST, sign-out. */

import { button, complain, link, make, post } from "./base.js";
import { startTour } from "./tour.js";
import { chooseLanguage, language, t } from "./words.js";

/** Languages by their own names. */
export const LANGUAGES = [["en", "English"], ["fr", "Français"]];

export function drawMenu({ me }) {
  const name = me.user.display_name || me.user.name;
  const languages = LANGUAGES.map(([code, text]) =>
    button(text, async () => chooseLanguage(code), { "aria-pressed": String(code === language), lang: code }));
  const panel = make("div", { className: "panel" },
    make("p", { className: "quiet" }, name),
    link(t("Account"), "/account"),
    me.user.role === "administrator" ? link(t("Administration"), "/admin") : null,
    make("div", { className: "row", role: "group", "aria-label": t("Language") }, ...languages),
    button(t("Start the tour"), async () => startTour()),
    make("a", { href: "/api/docs" }, t("Description of REST")),
    button(t("Sign out"), signOut));
  return disclosure(t("Menu"), "☰", panel);
}

/** End this session and go where one signs in. */
export async function signOut() {
  await post("auth/logout");
  location.assign("/login");
}

/**
 * A button that shows a panel below it; Escape, a press elsewhere and leaving it by keys close the panel.
 * @param {string} label what the button is called
 * @param {string | Node} face what stands on it
 * @param {() => Promise<void> | void} onOpen before it is shown
 */
export function disclosure(label, face, panel, onOpen = () => {}) {
  const toggle = make("button", { type: "button", "aria-label": label, "aria-expanded": "false" }, face);
  const whole = make("div", { className: "disclosure" }, toggle, panel);
  const show = (isOpen) => {
    panel.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
  };
  show(false);
  toggle.addEventListener("click", async () => {
    const isOpen = panel.hidden;
    try {
      if (isOpen) await onOpen();
    } catch (error) {
      complain(error);
    }
    show(isOpen);
  });
  whole.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.hidden) return;
    show(false);
    toggle.focus();
  });
  whole.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !whole.contains(event.relatedTarget)) show(false);
  });
  document.addEventListener("pointerdown", (event) => {
    if (!whole.contains(event.target)) show(false);
  });
  return whole;
}
