/** Small dialogs. Names that people have chosen are text, never markup. */

import { signInMethods } from "./api.js";
import { newId } from "./values.js";
import { t, time } from "../screens/words.js";

/** An element with properties and children; strings become text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * Ask something in a dialog over the page.
 * @param choices [[value, label], ...]; the first is what Enter chooses
 * @param content elements between text and buttons; `onChoice(value, form)` may be asynchronous and give false to stay
 * @returns {Promise<string|null>} the value; null for Esc
 */
export function ask({ title, text = "", choices, content = [], onChoice = () => true }) {
  const heading = element("h2", { id: newId() }, title);
  const said = element("p", { role: "status" });
  const buttons = choices.map(([value, label]) => element("button", { value }, label));
  const form = element("form", {}, heading, element("p", {}, text), ...content, said, element("menu", {}, ...buttons));
  const dialog = element("dialog", { className: "dialog" }, form);
  dialog.setAttribute("aria-labelledby", heading.id);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { value } = event.submitter ?? buttons[0];
    const isDone = await Promise.resolve(onChoice(value, form)).catch((error) => {
      said.textContent = error.message;
      return false;
    });
    if (isDone !== false) dialog.close(value);
  });
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
  });
}

/** Sign in without leaving the page. @returns {Promise<boolean>} whether to try the save again */
export async function askSignIn(api, user) {
  const field = (label, properties) => element("label", {}, label, " ", element("input", properties));
  const link = (label, href) => element("a", { href, target: "_blank" }, label);
  const school = element("p", { hidden: true }, link(t("Sign in by your school"), "/api/v1/auth/oidc/start?next=/"),
    " ", t("in a new window, then try again."));
  const password = element("p", { hidden: true }, link(t("Choose your own password"), "/login"),
    " ", t("in a new window, then try again."));
  signInMethods().then((methods) => { school.hidden = !methods.oidc; }, () => {});

  async function signIn(value, form) {
    if (value !== "sign-in") return true;
    const answer = await api.logIn(form.elements.name.value, form.elements.password.value);
    password.hidden = !answer.must_change_password;
    return !answer.must_change_password;
  }

  const choice = await ask({
    title: t("Sign in again"),
    text: t("Your session is over. Nothing is lost: what you have drawn is saved when you are signed in."),
    content: [
      field(t("Name"), { name: "name", autocomplete: "username", value: user.name }),
      field(t("Password"), { name: "password", type: "password", autocomplete: "current-password", autofocus: true }),
      school,
      password,
    ],
    choices: [["sign-in", t("Sign in")], ["again", t("Try again")], ["later", t("Not now")]],
    onChoice: signIn,
  });
  return choice === "sign-in" || choice === "again";
}

/** Offer labels that this browser has kept. */
export function askDraft({ at, isBehind }) {
  return ask({
    title: t("Labels that were not saved"),
    text: [
      t("This browser has kept your labels of {time}, which the server does not have.", { time: time(at) }),
      isBehind ? t("Somebody has saved since; both are merged.") : "",
    ].join(" "),
    choices: [["restore", t("Restore them")], ["discard", t("Discard them")]],
  });
}

/** The tile was marked done meanwhile. */
export function askLocked(detail) {
  return ask({
    title: t("The tile is done"),
    text: t("What you have drawn is not saved: {why}.", { why: detail }),
    choices: [["reopen", t("Reopen the tile and save")], ["discard", t("Discard my changes")]],
  });
}

/** Another person has signed in; the page begins anew for them. */
export async function tellOtherPerson(person, user) {
  await ask({
    title: t("{name} is signed in now", { name: person.display_name || person.name }),
    text: t("What {name} has not saved stays in this browser and is offered to them again.", { name: user.display_name || user.name }),
    choices: [["reload", t("Load the tile again")]],
  });
  location.reload();
}

/**
 * Ask what to keep where two people have changed one layer.
 * @param model see `merge` in conflict.js
 * @param {(value: number) => [number, number, number]} colourOf colour of a value in a plane
 * @returns {Promise<object|null>} "theirs", "mine" or "both" by layer id
 */
export async function askConflict(model, colourOf) {
  const theirName = model.names.join(", ") || t("Other window");
  const choices = {};
  const choice = await ask({
    title: t("You both changed the same labels"),
    text: t("Choose what to keep. What you leave out stays in the history of the tile."),
    content: model.conflicts.map((conflict, i) => question(conflict, i, model, theirName, colourOf)),
    choices: [["keep", t("Keep these")]],
    onChoice(value, form) {
      for (const [i, { id }] of model.conflicts.entries()) choices[id] = form.elements[`conflict-${i}`].value;
    },
  });
  return choice === null ? null : choices;
}

function question({ rect, mine, theirs }, i, { width, planes }, name, colourOf) {
  const option = (value, label, plane, isChosen) => element("label", {},
    ...(plane ? [preview(plane, width, rect, colourOf)] : []),
    element("input", { type: "radio", name: `conflict-${i}`, value, checked: isChosen }), ` ${label}`);
  return element("fieldset", {},
    element("legend", {}, t("Change {n}", { n: i + 1 })),
    option("theirs", theirs ? t("Keep {name}'s", { name }) : t("Deleted by {name}: delete it", { name }), planes.theirs, !mine),
    option("mine", mine ? t("Keep mine") : t("Deleted by me: delete it"), planes.mine, !theirs),
    ...(mine && theirs ? [option("both", t("Keep both: mine as a new layer on top"), null, true)] : []));
}

function preview(plane, width, { row0, col0, row1, col1 }, colourOf) {
  const image = new ImageData(col1 - col0, row1 - row0);
  for (let row = row0, at = 0; row < row1; row += 1) {
    for (let col = col0; col < col1; col += 1, at += 4) image.data.set([...colourOf(plane[row * width + col]), 255], at);
  }
  const canvas = element("canvas", { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
