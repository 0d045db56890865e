/** Annotate: the tiles of a project, or with `?tile=` the annotator in a frame, with the keys going to it. */

import { empty, every, get, idInAddress, link, make, picture } from "./base.js";
import { t } from "./words.js";

const TILES_AT_ONCE = 100;

export const isWide = true;

export const words = () => ({
  title: t("Annotate"),
  explain: [t("Give every pixel of a [[tile]] its class; what you do not label is not learnt.")],
  command: () => null,
});

export async function open(main, { project }) {
  const tile = idInAddress("tile");
  if (tile) drawFrame(main, tile);
  else if (project) await drawTiles(main, project);
  else main.append(empty(t("No tile is chosen."), link(t("Choose one of my projects"), "/")));
}

function drawFrame(main, tile) {
  const whole = make("a", { href: `/annotate/${tile}` }, t("Full window"));
  const frame = make("iframe", { src: `/annotate/${tile}`, title: t("Annotator"), allow: "fullscreen" });
  // So that loading the page again opens the tile that was last seen in it.
  const follow = () => {
    const shown = frame.contentWindow.location.pathname;
    whole.href = shown;
    const query = new URLSearchParams(location.search);
    query.set("tile", shown.split("/").at(-1));
    history.replaceState(history.state, "", `/annotate?${query}`);
  };
  frame.addEventListener("load", () => {
    frame.contentWindow.navigation?.addEventListener("currententrychange", follow);
    frame.contentWindow.focus();
  });
  main.append(whole, frame);
  // What is above is as high as it likes.
  frame.style.height = `calc(100dvh - ${Math.ceil(frame.getBoundingClientRect().top + scrollY)}px - 0.5rem)`;
}

async function drawTiles(main, project) {
  const [tiles, following] = await Promise.all([
    every(`projects/${project.id}/tiles`, TILES_AT_ONCE), get(`projects/${project.id}/queue/next`),
  ]);
  const query = (tile) => ({ project: project.id, tile: tile.id });
  main.append(following.tile
    ? link(t("Annotate the next tile"), "/annotate", query(following.tile), { className: "primary" })
    : make("p", {}, t("No tile is left to annotate.")));
  const cards = tiles.map((tile) => make("li", {}, make("a", { href: `/annotate?project=${project.id}&tile=${tile.id}` },
    picture(`tiles/${tile.id}/thumbnail`, ""), `row ${tile.row0}, column ${tile.col0}: ${tile.status}`)));
  main.append(make("ul", { className: "cards" }, ...cards));
}
