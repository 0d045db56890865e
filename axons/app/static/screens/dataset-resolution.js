/** How large the network sees the images, shown on one tile. */

import { choice, field, make, section } from "./base.js";
import { choicesInAddress, tileToShow } from "./dataset.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

/** Draw it once, then only what follows from the plan. */
export async function drawResolution(place, screen) {
  if (!place.childElementCount) place.append(section(t("Resolution"), ...fields(screen), make("div", { className: "sizes" })));
  const shown = screen.preview?.images[0];
  const sizes = place.querySelector(".sizes");
  if (!shown) return;
  const tile = await tileToShow(screen.project, shown.image_id);
  const image = screen.images.find(({ id }) => id === shown.image_id);
  const bitmap = await load(`/api/v1/tiles/${tile.id}/image`);
  sizes.replaceChildren(
    drawn(bitmap, 1, t("As it is"), image.pixel_size_um),
    drawn(bitmap, shown.scale, t("As the network sees it"), image.pixel_size_um));
}

function fields(screen) {
  const { scale, um } = choicesInAddress();
  const kind = choice([["", t("as they are")], ["scale", t("scaled by a factor")], ["um", t("all brought to one pixel size")]], {
    value: um ? "um" : scale !== null ? "scale" : "", disabled: !screen.mayEdit,
  });
  const value = make("input", { type: "number", step: "any", min: 0.001, value: um ?? scale ?? "", disabled: !screen.mayEdit });
  const unit = make("span", {});
  const label = make("label", { className: "field" }, unit, value);
  const show = () => {
    label.hidden = kind.value === "";
    unit.textContent = kind.value === "um" ? t("µm per pixel") : t("Factor, from 0.05 to 4");
  };
  const note = () => screen.choose({ scale: kind.value === "scale" ? value.value || null : null, um: kind.value === "um" ? value.value || null : null });
  kind.addEventListener("change", () => {
    value.value = kind.value === "scale" ? 0.5 : kind.value === "um" ? (screen.images.find((image) => image.pixel_size_um)?.pixel_size_um ?? 1) : "";
    show();
    note();
  });
  value.addEventListener("change", note);
  show();
  const why = make("p", {}, ...explained(t("Smaller is faster and shows the network more at once; what is thinner than two pixels is lost. Choose the same [[resolution]] when you predict.")));
  return [why, make("div", { className: "row" }, field(t("Images are shown to the network"), kind), label)];
}

function load(address) {
  return new Promise((resolve, reject) => {
    const bitmap = new Image();
    bitmap.onload = () => resolve(bitmap);
    bitmap.onerror = () => reject(new Error(t("The picture of the tile could not be loaded; reload the page.")));
    bitmap.src = address;
  });
}

function drawn(bitmap, scale, title, pixelSize) {
  const width = Math.max(1, Math.round(bitmap.naturalWidth * scale));
  const height = Math.max(1, Math.round(bitmap.naturalHeight * scale));
  const size = t("{width} × {height} px", { width: number(width), height: number(height) });
  const text = pixelSize ? t("{size}, {um} µm per pixel", { size, um: number(pixelSize / scale, 3) }) : t("{size}, pixel size not known", { size });
  const canvas = make("canvas", { width, height, role: "img", "aria-label": `${title}: ${text}` });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  return make("figure", {}, canvas, make("figcaption", {}, make("strong", {}, title), ` – ${text}`));
}
