/** The tour of the first visit: five short steps, which the menu starts again. */

import { button, make } from "./base.js";
import { explained } from "./terms.js";
import { t } from "./words.js";

const STORED = "axons-tour";
const ASKED = "tour";

const STEPS = [
  [() => t("From images to a model"), () => t("A project holds your [[image|images]]. Press “Try the sample” to begin with images that are labelled already.")],
  [() => t("Label"), () => t("Axons cuts images into [[tile|tiles]]. On “Annotate” you draw each [[class]]: pick it by its key, draw, save and go on.")],
  [() => t("Train"), () => t("Freeze a [[training-set|training set]], then press “Start training” on “Train”. A minute is enough for a first [[model]].")],
  [() => t("Look and correct"), () => t("“Results” tells the [[iou]] of each class and shows the worst tiles. Correct them, freeze again, train again.")],
  [() => t("Use it"), () => t("“Predict” applies the model to new images. Dotted words explain themselves; beside each screen you read what happens.")],
];

/** Show the tour on top of my projects at the first visit, or where one has asked for it. */
export function offerTour(main, { name }) {
  const isAsked = new URLSearchParams(location.search).has(ASKED);
  if (name !== "home" || (localStorage.getItem(STORED) && !isAsked)) return;
  localStorage.setItem(STORED, "seen");
  showTour(main);
}

/** Show the tour again. */
export function startTour() {
  location.assign(`/?${ASKED}=1`);
}

function showTour(main) {
  // Not modal: who knows the way presses what is beneath.
  const dialog = make("dialog", { className: "tour", open: true, "aria-labelledby": "tour-title" });
  const end = () => dialog.remove();
  const show = (place) => {
    const [title, text] = STEPS[place];
    const isLast = place === STEPS.length - 1;
    dialog.replaceChildren(
      make("p", { className: "quiet" }, t("Tour, step {step} of {steps}", { step: place + 1, steps: STEPS.length })),
      make("h2", { id: "tour-title", tabIndex: -1 }, title()),
      make("p", {}, ...explained(text())),
      make("div", { className: "row" },
        place ? button(t("Back"), async () => go(place - 1)) : null,
        button(isLast ? t("Begin") : t("Next"), async () => (isLast ? end() : go(place + 1))),
        isLast ? null : button(t("Skip the tour"), async () => end())));
  };
  const go = (place) => {
    show(place);
    dialog.querySelector("h2").focus();
  };
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && end());
  show(0);
  main.append(dialog);
}
