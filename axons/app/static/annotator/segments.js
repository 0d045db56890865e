/** Superpixels of the tile that is open, made once per size in a worker. */

/**
 * @param {() => {rgba: Uint8ClampedArray, height: number, width: number} | null} picture of the tile
 * @param {() => void} onReady
 */
export function createSegments(picture, onReady) {
  let worker = null;
  let made = null; // {labels, regionOf, size}
  let wanted = null; // {size, token} of what is being made
  let token = 0;
  const started = { at: 0, took: null };

  function receive({ data }) {
    if (data.token !== token) return; // of another tile, or another size
    const { size, width } = wanted;
    wanted = null;
    made = { size, ...withRegions(data.labels, data.count, width) };
    started.took = performance.now() - started.at;
    onReady();
  }

  return {
    get isBusy() { return wanted !== null; },
    get count() { return made?.count ?? 0; },
    get took() { return started.took; },

    /** The segments of this size, or null while they are being made. */
    get(size) {
      if (made?.size === size) return made;
      const seen = wanted?.size === size ? null : picture();
      if (!seen) return null;
      if (!worker) {
        worker = new Worker(new URL("./superpixel-worker.js", import.meta.url), { type: "module" });
        worker.addEventListener("message", receive);
      }
      wanted = { size, width: seen.width };
      started.at = performance.now();
      worker.postMessage({ rgba: seen.rgba, height: seen.height, width: seen.width, size, token: ++token });
      return null;
    },

    /** Forget the tile. */
    clear() {
      made = wanted = null;
      token++;
    },
  };
}

/** Labels with a way to find the pixels of one without looking at all of them. */
function withRegions(labels, count, width) {
  const bounds = Array.from({ length: count }, () => ({ row0: Infinity, col0: Infinity, row1: 0, col1: 0 }));
  for (let i = 0; i < labels.length; i++) {
    const box = bounds[labels[i]];
    const row = Math.floor(i / width);
    const col = i - row * width;
    box.row0 = Math.min(box.row0, row);
    box.row1 = row + 1;
    box.col0 = Math.min(box.col0, col);
    box.col1 = Math.max(box.col1, col + 1);
  }
  return {
    labels,
    count,
    regionOf(label) {
      const rect = bounds[label];
      const cols = rect.col1 - rect.col0;
      const inside = new Uint8Array((rect.row1 - rect.row0) * cols);
      for (let k = 0; k < inside.length; k++) {
        if (labels[(rect.row0 + Math.floor(k / cols)) * width + rect.col0 + (k % cols)] === label) inside[k] = 1;
      }
      return { rect, inside };
    },
  };
}
