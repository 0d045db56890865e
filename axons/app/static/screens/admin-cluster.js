/** How the installation is: its parts, the queue, the machines, the storage, Ray's own pages, a backup. */

import { every, get, link, make, poll, section, snippet, table } from "./base.js";
import { number, size, t, time } from "./words.js";

const EVERY_MS = 10_000;
const MOST_JOBS = 500;

export async function drawOverview(main) {
  const health = make("div", { "aria-live": "polite" });
  const queue = make("p", { role: "status" });
  const nodes = make("div", {});
  const dashboard = make("div", {});
  const storage = make("div", {});
  const backup = make("div", {});
  main.append(
    section(t("Health"), health), section(t("Queue"), queue, link(t("Look at the jobs"), "/admin", { part: "jobs" })),
    section(t("Machines"), nodes), section(t("Storage"), storage),
    section(t("Ray's dashboard"), dashboard), section(t("Backup"), backup));
  const [stored, backups] = await Promise.all([get("cluster/storage"), get("audit?action=backup&limit=1")]);
  drawStorage(storage, stored);
  drawBackup(backup, stored, backups.items[0]);
  await new Promise((resolve) => {
    poll(main, async () => {
      try {
        await look(health, queue, nodes, dashboard);
      } finally {
        resolve();
      }
    }, EVERY_MS);
  });
}

async function look(health, queue, nodes, dashboard) {
  const [parts, jobs, cluster] = await Promise.all([get("cluster/health"), every("jobs?all=true&is_over=false", MOST_JOBS), get("cluster/nodes")]);
  showHealth(health, parts);
  const waiting = jobs.filter((job) => job.state === "queued").length;
  queue.textContent = t("{waiting} jobs wait, {running} run.", { waiting: number(waiting), running: number(jobs.length - waiting) });
  showNodes(nodes, cluster);
  showDashboard(dashboard, cluster);
}

// -- Health --------------------------------------------------------------------------------------------------------------

function showHealth(place, health) {
  const parts = [[t("Database"), health.database], [t("Storage"), health.storage], [t("Ray"), health.ray]];
  replace(place, table(t("Whether each part answers"), [t("Part"), t("State"), t("What it says")],
    parts.map(([name, part]) => [name, mark(part.is_well, t("well"), t("not well")), part.sentence])));
}

const mark = (isGood, good, bad) => make("span", { className: isGood ? "good" : "bad" }, isGood ? `✓ ${good}` : `✗ ${bad}`);

/** Put something new only where it differs, so that nobody's place in it is lost. */
function replace(place, ...elements) {
  const fresh = make("div", {}, ...elements);
  if (fresh.innerHTML !== place.innerHTML) place.replaceChildren(...fresh.childNodes);
}

// -- Machines ------------------------------------------------------------------------------------------------------------

function showNodes(place, cluster) {
  place.dataset.well = String(cluster.is_well);
  if (!cluster.is_well) {
    replace(place, make("p", { className: "warn" }, t("Nothing is known of the machines: {why}.", { why: cluster.sentence })),
      make("p", {}, t("Jobs keep their places in the queue and go on by themselves once Ray is back.")));
    return;
  }
  const alive = cluster.nodes.filter((node) => node.is_alive);
  const gone = cluster.nodes.filter((node) => !node.is_alive);
  const head = [t("Machine"), t("State"), "CPU", "GPU", t("Memory"), t("What runs there")];
  replace(place,
    table(t("Machines of the cluster; CPUs and GPUs as Ray hands them out"), head, alive.map(nodeRow), { className: "nodes" }),
    gone.length ? make("p", { className: "quiet" }, t("{num} machines are gone: {names}.", { num: number(gone.length), names: gone.map(nameOf).join(", ") })) : null);
}

const nameOf = (node) => `${node.name} (${node.address})`;

function nodeRow(node) {
  const work = node.work.length ? make("ul", { className: "work" }, ...node.work.map((text) => make("li", {}, text))) : t("nothing");
  return [
    make("span", { className: "node" }, node.name, make("small", {}, node.address), node.is_head ? make("small", {}, t("head of the cluster")) : null),
    mark(node.is_alive, t("there"), t("gone")),
    used(t("CPUs of {name}", { name: node.name }), node.cpus, (value) => number(value, Number.isInteger(value) ? 0 : 2)),
    node.gpus.total
      ? used(t("GPUs of {name}", { name: node.name }), node.gpus, (value) => number(value, Number.isInteger(value) ? 0 : 2), node.accelerator)
      : t("none"),
    node.memory ? used(t("Memory of {name}", { name: node.name }), node.memory, size) : t("not known"),
    work,
  ];
}

