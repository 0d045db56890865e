/** Freeze a version; the versions that there are, one closely, and what differs between two. */

import { button, carefulButton, complain, empty, every, field, form, get, idInAddress, link, make, noteInAddress, picture, post, remove, say, section, table, watchJob } from "./base.js";
import { splitName } from "./dataset-split.js";
import { fromServer, number, t, time } from "./words.js";

const SPLITS = ["train", "val", "test"];

/** The one main action. */
export function drawFreeze(place, screen, versions) {
  if (!screen.mayEdit) {
    place.replaceChildren(section(t("Freeze version"), make("p", { className: "quiet" }, t("You may look at this project; who may edit it can freeze a version."))));
    return;
  }
  if (!place.childElementCount) place.append(section(t("Freeze version"), make("ul", { className: "warnings" }), freezing(screen, versions)));
  place.querySelector(".warnings").replaceChildren(...(screen.preview?.warnings ?? []).map((text) => make("li", { className: "warn" }, `⚠ ${text}`)));
  place.querySelector("button.primary").disabled = !screen.preview;
}

function freezing(screen, versions) {
  const name = make("input", { name: "name", maxLength: 120, autocomplete: "off" });
  const job = make("div", {});
  const fields = [field(t("Name of the version"), name, t("Left empty, it is called like the project, with its number."))];
  return make("div", {}, form(fields, t("Freeze version"), async (values) => {
    const made = await post(`projects/${screen.project.id}/training-sets`, { ...screen.form, name: values.name.trim() || null });
    name.value = "";
    watchJob(job, made.job).then(async (ended) => {
      await drawVersions(versions, screen);
      say(fromServer(ended.reason), ended.state === "done" ? "good" : "bad");
    }).catch(complain);
    await drawVersions(versions, screen);
  }, { isMain: true }), job);
}

/** The list, what is compared and what is shown closely, as the address says. */
export async function drawVersions(place, screen) {
  const sets = await every(`projects/${screen.project.id}/training-sets`);
  const again = () => drawVersions(place, screen);
  if (!sets.length) {
    place.replaceChildren(section(t("Versions"), empty(t("No version is frozen yet. Look at the split and the balance, then press Freeze version."))));
    return;
  }
  const cards = make("ul", { className: "cards versions" }, ...sets.map((set) => card(set, screen, again)));
  const parts = await Promise.all([compareForm(sets, again), shown(sets, screen)]);
  place.replaceChildren(section(t("Versions"), cards), ...parts.flat());
}

/** Shares of the classes in train as a sentence. */
function balanceText({ classes, balance }) {
  const pixels = balance.pixels.train;
  const total = pixels.reduce((sum, count) => sum + count, 0) || 1;
  return classes.map(({ name }, index) => `${name} ${number((100 * pixels[index]) / total, 1)} %`).join(", ");
}

const splitCounts = ({ num_images: images }) => SPLITS.map((split) => `${number(images[split])} ${splitName(split)}`).join(", ");

const sizeText = ({ scale, pixel_size_um: um }) => (um ? t("{um} µm per pixel", { um: number(um, 3) }) : t("scale {scale}", { scale: number(scale, 2) }));

