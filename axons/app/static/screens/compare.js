/** A picture before and after: a divider and an opacity, both moved by pointer or keys. */

import { field, make } from "./base.js";
import { t } from "./words.js";

const OPACITY = 45;

/**
 * Two pictures of one size over each other; left of the divider only the first is seen.
 * @param {{before: string, after: string, name: string}} what addresses of both, and the image's name
 */
export function compare({ before, after, name }) {
  const below = make("img", { src: before, alt: t("{name}, the image", { name }) });
  const above = make("img", { src: after, alt: t("{name}, the mask of its classes", { name }) });
  const line = make("span", { className: "divider", "aria-hidden": "true" });
  const divider = make("input", { type: "range", min: 0, max: 100, value: 0, name: "divider" });
  const opacity = make("input", { type: "range", min: 0, max: 100, value: OPACITY, name: "opacity" });
  const draw = () => {
    above.style.clipPath = `inset(0 0 0 ${divider.value}%)`;
    above.style.opacity = opacity.value / 100;
    line.style.left = `${divider.value}%`;
    divider.setAttribute("aria-valuetext", t("{percent} % of the width without the mask", { percent: divider.value }));
    opacity.setAttribute("aria-valuetext", `${opacity.value} %`);
  };
  divider.addEventListener("input", draw);
  opacity.addEventListener("input", draw);
  draw();
  return make("div", { className: "compare" },
    make("div", { className: "stage" }, below, above, line),
    make("div", { className: "row" }, field(t("Before ↔ after"), divider), field(t("Opacity of the mask"), opacity)));
}
