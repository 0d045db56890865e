/** My projects: each with its way through the pipeline. */

import { empty, every, link, make, section } from "./base.js";
import { t } from "./words.js";

export const words = () => ({
  title: t("My projects"),
  explain: [t("A project goes from images to a model: add images, label [[tile|tiles]], freeze a training set, train, look, correct.")],
  command: () => "axons project list",
});

export async function open(main) {
  const projects = await every("projects");
  const cards = projects.map((project) => make("li", {}, link(project.name, "/images", { project: project.id })));
  main.append(cards.length ? make("ul", { className: "cards" }, ...cards) : empty(t("None yet.")));
  main.append(section(t("More"), make("a", { href: "/api/docs" }, t("Everything else, by REST"))));
}
