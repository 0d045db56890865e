/** The same prediction from outside: lines to paste, which work with a token of one's own. */

import { link, make, snippet } from "./base.js";
import { t } from "./words.js";

/** @param {string} scale as it was entered; empty: as in training */
export function outside(model, project, scale) {
  const part = (title, text) => [make("h3", {}, title), snippet(text)];
  return make("details", {}, make("summary", {}, t("Predict from your own programs")),
    make("p", {}, t("Put your own token in the place of TOKEN; it stands for you, so keep it to yourself."), " ", link(t("Make a token"), "/account")),
    ...part("curl", curl(model, scale)),
    ...part("Python", python(model, project, scale)),
    ...part(t("Command"), command(model, scale)));
}

function curl(model, scale) {
  const scaled = scale ? ` -F scale=${scale}` : "";
  return `curl -f -H "Authorization: Bearer TOKEN" -H "Accept: image/png" -F data=@image.png${scaled} -o mask.png "${location.origin}/v2/models/${model.id}/predict/"`;
}

function python(model, project, scale) {
  return [
    "from pathlib import Path",
    "",
    "from axons.client import Client",
    "",
    `with Client("${location.origin}", "TOKEN") as client:`,
    `    found = client.predict("${model.id}", Path("image.png"), project_id="${project.id}"${scale ? `, scale=${scale}` : ""})`,
    '    client.download(f"predictions/{found[\'id\']}/mask", Path("mask.png"))',
  ].join("\n");
}

function command(model, scale) {
  const scaled = scale ? ` --scale ${scale}` : "";
  return `AXONS_URL=${location.origin} AXONS_TOKEN=TOKEN axons predict ${model.id} image.png -o masks --overlay${scaled}`;
}
