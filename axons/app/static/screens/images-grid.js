/** The tiles that another tile size would make, drawn over an image and counted, before they are made. */

import { ask, button, choice, every, field, get, make, noteInAddress, post, section, watchJob } from "./base.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

const SMALLEST = 64;
const LARGEST = 2048;

/** Tiles of an image: side by side from the top left, the last ones smaller; as the server's grid without overlap. */
const countTiles = ({ height, width }, tile) => Math.ceil(height / tile) * Math.ceil(width / tile);

export async function drawGrid(place, project, images, mayEdit, onTiled) {
  const query = new URLSearchParams(location.search);
  const { sizes } = await get(`projects/${project.id}/checks`);
  const canvas = make("canvas", { className: "grid", role: "img" });
  const picked = choice(images.map((image) => [image.id, image.name]), { value: images.find((image) => image.id === query.get("image"))?.id ?? images[0].id });
  const size = make("input", { type: "number", min: SMALLEST, max: LARGEST, step: 1, value: query.get("tile") ?? project.tile, inputMode: "numeric" });
  const slider = make("input", { type: "range", min: SMALLEST, max: 1024, step: 32, value: size.value, "aria-label": t("Tile size") });
  const said = make("p", { role: "status", "aria-live": "polite", className: "count" });
  const job = make("div", { "aria-live": "polite" });
  const background = new Image();
  const isFine = () => Number.isInteger(Number(size.value)) && size.value >= SMALLEST && size.value <= LARGEST;
  const total = () => sizes.reduce((sum, row) => sum + row.num_images * countTiles(row, Number(size.value)), 0);
  const retile = button(t("Make these tiles"), async () => {
    const body = t("{before} tiles of {old} px become {after} tiles of {new} px. Every label stays where it is, and so do training sets that are frozen.", {
      before: number(project.num_tiles), old: project.tile, after: number(total()), new: size.value,
    });
    if (await ask(t("Make tiles of {tile} px?", { tile: size.value }), make("p", {}, body), [["", t("Cancel")], ["yes", t("Make tiles")]]) !== "yes") return;
    await watch(await post(`projects/${project.id}/tilings`, { tile: Number(size.value) }));
  });
  const watch = async (row) => {
    retile.hidden = true;
    const done = await watchJob(job, row);
    retile.hidden = false;
    if (done.state === "done") await onTiled(done.reason);
  };
  const show = () => {
    retile.disabled = !isFine() || Number(size.value) === project.tile;
    if (!isFine()) {
      said.textContent = t("Choose a size from {least} to {most} px.", { least: SMALLEST, most: LARGEST });
      return;
    }
    const image = images.find((row) => row.id === picked.value);
    const text = t("Tiles in this image: {n}. In all images of the project: {all}; now there are {now} of {old} px.", {
      n: number(countTiles(image, Number(size.value))), all: number(total()), now: number(project.num_tiles), old: project.tile,
    });
    said.textContent = text;
    canvas.setAttribute("aria-label", text);
    paint(canvas, background, image, Number(size.value));
  };
  const fetchPicture = () => {
    background.src = `/api/v1/images/${picked.value}/view?max_side=1024`;
  };
  background.addEventListener("load", show);
  picked.addEventListener("change", () => {
    noteInAddress({ image: picked.value });
    fetchPicture();
    show();
  });
  slider.addEventListener("input", () => {
    size.value = slider.value;
    size.dispatchEvent(new Event("input"));
  });
  size.addEventListener("input", () => {
    if (isFine()) {
      slider.value = size.value;
      noteInAddress({ tile: size.value });
    }
    show();
  });
  fetchPicture();
  show();
  place.replaceChildren(section(t("Tiles"),
    make("p", {}, ...explained(t("People label one [[tile]] at a time. The last tiles of a row and column are smaller: no border is cut off."))),
    make("div", { className: "row end" }, field(t("Image"), picked), field(t("Tile size, px"), size), slider, mayEdit ? retile : ""),
    said, job, canvas));
  const [going] = await every(`jobs?project_id=${project.id}&kind=tile&is_over=false`, 1);
  if (going) watch(going);
}

function paint(canvas, background, { height, width }, tile) {
  const factor = Math.min(1, 1024 / Math.max(height, width));
  Object.assign(canvas, { height: Math.max(1, Math.round(height * factor)), width: Math.max(1, Math.round(width * factor)) });
  const context = canvas.getContext("2d");
  if (background.complete && background.naturalWidth) context.drawImage(background, 0, 0, canvas.width, canvas.height);
  // Light on dark: the lines are seen on any picture.
  for (const [colour, thickness] of [["#000", 3], ["#ffe066", 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    for (let row0 = 0; row0 < height; row0 += tile) {
      for (let col0 = 0; col0 < width; col0 += tile) {
        context.strokeRect(col0 * factor, row0 * factor, Math.min(tile, width - col0) * factor, Math.min(tile, height - row0) * factor);
      }
    }
  }
}
