/**
 * Annotate: the tiles of a project and what is needed to label them, or with `?tile=` the annotator in a frame; `run` is
 * that of the results from which one came.
 */

import { drawClasses } from "./annotate-classes.js";
import { drawFiles } from "./annotate-files.js";
import { drawHelp } from "./annotate-help.js";
import { drawTiles } from "./annotate-tiles.js";
import { addressOf, button, choice, empty, every, field, get, idInAddress, link, make, noteInAddress, post, watchJob } from "./base.js";
import { fromServer, t } from "./words.js";

const QUEUE = /^[A-Za-z0-9_-]{1,64}(,[A-Za-z0-9_-]{1,64})*$/;

export const isWide = true;

export const words = () => ({
  title: t("Annotate"),
  explain: [
    t("Give every pixel of a [[tile]] its [[class]]; what you leave open is not learnt."),
    t("A few tiles labelled with care teach a [[model]] more than many labelled in haste: mind the borders."),
  ],
  command: ({ project }) => project && `axons export "${project.name}" --format png -o labels.zip`,
});

const PARTS = [
  ["tiles", () => t("Tiles"), drawTiles],
  ["classes", () => t("Classes"), drawClasses],
  ["help", () => t("Instructions and examples"), drawHelp],
  ["files", () => t("Label files"), drawFiles],
];

export async function open(main, { me, project }) {
  const tile = idInAddress("tile");
  if (tile) await drawFrame(main, tile, project);
  else if (project) await drawProject(main, { me, project });
  else main.append(empty(t("No tile is chosen."), link(t("Choose one of my projects"), "/")));
}

// -- The annotator -------------------------------------------------------------------------------------------------------

async function drawFrame(main, tile, project) {
  const whole = make("a", { href: `/annotate/${tile}` }, t("Full window"));
  const back = make("a", {}, t("All tiles"));
  const results = make("a", { hidden: !idInAddress("run") }, t("Back to the results"));
  const frame = make("iframe", { src: `/annotate/${tile}`, title: t("Annotator"), allow: "fullscreen" });
  const listed = make("span", { className: "row" });
  const showTile = (shown) => {
    whole.href = `/annotate/${shown}`;
    drawQueue(listed, shown);
  };
  // So that loading the page again opens the tile that was last seen in it.
  const follow = () => {
    const shown = frame.contentWindow.location.pathname.split("/").at(-1);
    showTile(shown);
    const query = new URLSearchParams(location.search);
    query.set("tile", shown);
    history.replaceState(history.state, "", `/annotate?${query}`);
  };
  frame.addEventListener("load", () => {
    frame.contentWindow.navigation?.addEventListener("currententrychange", follow);
    frame.contentWindow.focus();
  });
  showTile(tile);
  main.append(make("p", { className: "row" }, back, results, whole, listed), frame);
  // What is above is as high as it likes.
  frame.style.height = `calc(100dvh - ${Math.ceil(frame.getBoundingClientRect().top + scrollY)}px - 0.5rem)`;
  const id = project?.id ?? (await get(`tiles/${tile}`)).project_id;
  back.href = queryWith({ project: id, tile: null, queue: null, run: null });
  results.href = addressOf("/results", { project: id, run: idInAddress("run") });
}

/** Tiles that were chosen one by one come in their order: `&queue=A,B,C`. */
function drawQueue(place, shown) {
  const asked = new URLSearchParams(location.search).get("queue") ?? "";
  const tiles = QUEUE.test(asked) ? asked.split(",") : [];
  const at = tiles.indexOf(shown);
  if (at < 0) return place.replaceChildren();
  const other = (text, tile) => (tile ? make("a", { href: queryWith({ tile }) }, text) : "");
  place.replaceChildren(
    make("span", {}, t("Chosen tile {n} of {all}", { n: at + 1, all: tiles.length })),
    other(t("The chosen tile before"), tiles[at - 1]), other(t("The next chosen tile"), tiles[at + 1]));
}

/** The address of this screen with some of its query changed. */
function queryWith(changes) {
  return addressOf("/annotate", { ...Object.fromEntries(new URLSearchParams(location.search)), ...changes });
}

// -- The project ---------------------------------------------------------------------------------------------------------

