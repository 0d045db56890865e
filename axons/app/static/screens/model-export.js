/** A model for other programs: what is asked for, the job that makes the file, and the file. */

import { choice, field, form, make, post, watchJob } from "./base.js";
import { explained } from "./terms.js";
import { number, t } from "./words.js";

const LICENCES = ["CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0"];

/** The form, closed until somebody opens it; whoever sees a model may take it along. */
export function exportForm(model, me) {
  const file = make("div", { className: "exported", "aria-live": "polite" });
  const authors = make("input", { name: "authors", value: me.user.display_name || me.user.name, maxLength: 1000 });
  const licence = choice([["", t("not chosen yet")], ...LICENCES.map((name) => [name, name])], { name: "licence" });
  const format = choice([["onnx", "ONNX (.onnx)"], ["bioimageio", t("BioImage.IO package (.zip)")]], { name: "format" });
  format.addEventListener("change", () => {
    authors.required = licence.required = format.value === "bioimageio";
  });
  const made = form([
    field(t("Format"), format),
    field(t("Authors, by commas"), authors, t("A BioImage.IO package needs them.")),
    field(t("Licence"), licence, t("How others may use the model; a BioImage.IO package needs it.")),
    field(t("What it is for"), make("input", { name: "description", maxLength: 300 }), t("Left empty, the classes are told.")),
  ], t("Make the file"), async (values) => {
    const job = await post(`models/${model.id}/export`, {
      format: values.format,
      authors: values.authors.split(",").map((name) => name.trim()).filter(Boolean),
      licence: values.licence || null,
      description: values.description.trim(),
    });
    const over = await watchJob(file, job);
    if (over.state === "done") file.replaceChildren(fileLink(over));
  });
  const hint = make("p", { className: "quiet" }, ...explained(t("[[onnx|ONNX]] runs in many programs. [[bioimageio|BioImage.IO]] also has a test image, who made the model, and its card.")));
  return make("details", {}, make("summary", {}, t("Use it in other programs")), hint, made, file);
}

function fileLink({ id, result: { file } }) {
  return make("a", { className: "button", href: `/api/v1/jobs/${id}/file`, download: "" }, t("Download {name} ({size} MB)", { name: file.name, size: number(file.bytes / 1e6, 1) }));
}