function card(set, screen, again) {
  const { summary } = set;
  const isReady = set.state === "ready";
  const facts = isReady ? [
    [t("Frozen"), time(set.created_at)], [t("Images"), splitCounts(summary)], [t("Balance in train"), balanceText(summary)],
    [t("Resolution"), sizeText(summary)], [t("Hash"), make("code", { title: set.sha256 }, set.sha256.slice(0, 12))],
  ] : [[t("State"), set.state === "failed" ? t("could not be frozen") : t("is being frozen")]];
  const place = make("div", {});
  const ways = isReady ? [
    link(t("Train with it"), "/train", { project: screen.project.id, set: set.id }, { className: "button" }),
    button(t("Show"), async () => {
      noteInAddress({ show: set.id });
      await again();
      document.getElementById("shown")?.scrollIntoView();
    }, { "aria-label": t("Show {name}", { name: set.name }) }),
    button(t("Download"), () => download(set, place), { "aria-label": t("Download {name}", { name: set.name }) }),
  ] : [];
  const bin = screen.mayEdit ? carefulButton(t("Delete"), t("Press again to delete"), async () => {
    await remove(`training-sets/${set.id}`);
    await again();
    return t("{name} is in the trash; My projects can bring it back.", { name: set.name });
  }) : null;
  return make("li", { className: "card" }, make("h3", {}, `${set.number}. ${set.name}`),
    make("dl", { className: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
    make("p", { className: "row" }, ...ways, bin), place);
}

async function download(set, place) {
  const job = await post(`training-sets/${set.id}/export`);
  const ended = await watchJob(place, job);
  if (ended.state !== "done") throw new Error(ended.reason || t("The download could not be made; try again."));
  make("a", { href: `/api/v1/jobs/${job.id}/file`, download: "" }).click();
  return ended.reason;
}

// -- One closely ---------------------------------------------------------------------------------------------------------

async function shown(sets, screen) {
  const set = sets.find(({ id, state }) => id === idInAddress("show") && state === "ready");
  if (!set) return [];
  const here = new Map(screen.images.map((image) => [image.id, image]));
  const pixels = set.summary.balance.pixels;
  const balance = set.summary.classes.map(({ name }, index) => [name, ...SPLITS.map((split) => number(pixels[split][index])), ...SPLITS.map((split) => number(set.summary.balance.objects[split][index]))]);
  const head = [t("Class"), ...SPLITS.map((split) => t("Pixels in {split}", { split: splitName(split) })), ...SPLITS.map((split) => t("Objects in {split}", { split: splitName(split) }))];
  const columns = SPLITS.map((split) => make("div", { className: "card" }, make("h3", {}, splitName(split)),
    make("ul", { tabIndex: 0, "aria-label": t("Images of {split}", { split: splitName(split) }) }, ...set.summary.images.filter((image) => image.split === split).map((image) => make("li", {},
      here.has(image.image_id) ? picture(`images/${image.image_id}/thumbnail`, "", { width: 72 }) : "", make("span", {}, image.name), make("small", {}, t("{n} tiles", { n: image.num_tiles })))))));
  const made = section(t("Version {name}", { name: set.name }), ...set.summary.warnings.map((text) => make("p", { className: "warn" }, `⚠ ${text}`)),
    make("p", {}, t("Hash"), " ", make("code", {}, set.sha256)),
    make("div", { className: "splits" }, ...columns), table(t("Balance of {name}", { name: set.name }), head, balance, { className: "balance" }));
  made.id = "shown";
  return [made];
}

// -- Two of them ---------------------------------------------------------------------------------------------------------

async function compareForm(sets, again) {
  const ready = sets.filter(({ state }) => state === "ready");
  if (ready.length < 2) return [];
  const known = new Set(ready.map(({ id }) => id));
  const [first, second] = [idInAddress("first"), idInAddress("second")];
  const select = (label, name, value) => field(label, make("select", { name }, ...ready.map((set) => make("option", { value: set.id, selected: set.id === value }, `${set.number}. ${set.name}`))));
  const made = form([select(t("Earlier version"), "first", first ?? ready[1].id), select(t("Later version"), "second", second ?? ready[0].id)], t("Compare"), async (values) => {
    if (values.first === values.second) throw new Error(t("Both are the same version; choose two."));
    noteInAddress({ first: values.first, second: values.second });
    await again();
  });
  const isAsked = known.has(first) && known.has(second) && first !== second;
  return [section(t("Compare two versions"), made, ...(isAsked ? differences(await get(`training-sets:compare?${new URLSearchParams([["id", first], ["id", second]])}`)) : []))];
}

function differences({ training_sets: both, class_shares: shares, only_in: only }) {
  const [a, b] = both.map(({ summary }) => summary);
  const row = (name, of) => [name, of(a), of(b), of(a) === of(b) ? t("same") : t("differs")];
  const percent = (share) => (share === null ? "–" : `${number(100 * share, 1)} %`);
  const rows = [
    row(t("Images"), splitCounts), row(t("Tiles"), ({ images }) => number(images.reduce((sum, image) => sum + image.num_tiles, 0))),
    row(t("Classes"), ({ classes }) => classes.map(({ name }) => name).join(", ")),
    row(t("Resolution"), sizeText), row(t("Number of the draw"), ({ seed }) => String(seed)),
    ...shares.map(({ name, shares: [x, y] }) => [t("{name}, share of train", { name }), percent(x), percent(y), percent(x) === percent(y) ? t("same") : t("differs")]),
    [t("Hash"), ...both.map(({ sha256 }) => sha256.slice(0, 12)), both[0].sha256 === both[1].sha256 ? t("same") : t("differs")],
  ];
  const splitOf = new Map(a.images.map(({ image_id: id, split }) => [id, split]));
  const moved = b.images.filter(({ image_id: id, split }) => splitOf.has(id) && splitOf.get(id) !== split)
    .map(({ image_id: id, name, split }) => t("{name} ({before} → {after})", { name, before: splitName(splitOf.get(id)), after: splitName(split) }));
  const listed = (title, names) => make("p", {}, make("strong", {}, title), " ", names.length ? names.join(", ") : t("none"));
  return [table(t("What differs"), [t("What"), both[0].name, both[1].name, t("Verdict")], rows),
    listed(t("Images that came:"), only[1]), listed(t("Images that went:"), only[0]), listed(t("Images in another split:"), moved)];
}
