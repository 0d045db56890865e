/** Images: add them, check them, say what they are, and cut them into tiles. */

import { button, carefulButton, choice, empty, field, form, get, link, make, noteInAddress, patch, picture, post, remove, say, section, table } from "./base.js";
import { drawAdding } from "./images-add.js";
import { drawChecks } from "./images-checks.js";
import { drawGrid } from "./images-grid.js";
import { openViewer } from "./viewer.js";
import { fromServer, number, t } from "./words.js";

const AT_ONCE = 100;
const SPLITS = () => [["", t("drawn by chance")], ["train", t("training")], ["val", t("validation")], ["test", t("test")]];

export const needsProject = true;

export const words = () => ({
  title: t("Images"),
  explain: [
    t("Add the pictures that you want to measure. Each [[image]] is kept as it came, pixel by pixel, and cut into [[tile|tiles]] to be labelled."),
    t("Images of one animal, patient or slide belong to one group: a group never lies in two [[split|splits]]."),
    t("Say the [[pixel-size]], and areas come out in µm²."),
  ],
  command: ({ project }) => project && `axons images add "${project.name}" images/`,
});

export async function open(main, context) {
  const mayEdit = context.project.role !== "viewer" && !context.project.archived_at;
  const adding = make("div");
  const [grid, checks, list] = [make("div"), make("div"), make("div")];
  const search = { text: new URLSearchParams(location.search).get("search") ?? "" };
  let project = context.project;
  const drawAll = async () => {
    project = await get(`projects/${project.id}`);
    await drawList(list, project, search, mayEdit, drawAll);
    await Promise.all([drawChecked(), drawTiled()]);
  };
  const drawChecked = async () => (project.num_images ? drawChecks(checks, project, mayEdit, () => drawList(list, project, search, mayEdit, drawAll)) : checks.replaceChildren());
  const drawTiled = async () => {
    const { items } = await get(`projects/${project.id}/images?limit=${AT_ONCE}`);
    if (items.length) await drawGrid(grid, project, items, mayEdit, async (said) => {
      noteInAddress({ tile: null });
      say(said);
      await drawAll();
    });
    else grid.replaceChildren();
  };
  main.append(adding, list, checks, grid);
  if (mayEdit) drawAdding(adding, project, drawAll);
  else adding.append(make("p", { className: "quiet" }, t("You may look at these images; the project's owner may let you add some.")));
  await drawAll();
}

async function drawList(place, project, search, mayEdit, onChange) {
  if (!project.num_images) {
    place.replaceChildren(mayEdit ? empty(t("No images yet. Add some above; tiles of {tile} px are made at once.", { tile: project.tile })) : empty(t("No images yet.")));
    return;
  }
  const query = (cursor) => new URLSearchParams({ limit: AT_ONCE, ...(search.text ? { search: search.text } : {}), ...(cursor ? { cursor } : {}) });
  const page = await get(`projects/${project.id}/images?${query()}`);
  const body = make("div");
  const rows = [...page.items];
  let cursor = page.next;
  const again = () => drawList(place, project, search, mayEdit, onChange);
  const more = button(t("Show more"), async () => {
    const following = await get(`projects/${project.id}/images?${query(cursor)}`);
    rows.push(...following.items);
    cursor = following.next;
    show();
  });
  const show = () => {
    more.hidden = !cursor;
    const head = [t("Image"), t("Size, px"), t("Pixel, µm"), t("Group"), t("Split"), t("Tiles with labels"), t("Do")];
    body.replaceChildren(rows.length ? table(t("Images of the project, by name"), head, rows.map((row) => drawRow(row, mayEdit, again, onChange)), { className: "images" }) : make("p", {}, t("No image has this in its name.")));
  };
  show();
  const finding = form([field(t("Find by name"), make("input", { name: "text", type: "search", value: search.text }))], t("Find"), async ({ text }) => {
    search.text = text.trim();
    noteInAddress({ search: search.text || null });
    await again();
  });
  const next = link(t("Annotate these images"), "/annotate", { project: project.id }, { className: "button" });
  place.replaceChildren(section(project.num_images === 1 ? t("1 image") : t("{n} images", { n: number(project.num_images) }), make("div", { className: "row end" }, finding, next), body, more));
}

function drawRow(image, mayEdit, again, onChange) {
  const { unlabelled, started, done } = image.num_tiles;
  const look = make("button", { type: "button", className: "look", "aria-label": t("Look at {name}", { name: image.name }) }, picture(`images/${image.id}/thumbnail`, ""));
  look.addEventListener("click", () => openViewer(image.id));
  const notices = image.notices.map((text) => make("small", {}, fromServer(text)));
  const state = image.is_excluded ? make("span", { className: "warn" }, t("excluded")) : "";
  const name = make("div", { className: "named" }, look, make("span", {}, make("span", {}, image.name), state, ...notices));
  const split = Object.fromEntries(SPLITS())[image.split ?? ""];
  const size = `${image.width} × ${image.height}`;
  const tools = mayEdit ? make("div", { className: "row" },
    button(t("Edit"), async () => edit(image, again), { "aria-label": t("Edit {name}", { name: image.name }) }),
    button(image.is_excluded ? t("Use again") : t("Exclude"), async () => {
      await patch(`images/${image.id}`, { is_excluded: !image.is_excluded });
      await onChange();
    }),
    carefulButton(t("Delete"), t("Press again to delete"), () => discard(image, onChange))) : "–";
  return [name, size, image.pixel_size_um === null ? "–" : number(image.pixel_size_um, 3), image.group ?? "–", split, t("{n} of {all}", { n: started + done, all: unlabelled + started + done }), tools];
}

/** Into the trash, with the way back offered at once. */
async function discard(image, onChange) {
  await remove(`images/${image.id}`);
  await onChange();
  say(t("{name} is in the trash with its labels.", { name: image.name }));
  const undo = button(t("Take {name} back", { name: image.name }), async () => {
    const trash = await get("trash");
    await post(`trash/${trash.find((row) => row.object_id === image.id).id}/restore`);
    undo.remove();
    await onChange();
  });
  document.getElementById("main").querySelector(".drop").append(undo);
}

function edit(image, again) {
  const dialog = make("dialog", { "aria-label": t("Edit {name}", { name: image.name }) });
  const values = [
    field(t("Name"), make("input", { name: "name", required: true, maxLength: 255, value: image.name })),
    field(t("Group"), make("input", { name: "group", maxLength: 120, value: image.group ?? "" }), t("Animal, patient or slide; its images stay in one split.")),
    field(t("Split"), choice(SPLITS(), { name: "split", value: image.split ?? "" })),
    field(t("Pixel size, µm"), make("input", { name: "pixel_size_um", type: "number", min: 0, step: "any", value: image.pixel_size_um ?? "" })),
  ];
  dialog.append(make("h2", {}, image.name), form(values, t("Save"), async (given) => {
    await patch(`images/${image.id}`, {
      name: given.name, group: given.group.trim() || null, split: given.split || null,
      pixel_size_um: given.pixel_size_um === "" ? null : Number(given.pixel_size_um),
    });
    dialog.close();
    await again();
  }), button(t("Cancel"), async () => dialog.close()));
  dialog.addEventListener("close", () => dialog.remove());
  document.querySelector("axons-screen").append(dialog);
  dialog.showModal();
}
