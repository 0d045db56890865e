/** Labels from other tools and for other tools. */

import { choice, field, form, make, post, section } from "./base.js";
import { sendFile } from "./upload.js";
import { t } from "./words.js";

const IMPORTED = [
  ["png", () => t("PNG masks, called like their images")], ["coco", () => "COCO (JSON)"], ["cvat", () => "CVAT (XML)"],
  ["labelme", () => "LabelMe (JSON)"], ["labeller", () => "Django Labeller (JSON)"],
];
const EXPORTED = [
  ["png", () => t("PNG masks")], ["coco", () => "COCO"], ["cvat", () => "CVAT"], ["labelme", () => "LabelMe"],
  ["labelstudio", () => "Label Studio"], ["labeller", () => "Django Labeller"], ["project", () => t("the whole project, to import it elsewhere")],
];

export async function drawFiles(place, { project, mayEdit, watch }) {
  place.replaceChildren(...(mayEdit ? [importing(project, watch)] : []), exporting(project, watch));
}

const tick = (name, text, hint) => field(text, make("input", { type: "checkbox", name }), hint);
const texts = (pairs) => pairs.map(([key, text]) => [key, text()]);

function importing(project, watch) {
  const files = make("input", { name: "files", type: "file", multiple: true, required: true });
  const format = choice(texts(IMPORTED), { name: "format" });
  const coloured = tick("coloured", t("Masks have the colours of the classes here"), t("Else they hold the numbers of the classes."));
  const open = tick("fills", t("What the labels leave open is background"), t("Else it stays open and is not learnt."));
  const fit = () => {
    coloured.hidden = format.value !== "png";
    open.hidden = format.value === "png";
  };
  format.addEventListener("change", fit);
  fit();
  const progress = make("p", { role: "status" });
  return section(t("Import labels"),
    make("p", {}, t("The images must be in the project already. Labels that a tile had before stay in its history.")),
    form([
      field(t("Format"), format), field(t("Files, or a ZIP of them"), files), coloured, open,
      tick("keeps", t("Leave tiles alone that have labels")),
    ], t("Import the labels"), async (values) => {
      const uploads = [];
      for (const file of files.files) {
        uploads.push((await sendFile(file, { project_id: project.id, purpose: "annotations" }, {
          onProgress: (share) => (progress.textContent = t("{name}: {share} % sent", { name: file.name, share: Math.round(100 * share) })),
        })).id);
      }
      progress.textContent = "";
      const isMask = values.format === "png";
      watch(await post(`projects/${project.id}/annotations:import`, {
        uploads, format: values.format, keeps_existing: "keeps" in values, fills_background: !isMask && "fills" in values,
        colours: isMask && "coloured" in values ? coloursOf(project) : null,
      }));
    }), progress);
}

/** Classes by colour, for masks that are painted like ours. */
function coloursOf(project) {
  const classes = project.classes.filter((row) => !row.is_deleted);
  const colours = Object.fromEntries(classes.map((row) => [row.colour, row.index]));
  if (Object.keys(colours).length < classes.length) throw new Error(t("Two classes have the same colour; give each its own, then import again."));
  return colours;
}

function exporting(project, watch) {
  return section(t("Export labels"),
    make("p", {}, t("You get a ZIP of all labels; it can be fetched for a day.")),
    form([
      field(t("Format"), choice(texts(EXPORTED), { name: "format" })),
      tick("images", t("With the images"), t("As TIFF; the whole project always has them.")),
    ], t("Export the labels"), async (values) => {
      watch(await post(`projects/${project.id}/export`, { format: values.format, with_images: "images" in values }));
    }));
}