async function drawProject(main, { me, project }) {
  const context = {
    me, project,
    isOwner: project.role === "owner",
    mayEdit: project.role !== "viewer" && !project.archived_at,
    watch: (job) => watch(jobs, job),
  };
  const jobs = make("div", { className: "jobs", "aria-live": "polite" });
  const tabs = make("nav", { className: "row tabs", "aria-label": t("Parts of this screen") });
  const place = make("div");
  if (context.mayEdit) main.append(await queue(context));
  else main.append(make("p", { className: "quiet" }, project.archived_at
    ? t("The project is archived: its labels can be looked at, not changed.")
    : t("You are a viewer of this project: you see its labels; an owner can make you an editor.")));
  main.append(jobs, tabs, place);
  const show = async (name) => {
    const [key, , draw] = PARTS.find(([part]) => part === name) ?? PARTS[0];
    tabs.replaceChildren(...PARTS.map(([part, text]) => button(text(), () => {
      noteInAddress({ part });
      return show(part);
    }, { "aria-pressed": String(part === key) })));
    place.replaceChildren();
    await draw(place, context);
  };
  const job = idInAddress("job");
  if (job) watch(jobs, { id: job });
  await show(new URLSearchParams(location.search).get("part"));
}

/** Watch a job here, also after a reload; a file that it makes can be fetched. */
async function watch(place, job) {
  noteInAddress({ job: job.id });
  const ended = await watchJob(place, job);
  if (ended.state === "done") {
    const file = ended.result.file && make("a", { className: "button", href: `/api/v1/jobs/${ended.id}/file` }, t("Download the file"));
    const refused = (ended.result.refused ?? []).map(({ name, reason }) => make("li", {}, `${name}: ${reason}`));
    place.replaceChildren(make("p", { className: "row good" }, `✓ ${ended.reason || t("Done.")}`, file),
      ...(refused.length ? [make("ul", { className: "bad" }, ...refused)] : []));
  }
  noteInAddress({ job: ended.result.file ? ended.id : null });
  return ended;
}

async function queue({ project, watch: watchHere }) {
  const query = new URLSearchParams(location.search);
  const place = make("p", { className: "row" });
  const order = choice([["order", t("in order")], ["useful", t("the most useful first")]], { value: query.get("order") ?? "order" });
  const owner = choice([["anybody", t("all that are free")], ["mine", t("mine only")]], { value: query.get("whose") ?? "anybody" });
  const status = choice([["", t("all that are not done")], ["unlabelled", t("without labels")], ["started", t("begun")], ["done", t("done, to check them")]],
    { value: query.get("wanted") ?? "" });
  const ask = async () => {
    const wanted = new URLSearchParams({ order: order.value, owner: owner.value, ...(status.value ? { status: status.value } : {}) });
    const next = await get(`projects/${project.id}/queue/next?${wanted}`);
    place.replaceChildren(...(next.tile
      ? [make("a", { className: "primary", href: queryWith({ tile: next.tile.id }) }, t("Annotate the next tile")),
        make("span", { className: "quiet", role: "status" }, t("Why this one: {reason}", { reason: fromServer(next.reason) }))]
      : [make("span", { role: "status" }, t("No tile waits: {reason}.", { reason: fromServer(next.reason) })),
        project.num_images ? null : link(t("Add images"), "/images", { project: project.id }, { className: "primary" })].filter(Boolean)));
  };
  for (const chosen of [order, owner, status]) {
    chosen.addEventListener("change", () => {
      noteInAddress({ order: order.value === "order" ? null : order.value, whose: owner.value === "mine" ? "mine" : null, wanted: status.value || null });
      ask();
    });
  }
  await ask();
  const models = await every(`models?project_id=${project.id}`, 100);
  const made = make("div", {}, place, make("details", {}, make("summary", {}, t("How the next tile is chosen")),
    make("div", { className: "row" }, field(t("Order"), order), field(t("Whose tiles"), owner), field(t("Which tiles"), status)),
    ranking(project, models, async (job) => {
      if ((await watchHere(job)).state === "done") await ask();
    })));
  made.querySelector("details").open = ["order", "whose", "wanted"].some((name) => query.has(name));
  return made;
}

function ranking(project, models, watchRanking) {
  if (!models.length) return make("p", { className: "quiet" }, t("Once there is a model, it can tell which tiles are the most useful to label."));
  const model = choice(models.map((row) => [row.id, `${row.name} ${row.version}`]));
  const rank = button(t("Rank the tiles"), async () => {
    watchRanking(await post(`projects/${project.id}/tiles:rank`, { model_id: model.value }));
  });
  return make("div", { className: "row end" },
    field(t("Model that looks at the tiles"), model, t("Tiles of which it is unsure come first; test images are left out.")), rank);
}
