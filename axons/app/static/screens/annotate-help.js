/** What annotators read beside the canvas: the instructions of the project, and pictures of good and bad labels. */

import { carefulButton, choice, empty, field, form, get, make, patch, picture, post, remove, section } from "./base.js";
import { sendFile } from "./upload.js";
import { t } from "./words.js";

export async function drawHelp(place, context) {
  const { project, isOwner, mayEdit } = context;
  const examples = await get(`projects/${project.id}/examples`);
  const draw = () => drawHelp(place, context);
  place.replaceChildren(
    section(t("Instructions"), isOwner ? writing(project) : reading(project)),
    section(t("Example pictures"), examples.length
      ? make("ul", { className: "cards examples" }, ...examples.map((row) => card(project, row, mayEdit, draw)))
      : empty(t("No pictures yet. A picture of good labels teaches more than a page of text."))),
    ...(mayEdit ? [await adding(project, draw)] : []));
}

function reading(project) {
  return make("p", { className: "instructions" }, project.instructions || t("The owner has written none yet."));
}

function writing(project) {
  const text = make("textarea", { name: "instructions", rows: 7, maxLength: 20_000, value: project.instructions });
  return form([field(t("What shall be labelled, and how"), text, t("Shown beside each tile: where a class begins, what to do at borders, what to leave out."))],
    t("Save the instructions"), async (values) => {
      Object.assign(project, await patch(`projects/${project.id}`, values));
      return t("Instructions saved.");
    });
}

function card(project, row, mayEdit, draw) {
  const path = `projects/${project.id}/examples/${row.id}`;
  return make("li", { className: "card" }, picture(`${path}/picture`, row.caption, { width: row.width, height: row.height }),
    make("p", { className: row.is_good ? "good" : "bad" }, row.is_good ? `✓ ${t("like this")}` : `✗ ${t("not like this")}`),
    make("p", {}, row.caption),
    mayEdit ? carefulButton(t("Remove"), t("Really remove this picture?"), async () => {
      await remove(path);
      await draw();
      return t("Picture removed.");
    }) : null);
}

async function adding(project, draw) {
  const path = `projects/${project.id}/examples`;
  const labelled = [
    ...(await get(`projects/${project.id}/tiles?status=done&limit=100`)).items,
    ...(await get(`projects/${project.id}/tiles?status=started&limit=100`)).items,
  ];
  const common = () => [
    field(t("Caption"), make("input", { name: "caption", required: true, maxLength: 200 })),
    field(t("It shows"), choice([["good", t("how it is done")], ["bad", t("how it is not done")]], { name: "kind" })),
  ];
  const add = async ({ caption, kind }, source) => {
    await post(path, { caption, is_good: kind === "good", ...source });
    await draw();
    return t("Picture added.");
  };
  const images = new Map((await get(`projects/${project.id}/images?limit=500`)).items.map((image) => [image.id, image.name]));
  const tile = choice(labelled.map((row) => [row.id, t("{image}, row {row}, column {column}",
    { image: images.get(row.image_id) ?? "", row: row.row0, column: row.col0 })]), { name: "tile" });
  const file = make("input", { name: "file", type: "file", accept: "image/*,.tif,.tiff", required: true });
  return section(t("Add an example picture"),
    labelled.length
      ? form([field(t("Tile with labels"), tile), ...common()], t("Add the tile"), (values) => add(values, { tile_id: values.tile }))
      : make("p", { className: "quiet" }, t("Once a tile has labels, it can be an example, too.")),
    form([field(t("Picture from a file"), file), ...common()], t("Add the picture"), async (values) => {
      const upload = await sendFile(file.files[0], { project_id: project.id, purpose: "example" });
      return add(values, { upload_id: upload.id });
    }));
}
