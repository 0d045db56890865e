/** What stands out among the images, each left out and taken back with one press. */

import { button, get, make, patch, picture, section } from "./base.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

const percent = (share) => number(100 * share);

const SENTENCES = {
  "duplicate": ({ other_name }) => t("is the same file as {other}", { other: other_name }),
  "near-duplicate": ({ other_name }) => t("looks like {other}, perhaps mirrored or turned", { other: other_name }),
  "size": () => t("has another size or other channels than most images"),
  "blur": ({ share }) => t("seems blurred: {share} % of its tiles have no fine detail", { share: percent(share) }),
  "dark": ({ share }) => t("is underexposed: {share} % of its values are the darkest possible", { share: percent(share) }),
  "bright": ({ share }) => t("is overexposed: {share} % of its values are the brightest possible", { share: percent(share) }),
  "blank": () => t("shows nothing: every tile is blank"),
};

/** @param {() => Promise<void>} onChange what else shows whether an image is excluded */
export async function drawChecks(place, project, mayEdit, onChange) {
  const { num_images, findings, sizes } = await get(`projects/${project.id}/checks`);
  const draw = () => drawChecks(place, project, mayEdit, onChange);
  const open = findings.filter((row) => !row.is_excluded).length;
  const summary = findings.length
    ? t("{open} of {all} findings are still in use. Look at each; a finding is a hint, not a fault.", { open, all: findings.length })
    : num_images === 1
      ? t("Nothing stands out in the image: no blur, no clipped exposure.")
      : t("Nothing stands out in {n} images: no copies, no odd sizes, no blur, no clipped exposure.", { n: num_images });
  const counts = sizes.slice(0, 6).map((row) => t("{width} × {height} px, {channels}: {n}", {
    width: row.width, height: row.height, n: row.num_images, channels: row.channels === 1 ? t("grey") : t("colour"),
  }));
  place.replaceChildren(section(t("Checks"),
    make("p", { role: "status" }, summary),
    make("p", { className: "quiet" }, ...explained(t("A [[near-duplicate]] in two splits makes every score too good.")), ` ${t("Sizes:")} ${counts.join(" · ")}`),
    make("ul", { className: "findings" }, ...findings.map((row) => drawFinding(row, mayEdit, async () => {
      await draw();
      await onChange();
    })))));
}

function drawFinding(row, mayEdit, onChange) {
  const change = (isExcluded) => async () => {
    await patch(`images/${row.image_id}`, { is_excluded: isExcluded });
    await onChange();
  };
  const tools = mayEdit && (row.is_excluded
    ? button(t("Undo"), change(false), { "aria-label": t("Use {name} again", { name: row.name }) })
    : button(t("Exclude"), change(true), { "aria-label": t("Exclude {name}", { name: row.name }) }));
  return make("li", { className: row.is_excluded ? "out" : "" },
    picture(`images/${row.image_id}/thumbnail`, ""), row.other_id ? picture(`images/${row.other_id}/thumbnail`, "") : "",
    make("span", {}, make("strong", {}, row.name), ` ${SENTENCES[row.kind](row)}`, row.is_excluded ? ` · ${t("excluded")}` : ""), tools || "");
}