function used(label, { total, used: taken }, text, note = null) {
  return make("span", { className: "use" },
    make("span", {}, t("{used} of {total}", { used: text(taken), total: text(total) })),
    make("meter", { max: total, value: taken, "aria-label": label }),
    note ? make("small", {}, note) : null);
}


// -- Storage -------------------------------------------------------------------------------------------------------------

function drawStorage(place, storage) {
  const rows = storage.people.map((person) => [person.user_name, number(person.num_projects), size(person.num_bytes),
    make("meter", { max: storage.limit_bytes, value: person.num_bytes, "aria-label": t("Storage of {name}", { name: person.user_name }) })]);
  place.append(
    make("p", {}, t("Images take {used}; the server's disk has {free} left.", { used: size(storage.num_bytes), free: size(storage.free_bytes) })),
    make("p", { className: "quiet" }, t("Each person may have {limit}, unless another limit was set.", { limit: size(storage.limit_bytes) })),
    ...cleanedUp(storage.cleanup),
    rows.length ? table(t("Images in the projects of each person, the largest first"), [t("Person"), t("Projects"), t("Size"), t("Of what is allowed")], rows) : make("p", {}, t("Nobody has a project yet.")));
}

/** What the last cleanup has found; what nobody but an administrator can mend stands out. */
function cleanedUp(cleanup) {
  if (!cleanup) return [make("p", { className: "quiet" }, t("The storage has not been cleaned up yet; that happens every hour."))];
  const { projects = 0, models = 0, "training-sets": sets = 0 } = cleanup.num_bytes;
  const worries = [];
  if (cleanup.num_missing) worries.push(t("{n} rows point to objects that are not in the storage; bring them back from a backup:", { n: number(cleanup.num_missing) }));
  if (cleanup.held_back) worries.push(t("{n} objects, most of the storage, belong to no row and were not deleted: is this the right database?", { n: number(cleanup.held_back) }));
  if (cleanup.problem) worries.push(cleanup.problem);
  return [
    make("p", {}, t("In the storage: images and predictions {projects}, training sets {sets}, runs and models {models}.",
      { projects: size(projects), sets: size(sets), models: size(models) })),
    make("p", { className: "quiet" }, t("Last cleaned up {time}: {reason}.", { time: time(cleanup.finished_at), reason: cleanup.reason })),
    ...worries.map((worry) => make("p", { className: "bad" }, worry)),
    ...(cleanup.missing.length ? [make("ul", {}, ...cleanup.missing.map((missing) => make("li", {}, missing)))] : [])];
}

// -- Ray's own pages -----------------------------------------------------------------------------------------------------

function showDashboard(place, cluster) {
  const address = cluster.dashboard
    ? make("p", {}, make("a", { href: cluster.dashboard, target: "_blank", rel: "noopener noreferrer" }, t("Open Ray's dashboard")), ` – ${cluster.dashboard}`)
    : make("p", {}, t("The dashboard does not answer at the moment."));
  replace(place, address,
    make("p", {}, t("It listens on the server alone: open it there, or through a tunnel as ssh -L makes one. It asks for a token, which this command shows on the server:")), snippet(cluster.token_command));
}

// -- Backup --------------------------------------------------------------------------------------------------------------

function drawBackup(place, storage, last) {
  if (!storage.can_back_up) {
    place.append(make("p", {}, t("The database is PostgreSQL: back it up with pg_dump, and the storage with its own tools.")));
    return;
  }
  place.append(
    make("p", {}, t("One ZIP with the database and everything that is stored; people go on working meanwhile. The command axons restore makes a new installation of it.")),
    make("p", { className: "row" }, make("a", { className: "button primary", href: "/api/v1/backups/now", download: "" }, t("Download a backup"))),
    make("p", { className: "quiet" }, last
      ? t("The last one was made {time} by {name}.", { time: time(last.at), name: last.actor_name ?? "–" })
      : t("No backup has been made yet.")));
}
