/** Our own elements on the screens of Gradio; everything from elsewhere is written as text. */

const ID = /^[A-Za-z0-9_-]{1,64}$/;
const TILES_AT_ONCE = 100;

/** Make an element with properties and children. */
function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** An id in this page's address, or null. */
function idInAddress(name) {
  const id = new URLSearchParams(location.search).get(name) ?? "";
  return ID.test(id) ? id : null;
}

async function getJson(path) {
  const response = await fetch(`/api/v1/${path}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

/** `<axons-frame>`: the annotator for `?tile=`, with the keys going to it as soon as it is there. */
class AxonsFrame extends HTMLElement {
  connectedCallback() {
    const tile = idInAddress("tile");
    if (!tile) {
      this.replaceChildren(make("p", {}, "No tile is chosen. ", make("a", { href: "/" }, "Choose one")));
      return;
    }
    const whole = make("a", { href: `/annotate/${tile}` }, "Full window");
    const frame = make("iframe", { src: `/annotate/${tile}`, title: "Annotator", allow: "fullscreen" });
    // So that loading the page again opens the tile that was last seen in it.
    const follow = () => {
      const shown = frame.contentWindow.location.pathname;
      whole.href = shown;
      history.replaceState(history.state, "", `/annotate?tile=${shown.split("/").at(-1)}`);
    };
    frame.addEventListener("load", () => {
      frame.contentWindow.navigation?.addEventListener("currententrychange", follow);
      frame.contentWindow.focus();
    });
    this.replaceChildren(whole, frame);
    // What Gradio draws above is as high as it likes.
    this.style.height = `calc(100dvh - ${Math.ceil(this.getBoundingClientRect().top + scrollY)}px - 0.5rem)`;
  }
}

/** `<axons-home>`: one's projects; with `?project=` the tiles of one. */
class AxonsHome extends HTMLElement {
  async connectedCallback() {
    const project = idInAddress("project");
    try {
      this.replaceChildren(...(project ? await tilesOf(project) : await projects()));
    } catch (error) {
      this.replaceChildren(make("p", { role: "alert" }, error.message));
    }
  }
}

async function projects() {
  const { items } = await getJson("projects");
  const links = items.map((project) => make("li", {}, make("a", { href: `/?project=${project.id}` }, project.name)));
  const api = make("p", {}, make("a", { href: "/api/docs" }, "Everything else, by REST"));
  return [make("h1", {}, "Projects"), links.length ? make("ul", {}, ...links) : make("p", {}, "None yet."), api];
}

async function tilesOf(id) {
  const [project, page, following] = await Promise.all([
    getJson(`projects/${id}`),
    getJson(`projects/${id}/tiles?limit=${TILES_AT_ONCE}`),
    getJson(`projects/${id}/queue/next`),
  ]);
  const next = following.tile
    ? make("a", { href: `/annotate?tile=${following.tile.id}` }, "Annotate the next tile")
    : "No tile is left to annotate.";
  const tiles = page.items.map((tile) => {
    const name = `row ${tile.row0}, column ${tile.col0}: ${tile.status}`;
    const picture = make("img", { src: `/api/v1/tiles/${tile.id}/thumbnail`, alt: "", loading: "lazy" });
    return make("li", {}, make("a", { href: `/annotate?tile=${tile.id}` }, picture, name));
  });
  const more = page.next ? [make("p", {}, `The first ${TILES_AT_ONCE} tiles.`)] : [];
  return [make("h1", {}, project.name), make("p", {}, next), make("ul", {}, ...tiles), ...more];
}

customElements.define("axons-frame", AxonsFrame);
customElements.define("axons-home", AxonsHome);
