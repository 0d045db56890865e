/** The tiles as a gallery: how far each is, which classes it has, whose it is. */

import { addressOf, button, choice, empty, every, field, get, link, make, noteInAddress, picture, post } from "./base.js";
import { number, t } from "./words.js";

const AT_ONCE = 100;
const UNLABELLED = 255;
const IGNORED = 254;

const STATUS = {
  unlabelled: ["○", () => t("without labels")],
  started: ["◐", () => t("begun")],
  done: ["●", () => t("done")],
};

/** Filters by their names in the address, and as the route calls them. */
const FILTERS = { status: "status", image: "image_id", owner: "assigned_to", class: "class_index" };

export async function drawTiles(place, { me, project, isOwner, mayEdit }) {
  const [images, members] = await Promise.all([every(`projects/${project.id}/images`), get(`projects/${project.id}/members`)]);
  if (!images.length) {
    place.append(empty(t("There are no tiles yet: they are cut from images."), link(t("Add images"), "/images", { project: project.id }, { className: "button" })));
    return;
  }
  const shared = {
    project,
    images: new Map(images.map((image) => [image.id, image.name])),
    members: new Map(members.map((member) => [member.user_id, member.display_name || member.name])),
    classes: new Map(project.classes.map((row) => [String(row.index), row])),
    chosen: isOwner && mayEdit ? new Set() : null,
    filter: () => Object.fromEntries(new URLSearchParams(location.search)),
  };
  const shown = make("div");
  const draw = () => drawPage(shown, shared, draw);
  place.append(filters(shared, me, draw));
  if (shared.chosen) place.append(assigning(shared, members, draw));
  place.append(shown);
  await draw();
}

function filters({ project, images, members, classes, filter }, me, draw) {
  const now = filter();
  const all = ["", t("all")];
  const people = [...members].filter(([id]) => id !== me.user.id);
  const fields = {
    status: [t("Status"), Object.entries(STATUS).map(([key, [mark, text]]) => [key, `${mark} ${text()} (${number(project.num_tiles_by_status[key])})`])],
    image: [t("Image"), [...images]],
    owner: [t("Given to"), [[me.user.id, t("me")], ...people]],
    class: [t("Class in it"), [...[...classes.values()].filter((row) => !row.is_deleted).map((row) => [row.index, row.name]), [UNLABELLED, t("anything open")]]],
  };
  const made = Object.entries(fields).map(([name, [label, pairs]]) => {
    const select = choice([all, ...pairs], { value: now[name] ?? "" });
    select.addEventListener("change", () => {
      noteInAddress({ [name]: select.value || null, page: null });
      draw();
    });
    return field(label, select);
  });
  return make("div", { className: "row filters", role: "search", "aria-label": t("Filter the tiles") }, ...made);
}

async function drawPage(place, shared, draw) {
  const now = shared.filter();
  const query = new URLSearchParams({ limit: AT_ONCE });
  for (const [name, asked] of Object.entries(FILTERS)) if (now[name]) query.set(asked, now[name]);
  if (now.page) query.set("cursor", now.page);
  const page = await get(`projects/${shared.project.id}/tiles?${query}`);
  shared.chosen?.clear();
  const go = (text, cursor) => button(text, async () => {
    noteInAddress({ page: cursor });
    await draw();
    place.scrollIntoView();
  });
  place.replaceChildren(
    page.items.length
      ? make("ul", { className: "cards small tiles" }, ...page.items.map((tile) => card(tile, shared)))
      : empty(t("No tile is like that; choose another filter.")),
    make("p", { className: "row" }, make("span", { className: "quiet", role: "status" }, t("{n} tiles on this page", { n: page.items.length })),
      now.page ? go(t("First page"), null) : null, page.next ? go(t("Next page"), page.next) : null));
}

function card(tile, shared) {
  const [mark, text] = STATUS[tile.status];
  const image = shared.images.get(tile.image_id) ?? "";
  const owner = shared.members.get(tile.assigned_to);
  const address = addressOf("/annotate", { ...shared.filter(), project: shared.project.id, tile: tile.id });
  const facts = [owner && t("for {name}", { name: owner }), tile.is_blank && t("nothing to see"), tile.is_blurred && t("blurred")].filter(Boolean);
  const made = make("li", { className: "card tile" },
    make("a", { href: address }, picture(`tiles/${tile.id}/thumbnail`, ""),
      make("span", {}, t("row {row}, column {column}", { row: tile.row0, column: tile.col0 }))),
    bar(tile, shared.classes),
    make("span", { className: tile.status === "done" ? "good" : "" }, `${mark} ${text()}`),
    make("small", { title: image }, [image, ...facts].join(" · ")));
  if (shared.chosen) {
    made.append(make("label", { className: "row" }, make("input", {
      type: "checkbox", value: tile.id, onchange: ({ target }) => (target.checked ? shared.chosen.add(tile.id) : shared.chosen.delete(tile.id)),
    }), t("choose")));
  }
  return made;
}

/** The share of each class as colours side by side; the same in words for those who do not see it. */
function bar(tile, classes) {
  const all = tile.height * tile.width;
  const parts = Object.entries(tile.counts).filter(([value]) => Number(value) !== UNLABELLED)
    .map(([value, count]) => ({ count, ...(classes.get(value) ?? { name: Number(value) === IGNORED ? t("not to be learnt") : value, colour: "#a0a0a0" }) }));
  const said = parts.length
    ? parts.map(({ name, count }) => `${name} ${number((100 * count) / all)} %`).join(", ")
    : t("no class yet");
  const made = make("div", { className: "classes", role: "img", "aria-label": said, title: said });
  for (const { colour, count } of parts) {
    const part = made.appendChild(make("span"));
    part.style.background = colour;
    part.style.width = `${(100 * count) / all}%`;
  }
  return made;
}

function assigning({ project, filter, chosen, images }, members, draw) {
  const able = members.filter((member) => member.role !== "viewer");
  const person = choice([["", t("everybody (nobody in particular)")], ...able.map((member) => [member.user_id, member.display_name || member.name])]);
  const give = async (form) => {
    const { num_tiles: n } = await post(`projects/${project.id}/tiles:assign`, { user_id: person.value || null, ...form });
    await draw();
    return t("{n} tiles given.", { n });
  };
  const all = button(t("Choose all on this page"), async () => {
    for (const box of document.querySelectorAll("axons-screen .tile input")) {
      box.checked = true;
      chosen.add(box.value);
    }
  });
  const some = button(t("Give the chosen tiles"), () => {
    if (!chosen.size) throw new Error(t("No tile is chosen; tick some in the gallery first."));
    return give({ tile_ids: [...chosen] });
  });
  const whole = button(t("Give all tiles of the image"), () => {
    const image = filter().image;
    if (!images.has(image)) throw new Error(t("No image is chosen; choose one in the filter above first."));
    return give({ image_ids: [image] });
  });
  return make("details", {}, make("summary", {}, t("Give tiles to people")),
    make("p", {}, t("Tiles that are given to somebody come first in that person's queue, and in nobody else's.")),
    make("div", { className: "row end" }, field(t("To"), person), all, some, whole));
}
