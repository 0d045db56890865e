/** A whole image in a dialog, from afar and from near; only the tiles that one sees are fetched. */

import { button, field, get, make } from "./base.js";
import { swatches } from "./models-card.js";
import { t } from "./words.js";

const TILE = 256; // of the server's pyramid

let library = null;

/**
 * Open an image with its labels over it.
 * @param {string} imageId
 * @param {{overlay?: string}} options path below /api/v1 of another picture that is laid over the whole image
 */
export async function openViewer(imageId, { overlay = null } = {}) {
  const [image, OpenSeadragon] = await Promise.all([get(`images/${imageId}`), load()]);
  const { classes } = await get(`projects/${image.project_id}`);
  const place = make("div", { className: "deep", role: "application", "aria-label": t("{name}: drag to move, wheel or + and − to zoom, 0 to see all", { name: image.name }) });
  const tools = make("p", { className: "row" });
  const dialog = make("dialog", { className: "viewer", "aria-label": image.name }, make("h2", {}, image.name), place, tools, swatches(classes));
  (document.querySelector("axons-screen") ?? document.body).append(dialog);
  dialog.showModal();
  const viewer = OpenSeadragon({
    element: place, drawer: "canvas", showNavigationControl: false, tileSources: sourceOf(image), maxZoomPixelRatio: 16,
    imageSmoothingEnabled: false, animationTime: 0.4, gestureSettingsMouse: { clickToZoom: false },
  });
  dialog.addEventListener("close", () => {
    viewer.destroy();
    dialog.remove();
  });
  const zoom = (factor) => async () => {
    viewer.viewport.zoomBy(factor).applyConstraints();
  };
  tools.append(button(t("Zoom in"), zoom(1.5)), button(t("Zoom out"), zoom(1 / 1.5)), button(t("See all"), async () => {
    viewer.viewport.goHome();
  }),
  overlaySlider(viewer, t("Labels"), `images/${image.id}/labels`, overlay ? 0 : 50),
  overlay ? overlaySlider(viewer, t("Prediction"), overlay, 50) : "", button(t("Close"), async () => dialog.close()));
}

/** OpenSeadragon is no module: a script of ours brings it, once, when somebody wants to look. */
function load() {
  library ??= new Promise((resolve, reject) => {
    document.head.append(make("script", {
      src: new URL("openseadragon.js", import.meta.url).href,
      onload: () => resolve(window.OpenSeadragon),
      onerror: () => {
        library = null;
        reject(new Error(t("The viewer could not be loaded; check the connection and open the image again.")));
      },
    }));
  });
  return library;
}

/** The pyramid as it lies in the working file: halved until it fits one tile. */
function sourceOf({ id, height, width }) {
  let levels = 1;
  for (let [h, w] = [height, width]; Math.max(h, w) > TILE && Math.min(h, w) > 1; h >>= 1, w >>= 1) levels += 1;
  const maxLevel = Math.ceil(Math.log2(Math.max(height, width, 2)));
  return {
    height, width, tileSize: TILE, tileOverlap: 0, maxLevel, minLevel: maxLevel - levels + 1,
    getTileUrl: (level, col, row) => `/api/v1/images/${id}/pyramid/${maxLevel - level}/${col}/${row}`,
  };
}

function overlaySlider(viewer, name, path, percent) {
  const slider = make("input", { type: "range", min: 0, max: 100, value: percent });
  viewer.addOnceHandler("open", () => viewer.addTiledImage({
    tileSource: { type: "image", url: `/api/v1/${path}`, buildPyramid: false }, width: 1, opacity: slider.value / 100,
    success: ({ item }) => slider.addEventListener("input", () => item.setOpacity(slider.value / 100)),
  }));
  return field(name, slider);
}
