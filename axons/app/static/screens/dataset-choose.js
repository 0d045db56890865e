/** Which images, tiles and classes the training set takes; all are taken unless one is unticked. */

import { button, choice, every, field, make, noteInAddress, picture, section } from "./base.js";
import { choicesInAddress, labelledOf } from "./dataset.js";
import { number, t } from "./words.js";

const AT_ONCE = 48;

/** @param {object} screen see dataset.js */
export function drawChoice(screen) {
  const list = make("ul", { className: "cards small taken" });
  const more = make("p", { className: "row" });
  const count = make("p", { role: "status", className: "quiet" });
  let most = AT_ONCE;
  function draw() {
    const { without } = choicesInAddress();
    const found = matching(screen.images);
    list.replaceChildren(...found.slice(0, most).map((image) => card(screen, image, !without.has(image.id), tell)));
    more.replaceChildren(...(found.length > most ? [button(t("Show more"), async () => {
      most += AT_ONCE;
      draw();
    })] : []));
    tell();
  }
  function tell() {
    const { without } = choicesInAddress();
    const taken = screen.images.filter((image) => !without.has(image.id) && !image.is_excluded && labelledOf(image));
    count.textContent = t("Images shown: {shown} · images with labels in the set: {taken}", { shown: number(matching(screen.images).length), taken: number(taken.length) });
  }
  const tickShown = (isTaken) => async () => {
    const { without } = choicesInAddress();
    for (const { id } of matching(screen.images)) isTaken ? without.delete(id) : without.add(id);
    screen.choose({ without: joined(without) });
    draw();
  };
  draw();
  return section(t("Choose images and tiles"), filters(() => {
    most = AT_ONCE;
    draw();
  }), screen.mayEdit ? make("p", { className: "row" }, button(t("Tick all shown"), tickShown(true)), button(t("Untick all shown"), tickShown(false))) : "",
  count, list, more, classes(screen), onlyDone(screen));
}

/** A set of ids for the address, or null to say nothing. */
const joined = (ids) => (ids.size ? [...ids].join(",") : null);

function matching(images) {
  const query = new URLSearchParams(location.search);
  const name = (query.get("search") ?? "").toLowerCase();
  const split = query.get("split");
  const fits = {
    labelled: (image) => labelledOf(image) > 0,
    unlabelled: (image) => labelledOf(image) === 0,
    done: ({ num_tiles: { unlabelled, started } }) => unlabelled + started === 0,
  }[query.get("status")] ?? (() => true);
  return images.filter((image) => image.name.toLowerCase().includes(name) && (!split || (image.split ?? "drawn") === split) && fits(image));
}

function filters(draw) {
  const query = new URLSearchParams(location.search);
  const search = make("input", { type: "search", value: query.get("search") ?? "", autocomplete: "off" });
  const split = choice([["", t("all")], ["drawn", t("left to the draw")], ["train", t("train")], ["val", t("val")], ["test", t("test")]], { value: query.get("split") ?? "" });
  const status = choice([["", t("all")], ["labelled", t("with labels")], ["unlabelled", t("without labels")], ["done", t("all tiles done")]], { value: query.get("status") ?? "" });
  const note = () => {
    noteInAddress({ search: search.value || null, split: split.value || null, status: status.value || null });
    draw();
  };
  search.addEventListener("input", note);
  split.addEventListener("change", note);
  status.addEventListener("change", note);
  return make("div", { className: "row" }, field(t("Name"), search), field(t("Set split"), split), field(t("Labels"), status));
}

function tick(text, isOn, onTick, properties = {}) {
  const box = make("input", { type: "checkbox", checked: isOn, ...properties });
  box.addEventListener("change", () => onTick(box.checked));
  return make("label", { className: "tick" }, box, text);
}

function card(screen, image, isTaken, tell) {
  const all = Object.values(image.num_tiles).reduce((sum, count) => sum + count, 0);
  const said = image.is_excluded ? t("left out on the screen Images") : t("{labelled} of {all} tiles labelled", { labelled: labelledOf(image), all });
  return make("li", { className: "card" },
    picture(`images/${image.id}/thumbnail`, "", { width: 120 }),
    tick(image.name, isTaken && !image.is_excluded, (isOn) => {
      const { without } = choicesInAddress();
      isOn ? without.delete(image.id) : without.add(image.id);
      screen.choose({ without: joined(without) });
      tell();
    }, { disabled: image.is_excluded || !screen.mayEdit }),
    make("small", {}, said),
    labelledOf(image) > 1 ? tilesOf(screen, image) : "");
}

function tilesOf(screen, image) {
  const list = make("ul", { className: "tiles" });
  const details = make("details", {}, make("summary", {}, t("Tiles")), list);
  details.addEventListener("toggle", async () => {
    if (!details.open || list.childElementCount) return;
    const tiles = (await every(`projects/${screen.project.id}/tiles?${new URLSearchParams({ image_id: image.id })}`)).filter(({ revision }) => revision > 0);
    const { withoutTiles } = choicesInAddress();
    list.replaceChildren(...tiles.map((tile) => make("li", {}, picture(`tiles/${tile.id}/thumbnail`, "", { width: 48 }),
      tick(t("row {row0}, column {col0}", tile), !withoutTiles.has(tile.id), (isOn) => {
        const { withoutTiles: now } = choicesInAddress();
        isOn ? now.delete(tile.id) : now.add(tile.id);
        screen.choose({ "without-tiles": joined(now) });
      }, { disabled: !screen.mayEdit }))));
  });
  return details;
}

function classes(screen) {
  const found = screen.project.classes.filter(({ index, is_deleted: isGone }) => index && !isGone);
  const { withoutClasses } = choicesInAddress();
  const boxes = found.map(({ index, name }) => tick(name, !withoutClasses.has(String(index)), (isOn) => {
    const { withoutClasses: now } = choicesInAddress();
    isOn ? now.delete(String(index)) : now.add(String(index));
    screen.choose({ "without-classes": joined(now) });
  }, { disabled: !screen.mayEdit }));
  return make("fieldset", { className: "ticks" }, make("legend", {}, t("Classes to learn; pixels of the others are ignored")), ...boxes);
}

function onlyDone(screen) {
  return tick(t("Only tiles that are marked as done"), choicesInAddress().onlyDone, (isOn) => screen.choose({ done: isOn ? "1" : null }), { disabled: !screen.mayEdit });
}
