/**
 * The frame of every screen, `<axons-screen name="train">`: where one is in the pipeline, the menu, and beside the screen
 * what happens here. A screen is a module of the same name with `open(main, context)` and these words:
 * {title, explain: [sentences], command: (context) => text or null, needsProject, isWide}.
 */

import { addressOf, complain, get, idInAddress, link, make, snippet } from "./base.js";
import { drawBell } from "./bell.js";
import { drawMenu } from "./menu.js";
import { stageOf } from "./stages.js";
import { explained } from "./terms.js";
import { offerTour } from "./tour.js";
import { loadWords, t } from "./words.js";

const NAMES = /^[a-z]+$/;
const GRADIO_AFTER_MS = 3000; // whoever knows where to press has pressed

/** The steps of the pipeline: stage of the project, screen, words. */
const STEPS = [
  ["images", "/images", () => t("Images")],
  ["labels", "/annotate", () => t("Annotate")],
  ["training-set", "/dataset", () => t("Training set")],
  ["model", "/train", () => t("Train")],
  ["model", "/results", () => t("Results")],
  ["prediction", "/predict", () => t("Predict")],
];

class AxonsScreen extends HTMLElement {
  async connectedCallback() {
    if (this.isDrawn) return;
    if (document.querySelector("axons-screen") !== this) {
      this.remove(); // Gradio's own, which comes seconds later
      return;
    }
    this.isDrawn = true;
    document.querySelector("gradio-app")?.setAttribute("hidden", "");
    document.head.append(make("link", { rel: "stylesheet", href: new URL("screens.css", import.meta.url).href }));
    try {
      await this.draw();
    } catch (error) {
      this.replaceChildren(make("p", { role: "alert", className: "bad" }, error.message));
    }
    this.dataset.ready = "true";
    setTimeout(startGradio, GRADIO_AFTER_MS);
  }

  async draw() {
    const name = this.getAttribute("name");
    if (!NAMES.test(name)) throw new Error(`there is no screen ${name}`);
    const id = idInAddress("project");
    const [screen, me, project] = await Promise.all([
      import(`./${name}.js`), get("auth/me"), id ? get(`projects/${id}`) : null, loadWords(),
    ]);
    const context = { me, project, name };
    const { title, explain, command } = screen.words();
    document.title = `${title} · Axons`;
    document.documentElement.dataset.screen = name;
    const main = make("main", { id: "main", tabIndex: -1 }, make("h1", {}, title));
    this.replaceChildren(
      make("a", { className: "skip", href: "#main" }, t("To the content")),
      header(context),
      make("div", { className: screen.isWide ? "body wide" : "body" }, main, aside(explain, command?.(context))));
    this.querySelector(".rail [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    if (screen.needsProject && !project) {
      main.append(make("div", { className: "empty" }, make("p", {}, t("No project is chosen.")), link(t("Choose one of my projects"), "/")));
      return;
    }
    if (project) main.prepend(make("p", { className: "crumb" }, link(project.name, "/images", { project: project.id })));
    offerTour(main, context);
    await screen.open(main, context);
  }
}

/** Gradio's own start, a second of work for the browser, which nobody shall wait for. */
function startGradio() {
  const start = document.getElementById("gradio");
  if (start) document.head.append(document.importNode(start.content, true));
}

function header(context) {
  const { project, name } = context;
  const query = { project: project?.id };
  const steps = STEPS.map(([stage, path, text]) => {
    const properties = path === `/${name}` ? { "aria-current": "page" } : {};
    return make("li", {}, make("a", { ...properties, href: addressOf(path, query) }, project && markOf(project, stage), text()));
  });
  const rail = make("nav", { className: "rail", "aria-label": t("Steps of the project") }, make("ol", {}, ...steps));
  const elsewhere = make("nav", { className: "places", "aria-label": t("Places") },
    ...places().map(([path, text]) => link(text, path, {}, path === (name === "home" ? "/" : `/${name}`) ? { "aria-current": "page" } : {})));
  return make("header", {}, make("a", { className: "brand", href: "/" }, "Axons"), project ? rail : "", elsewhere,
    make("div", { className: "tools" }, drawBell(context), drawMenu(context)));
}

const places = () => [["/", t("My projects")], ["/models", t("Models")], ["/class", t("My class")]];

function markOf(project, stage) {
  const { mark, state, said, text } = stageOf(project, stage);
  return make("span", { className: `mark ${state}`, title: text, role: "img", "aria-label": `${said} – ${text}` }, mark);
}

/** What happens on this screen, and how to do the same by the command. */
function aside(explain, command) {
  return make("aside", { "aria-label": t("What is happening here?") },
    make("h2", {}, t("What is happening here?")),
    ...explain.map((text) => make("p", {}, ...explained(text))),
    ...(command ? [make("h2", {}, t("The same by the command")), snippet(command)] : []));
}

customElements.define("axons-screen", AxonsScreen);
if (document.readyState === "loading") await new Promise((resolve) => addEventListener("DOMContentLoaded", resolve, { once: true }));
// Drawn before Gradio starts, which takes it seconds, and out of reach of its looks, which would win over ours; first for
// the keyboard, too.
const screen = document.createElement("axons-screen");
screen.setAttribute("name", location.pathname.replaceAll("/", "") || "home");
document.body.prepend(screen);
addEventListener("unhandledrejection", (event) => complain(event.reason));
