/** What one sees of a tile: picture, labels, surroundings, hints of the tool; and the way between screen and pixels. */

import { crossesWith } from "./patterns.js";
import { UNLABELLED, IGNORED } from "./values.js";

const MAX_ZOOM = 64;
const PICTURE_DIM = "rgba(0, 0, 0, 0.45)";
const IGNORED_COLOUR = [160, 160, 160];

/**
 * Two canvases above each other: the picture with its labels, and what moves with the pointer. Everything is drawn at
 * most once a frame.
 */
export function createView(frame) {
  const below = frame.appendChild(canvasOf("picture"));
  const above = frame.appendChild(canvasOf("pointer"));
  const show = { opacity: 0.5, isOutline: false, isHidden: false, hasPatterns: false, brightness: 100, contrast: 100 };
  const size = { width: 0, height: 0, ratio: 1 };
  const at = { zoom: 1, x: 0, y: 0 }; // screen = image * zoom + (x, y), CSS pixels
  const hidden = new Set();
  const times = []; // from a change of labels to the frame that shows it, ms
  let tile = { height: 1, width: 1 };
  let plane = null;
  let overlay = document.createElement("canvas");
  let overlayData = null;
  let palette = new Uint32Array(256);
  let pictures = null; // {picture, window, surroundings, proposal}
  let shown = null; // the picture with brightness and contrast
  let dirty = null; // rect of labels to paint anew
  let dirtySince = 0;
  let isStale = true; // more than the dirty labels has changed below the pointer
  let isWaiting = false;
  let hint = null; // {canvas, rect} of what the tool would paint
  let drawTool = () => {};
  let onMoved = () => {};

  const resizing = new ResizeObserver(measure);
  resizing.observe(frame);

  function measure() {
    const box = frame.getBoundingClientRect();
    const wasEmpty = !size.width;
    const hadFit = Math.abs(at.zoom - fitZoom()) < 1e-6;
    Object.assign(size, { width: box.width, height: box.height, ratio: window.devicePixelRatio || 1 });
    for (const canvas of [below, above]) {
      canvas.width = Math.max(1, Math.round(size.width * size.ratio));
      canvas.height = Math.max(1, Math.round(size.height * size.ratio));
    }
    if (wasEmpty || hadFit) fit();
    else ask();
  }

  function ask() {
    isStale = true;
    askAbove();
  }

  /** Only the pointer, the hint of a tool or dirty labels are drawn anew: a small part of what `ask` costs. */
  function askAbove() {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      draw();
    });
  }

  function draw() {
    const changedRect = plane && dirty;
    if (changedRect) {
      paintOverlay(changedRect);
      dirty = null;
      times.push(performance.now() - dirtySince);
      if (times.length > 500) times.shift();
    }
    if (isStale) drawBelow();
    else if (changedRect) drawBelow(changedRect);
    isStale = false;
    drawAbove();
  }

  /** All of it, or only what shows a rect of the tile. */
  function drawBelow(rect = null) {
    const paint = below.getContext("2d");
    paint.save();
    if (rect) clip(paint, rect);
    clear(paint, below);
    if (pictures) drawPictures(paint);
    paint.restore();
  }

  function drawPictures(paint) {
    place(paint);
    paint.imageSmoothingEnabled = at.zoom * size.ratio < 1;
    const { window: around, surroundings, proposal } = pictures;
    paint.drawImage(shown ?? pictures.picture, around.col0, around.row0, around.width, around.height);
    if (surroundings && !show.isHidden) {
      paint.globalAlpha = show.opacity * 0.7;
      paint.drawImage(surroundings, around.col0, around.row0, around.width, around.height);
      paint.globalAlpha = 1;
    }
    paint.fillStyle = PICTURE_DIM;
    paint.beginPath();
    paint.rect(around.col0, around.row0, around.width, around.height);
    paint.rect(0, 0, tile.width, tile.height);
    paint.fill("evenodd");
    if (!show.isHidden) {
      paint.globalAlpha = show.isOutline ? 1 : show.opacity;
      paint.drawImage(overlay, 0, 0);
      paint.globalAlpha = 1;
      if (proposal) paint.drawImage(proposal, 0, 0);
    }
    paint.lineWidth = 1 / at.zoom;
    paint.strokeStyle = "white";
    paint.strokeRect(0, 0, tile.width, tile.height);
  }

  function drawAbove() {
    const paint = above.getContext("2d");
    clear(paint, above);
    if (!pictures) return;
    place(paint);
    paint.imageSmoothingEnabled = false;
    if (hint) paint.drawImage(hint.canvas, hint.rect.col0, hint.rect.row0);
    drawTool(paint, at.zoom);
  }

  /** To whole pixels of the screen, and as far as smoothing and outlines look around. */
  function clip(paint, { row0, col0, row1, col1 }) {
    const around = Math.max(2, Math.ceil(3 / at.zoom));
    const [x0, y0] = [at.x + (col0 - around) * at.zoom, at.y + (row0 - around) * at.zoom].map((place) => Math.floor(size.ratio * place));
    const [x1, y1] = [at.x + (col1 + around) * at.zoom, at.y + (row1 + around) * at.zoom].map((place) => Math.ceil(size.ratio * place));
    paint.setTransform(1, 0, 0, 1, 0, 0);
    paint.beginPath();
    paint.rect(x0, y0, x1 - x0, y1 - y0);
    paint.clip();
  }

  function clear(paint, canvas) {
    paint.setTransform(1, 0, 0, 1, 0, 0);
    paint.clearRect(0, 0, canvas.width, canvas.height);
  }

  function place(paint) {
    const { ratio } = size;
    paint.setTransform(ratio * at.zoom, 0, 0, ratio * at.zoom, ratio * at.x, ratio * at.y);
  }

  /** Labels inside rect as colours; the labels themselves stay in the plane and are never read back from here. */
  function paintOverlay(changedRect) {
    const { height, width } = tile;
    const border = show.isOutline ? 1 : 0; // a pixel's outline depends on its neighbours
    const row0 = Math.max(0, changedRect.row0 - border);
    const row1 = Math.min(height, changedRect.row1 + border);
    const col0 = Math.max(0, changedRect.col0 - border);
    const col1 = Math.min(width, changedRect.col1 + border);
    const pixels = new Uint32Array(overlayData.data.buffer);
    for (let row = row0; row < row1; row++) {
      for (let col = col0, i = row * width + col0; col < col1; col++, i++) {
        const value = plane[i];
        let colour = palette[value];
        if (show.isOutline && colour && !isEdge(i, row, col, value)) colour = 0;
        else if (show.hasPatterns && colour && !crossesWith(value, row, col)) colour = faint(colour);
        pixels[i] = colour;
      }
    }
    overlay.getContext("2d").putImageData(overlayData, 0, 0, col0, row0, col1 - col0, row1 - row0);
  }

  function isEdge(i, row, col, value) {
    const { height, width } = tile;
    return (
      (row > 0 && plane[i - width] !== value) || (row < height - 1 && plane[i + width] !== value) ||
      (col > 0 && plane[i - 1] !== value) || (col < width - 1 && plane[i + 1] !== value)
    );
  }

  function fitZoom() {
    const room = 24;
    return Math.max(0.02, Math.min((size.width - room) / tile.width, (size.height - room) / tile.height));
  }

  function fit() {
    const zoom = fitZoom();
    Object.assign(at, { zoom, x: (size.width - tile.width * zoom) / 2, y: (size.height - tile.height * zoom) / 2 });
    moved();
  }

  function moved() {
    ask();
    onMoved();
  }

  function recolour() {
    if (!plane) return;
    labelsChanged({ row0: 0, col0: 0, row1: tile.height, col1: tile.width });
  }

  function labelsChanged(rect) {
    if (!dirty) dirtySince = performance.now();
    dirty = dirty
      ? { row0: Math.min(dirty.row0, rect.row0), col0: Math.min(dirty.col0, rect.col0),
          row1: Math.max(dirty.row1, rect.row1), col1: Math.max(dirty.col1, rect.col1) }
      : { ...rect };
    askAbove();
  }

  /** Brightness and contrast of the view only; labels, wand and training never see them. */
  function adjust() {
    if (!pictures) return;
    if (show.brightness === 100 && show.contrast === 100) {
      shown = null;
    } else {
      const { picture } = pictures;
      shown = document.createElement("canvas");
      shown.width = picture.width;
      shown.height = picture.height;
      const paint = shown.getContext("2d");
      paint.filter = `brightness(${show.brightness}%) contrast(${show.contrast}%)`;
      paint.drawImage(picture, 0, 0);
    }
    ask();
  }

  return {
    frame,
    show,
    hidden,
    times,
    get zoom() { return at.zoom; },
    get offset() { return [at.y, at.x]; },
    get overlayColours() { return palette; },
    ask,
    askAbove,
    fit,
    labelsChanged,
    adjust,
    recolour,

    /** Show another tile; `labels` is its plane, which is looked at whenever `labelsChanged` is called. */
    open(newTile, labels) {
      const keepsPlace = newTile.height === tile.height && newTile.width === tile.width && pictures;
      tile = { height: newTile.height, width: newTile.width };
      plane = labels;
      overlay = document.createElement("canvas");
      overlay.width = tile.width;
      overlay.height = tile.height;
      overlayData = overlay.getContext("2d").createImageData(tile.width, tile.height);
      pictures?.picture.close();
      pictures?.surroundings?.close();
      pictures = null;
      recolour();
      if (!keepsPlace) fit();
    },

    setPicture({ picture, window: around }) {
      pictures?.picture.close();
      pictures = { surroundings: null, proposal: null, ...pictures, picture, window: around };
      adjust();
    },

    setSurroundings(surroundings) {
      if (pictures) Object.assign(pictures, { surroundings });
      ask();
    },

    /** A canvas of the tile's size above the labels; null takes it away. */
    setProposal(proposal) {
      if (pictures) pictures.proposal = proposal;
      ask();
    },

    /** Colours by value: [[value, "#rrggbb"], ...]; what is not there is not shown. */
    setColours(colours) {
      palette = new Uint32Array(256);
      for (const [value, colour] of colours) if (!hidden.has(value)) palette[value] = pack(rgbOf(colour));
      palette[IGNORED] = hidden.has(IGNORED) ? 0 : pack(IGNORED_COLOUR);
      palette[UNLABELLED] = 0;
      recolour();
    },

    /** A region in a colour above the labels; null takes it away. */
    setHint(region, [red, green, blue] = []) {
      hint = null;
      if (region) {
        const { rect, inside } = region;
        const canvas = canvasOf("hint");
        canvas.width = rect.col1 - rect.col0;
        canvas.height = rect.row1 - rect.row0;
        const data = new ImageData(canvas.width, canvas.height);
        inside.forEach((isInside, i) => { if (isInside) data.data.set([red, green, blue, 160], 4 * i); });
        canvas.getContext("2d").putImageData(data, 0, 0);
        hint = { canvas, rect };
      }
      askAbove();
    },

    setToolDrawing(drawing) {
      drawTool = drawing;
    },

    setOnMoved(listener) {
      onMoved = listener;
    },

    /** Where in the image an event happened: [row, col] in pixels, fractions kept. */
    toImage(event) {
      const box = above.getBoundingClientRect();
      return [(event.clientY - box.top - at.y) / at.zoom, (event.clientX - box.left - at.x) / at.zoom];
    },

    /** The opposite of `toImage`: [clientX, clientY]. */
    toScreen(row, col) {
      const box = above.getBoundingClientRect();
      return [box.left + col * at.zoom + at.x, box.top + row * at.zoom + at.y];
    },

    pan(dx, dy) {
      at.x += dx;
      at.y += dy;
      moved();
    },

    /** Zoom so that the point under the cursor stays there; without a cursor the centre of the frame. */
    zoomBy(factor, client = null) {
      const box = above.getBoundingClientRect();
      const x = client ? client[0] - box.left : size.width / 2;
      const y = client ? client[1] - box.top : size.height / 2;
      const zoom = Math.min(MAX_ZOOM, Math.max(Math.min(fitZoom(), 1) / 4, at.zoom * factor));
      at.x = x - ((x - at.x) * zoom) / at.zoom;
      at.y = y - ((y - at.y) * zoom) / at.zoom;
      at.zoom = zoom;
      moved();
    },

    /** The part of the tile that one sees: a rect, clipped to nothing. */
    seen() {
      return { row0: -at.y / at.zoom, col0: -at.x / at.zoom,
               row1: (size.height - at.y) / at.zoom, col1: (size.width - at.x) / at.zoom };
    },
  };
}

/** [r, g, b] of "#rrggbb". */
export function rgbOf(colour) {
  const number = Number.parseInt(colour.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

function pack([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function faint(colour) {
  return ((colour & 0x00ffffff) | (110 << 24)) >>> 0;
}

function canvasOf(name) {
  const canvas = document.createElement("canvas");
  canvas.className = name;
  return canvas;
}
