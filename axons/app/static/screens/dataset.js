/** The training set: what is labelled, what to take, how it is split, what is wrong with it; then frozen as a version. */

import { empty, every, get, link, make, noteInAddress, post, section } from "./base.js";
import { drawBalance, drawDiversity } from "./dataset-balance.js";
import { drawChoice } from "./dataset-choose.js";
import { drawResolution } from "./dataset-resolution.js";
import { drawDraw, drawSplit } from "./dataset-split.js";
import { drawFreeze, drawVersions } from "./dataset-versions.js";
import { number, t } from "./words.js";

const PAUSE_MS = 300; // after a change, before the server plans

export const needsProject = true;

export const words = () => ({
  title: t("Training set"),
  explain: [
    t("A [[training-set|training set]] is a frozen list of labelled [[tile|tiles]]: what you label later changes the next [[version]], never this one."),
    t("The model learns from train, [[validation]] shows how well it does while it learns, and [[test]] is kept for the end. Whole images are split, never tiles: neighbours look too much alike."),
    t("[[leakage|Leakage]] is when images that belong together lie in two splits: the scores then say more than the model can."),
  ],
  command: ({ project }) => project && commandOf(project),
});

function commandOf(project) {
  const { parts, group, seed, scale, onlyDone } = choicesInAddress();
  const options = [
    parts.join("/") !== "70/15/15" && `--split ${parts.join("/")}`, group && `--group ${quoted(group)}`, seed && `--seed ${seed}`,
    scale !== null && `--scale ${scale}`, onlyDone && "--only-done",
  ];
  return ["axons training-set create", quoted(project.name), ...options.filter(Boolean)].join(" ");
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export async function open(main, { project }) {
  const screen = {
    project, images: await every(`projects/${project.id}/images`), preview: null, problem: null,
    mayEdit: project.role !== "viewer" && !project.archived_at,
  };
  const numLabelled = screen.images.reduce((sum, image) => sum + labelledOf(image), 0);
  main.append(labelled(screen, numLabelled));
  const versions = make("div", {});
  if (numLabelled) main.append(planning(screen, versions));
  main.append(versions);
  await drawVersions(versions, screen);
}

/** Tiles of an image that have labels. */
export const labelledOf = ({ num_tiles: { started, done } }) => started + done;

function labelled({ project, images }, numLabelled) {
  if (!images.length) return empty(t("There are no images yet."), link(t("Add images"), "/images", { project: project.id }, { className: "button" }));
  const toLabel = link(t("Annotate tiles"), "/annotate", { project: project.id }, { className: "button" });
  if (!numLabelled) return empty(t("No tile is labelled yet; a training set is made of labelled tiles."), toLabel);
  const tiles = images.reduce((sum, { num_tiles: { unlabelled, started, done } }) => sum + unlabelled + started + done, 0);
  const done = images.reduce((sum, { num_tiles }) => sum + num_tiles.done, 0);
  const share = Math.round((100 * numLabelled) / tiles);
  const text = t("{labelled} of {tiles} tiles in {images} images have labels ({share} %), {done} are marked as done.", {
    labelled: number(numLabelled), tiles: number(tiles), images: number(images.length), share, done: number(done),
  });
  return section(t("What is labelled"), make("p", { className: "job" }, make("progress", { max: tiles, value: numLabelled, "aria-label": t("Labelled tiles") }), text), make("p", {}, toLabel));
}

/** Everything that ends in a frozen version. */
function planning(screen, versions) {
  const told = make("div", { className: "told" });
  const resolution = make("div", {});
  const freezing = make("div", {});
  let turn = 0;
  /** Ask what the choices in the address would freeze, and show it. */
  async function plan() {
    const mine = (turn += 1);
    told.setAttribute("aria-busy", "true");
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (mine !== turn) return;
    const [preview, problem] = await planned(screen);
    if (mine !== turn) return;
    Object.assign(screen, { preview, problem });
    told.removeAttribute("aria-busy");
    told.replaceChildren(...(problem ? [make("p", { role: "alert", className: "bad" }, problem)] : [...drawSplit(screen), drawBalance(preview), drawDiversity(preview)]));
    drawFreeze(freezing, screen, versions);
    await drawResolution(resolution, screen);
  }
  screen.choose = (query) => {
    noteInAddress(query);
    return plan();
  };
  screen.again = async () => {
    screen.images = await every(`projects/${screen.project.id}/images`);
    await plan();
  };
  plan();
  return make("div", {}, drawChoice(screen), drawDraw(screen), told, resolution, freezing);
}

async function planned(screen) {
  try {
    screen.form = await formOf(screen);
    return [await post(`projects/${screen.project.id}/training-sets:preview`, screen.form), null];
  } catch (error) {
    return [null, error.message];
  }
}

/** What is chosen, as the address says it. */
export function choicesInAddress() {
  const query = new URLSearchParams(location.search);
  const listed = (name) => new Set((query.get(name) ?? "").split(",").filter(Boolean));
  const numeric = (name) => (query.get(name) && Number.isFinite(Number(query.get(name))) ? Number(query.get(name)) : null);
  return {
    without: listed("without"), withoutTiles: listed("without-tiles"), withoutClasses: listed("without-classes"), onlyDone: query.has("done"),
    parts: (query.get("parts") ?? "70/15/15").split("/").map(Number), group: query.get("group"), seed: numeric("seed") ?? 0,
    scale: numeric("scale"), um: numeric("um"),
  };
}

/** What `POST training-sets` takes. */
async function formOf({ project, images }) {
  const { without, withoutTiles, withoutClasses, onlyDone, parts, group, seed, scale, um } = choicesInAddress();
  if (parts.reduce((sum, part) => sum + part, 0) !== 100) throw new Error(t("Train, val and test must add up to 100 %; change one of them."));
  const taken = images.filter((image) => !without.has(image.id) && !image.is_excluded);
  if (!taken.length) throw new Error(t("No image is ticked; tick at least one."));
  return {
    image_ids: without.size ? taken.map(({ id }) => id) : null,
    tile_ids: withoutTiles.size ? (await labelledTiles(project)).filter((id) => !withoutTiles.has(id)) : null,
    classes: withoutClasses.size ? project.classes.filter(({ index, is_deleted: gone }) => index && !gone && !withoutClasses.has(String(index))).map(({ name }) => name) : null,
    only_done: onlyDone, fractions: parts.map((part) => part / 100), group, seed, ...(um ? { pixel_size_um: um } : { scale: scale ?? 1 }),
  };
}

let tileIds = null;

async function labelledTiles(project) {
  tileIds ??= (await every(`projects/${project.id}/tiles`)).filter(({ revision }) => revision > 0).map(({ id }) => id);
  return tileIds;
}

/** A tile of an image with labels, else its first. */
export async function tileToShow(project, imageId) {
  const { items } = await get(`projects/${project.id}/tiles?${new URLSearchParams({ image_id: imageId, limit: 50 })}`);
  return items.find(({ revision }) => revision > 0) ?? items[0];
}
