/** Administration: how the installation is, its people, everybody's jobs, and what was done. */

import { empty, link, make } from "./base.js";
import { drawAudit } from "./admin-audit.js";
import { drawOverview } from "./admin-cluster.js";
import { drawJobs } from "./admin-jobs.js";
import { drawPeople } from "./admin-people.js";
import { t } from "./words.js";

const PARTS = {
  overview: [() => t("Overview"), drawOverview, "axons admin nodes"],
  people: [() => t("People"), drawPeople, "axons user list"],
  jobs: [() => t("Jobs"), drawJobs, "axons jobs list --all --running"],
  audit: [() => t("What was done"), drawAudit, "axons admin audit"],
};

export const isWide = true;

export const words = () => ({
  title: t("Administration"),
  explain: [
    t("Here administrators look after the whole installation: its machines, its storage, its people and everybody's jobs."),
    t("What you change here is written down under “What was done”, with your name and the time."),
  ],
  command: ({ me }) => (isFor(me) ? PARTS[chosenPart()][2] : null),
});

export async function open(main, { me }) {
  if (!isFor(me)) {
    main.append(empty(t("This page is for administrators; you are signed in as {name}.", { name: me.user.name }), link(t("Go to my projects"), "/")));
    return;
  }
  const chosen = chosenPart();
  const place = make("div", {});
  const tabs = Object.entries(PARTS).map(([part, [text]]) =>
    link(text(), "/admin", { part }, { className: "button", ...(part === chosen ? { "aria-current": "page" } : {}) }));
  main.append(make("nav", { className: "row tabs", "aria-label": t("Parts of this screen") }, ...tabs), place);
  await PARTS[chosen][1](place, me);
}

const isFor = (me) => me.user.role === "administrator";

function chosenPart() {
  const part = new URLSearchParams(location.search).get("part");
  return Object.hasOwn(PARTS, part ?? "") ? part : "overview";
}
