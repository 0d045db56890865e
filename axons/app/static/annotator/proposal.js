/** What a model or the pixel classifier suggests for a tile: shown hatched, and no label before somebody accepts it. */

import { maskLayer } from "./layers.js";
import { isHatched } from "./patterns.js";
import { part, without } from "./regions.js";
import { SEE_THROUGH, UNLABELLED } from "./values.js";

/**
 * @param {object} page {document, view, settings, user, changed}
 * @param {{mask: Uint8Array, confidence: Uint8Array, source: string}} answer planes of the tile's size
 */
export function createProposal(page, { mask, confidence, source }) {
  const { height, width } = page.document;
  const left = mask.slice(); // what was neither accepted nor shown to be a label already
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  let threshold = 0; // of 255
  let isShown = true;
  let keepsLabels = true;

  /** The values that are suggested at the moment; 255 where nothing is. */
  function plane() {
    const { plane: labels } = page.document;
    return left.map((value, i) =>
      confidence[i] >= threshold && !(keepsLabels && labels[i] !== UNLABELLED) ? value : UNLABELLED);
  }

  function draw() {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    const suggested = plane();
    const colours = page.view.overlayColours;
    for (let row = 0, i = 0; row < height; row++) {
      for (let col = 0; col < width; col++, i++) if (isHatched(row, col)) pixels[i] = colours[suggested[i]];
    }
    context.putImageData(picture, 0, 0);
    page.view.setProposal(isShown ? canvas : null);
  }

  /** One step: pixels of `suggested` where `isChosen` become a layer of their own that says where it comes from. */
  function accept(suggested, isChosen) {
    const whole = { row0: 0, col0: 0, row1: height, col1: width };
    const chosen = { rect: whole, inside: suggested.map((value, i) => (value !== UNLABELLED && isChosen(value, i) ? 1 : 0)) };
    const { inside } = without(chosen, page.document.plane, width, page.settings.protect);
    if (!inside.includes(1)) return false;
    const values = suggested.map((value, i) => (inside[i] ? value : SEE_THROUGH));
    for (let i = 0; i < left.length; i++) if (inside[i]) left[i] = UNLABELLED;
    const layer = maskLayer({ rect: whole, values, by: page.user.name, src: source });
    page.document.changeLayers([...page.document.layers, layer]);
    draw();
    page.changed();
    return true;
  }

  draw();
  return {
    source,
    draw,
    plane,
    get threshold() { return threshold; },
    get isShown() { return isShown; },
    get numPixels() { return plane().reduce((count, value) => count + (value === UNLABELLED ? 0 : 1), 0); },

    setThreshold(value) {
      threshold = value;
      draw();
    },

    setKeepsLabels(value) {
      keepsLabels = value;
      draw();
    },

    toggle() {
      isShown = !isShown;
      draw();
    },

    /** The connected part below a pixel. */
    acceptPart(row, col) {
      const suggested = plane();
      if (suggested[row * width + col] === UNLABELLED) return false;
      const { rect, inside } = part(suggested, height, width, row, col);
      const isInPart = (i) => {
        const [r, c] = [Math.floor(i / width), i % width];
        return r >= rect.row0 && r < rect.row1 && c >= rect.col0 && c < rect.col1
          && inside[(r - rect.row0) * (rect.col1 - rect.col0) + c - rect.col0];
      };
      return accept(suggested, (_, i) => isInPart(i));
    },

    acceptClass: (wanted) => accept(plane(), (value) => value === wanted),
    acceptAll: () => accept(plane(), () => true),

    reject() {
      page.view.setProposal(null);
    },
  };
}
