/** Superpixels by SLIC (Achanta et al., TPAMI 34(11), 2012, doi:10.1109/TPAMI.2012.120), on red, green, blue. */

const ITERATIONS = 5;
/** Of a colour difference of this share of the picture's contrast, a distance of one segment weighs as much. */
const COMPACTNESS = 0.5;
const LEAST_WEIGHT = 2;
const UNSET = -1;

/**
 * Segments of about `size` * `size` pixels that follow the picture's edges.
 * @param {Uint8ClampedArray} rgba height * width * 4 bytes
 * @returns {Int32Array} the segment of each pixel, 0 to n - 1; each segment is one 4-connected piece
 */
export function superpixels(rgba, height, width, size) {
  const { centres, labels } = grid(rgba, height, width, size);
  const weight = Math.max(COMPACTNESS * contrast(rgba), LEAST_WEIGHT) / size;
  for (let i = 0; i < ITERATIONS; i += 1) {
    assign(labels, rgba, centres, height, width, { size, weight: weight * weight });
    recentre(centres, labels, rgba, height, width);
  }
  return connected(labels, height, width, (size * size) / 4);
}

/** Standard deviation of the colours. */
function contrast(rgba) {
  const sums = [0, 0, 0];
  let squares = 0;
  for (let i = 0; i < rgba.length; i += 4) {
    for (let k = 0; k < 3; k += 1) {
      sums[k] += rgba[i + k];
      squares += rgba[i + k] ** 2;
    }
  }
  const count = rgba.length / 4;
  return Math.sqrt(Math.max(0, squares / count - sums.reduce((total, sum) => total + (sum / count) ** 2, 0)));
}

/** Squares of about `size` px: their centres (row, column and colour, five numbers each), and each pixel's square. */
function grid(rgba, height, width, size) {
  const rows = Math.max(1, Math.round(height / size));
  const cols = Math.max(1, Math.round(width / size));
  const centres = new Float32Array(5 * rows * cols);
  for (let k = 0; k < rows * cols; k += 1) {
    const row = Math.floor(((Math.floor(k / cols) + 0.5) * height) / rows);
    const col = Math.floor((((k % cols) + 0.5) * width) / cols);
    const i = row * width + col;
    centres.set([row, col, rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]], 5 * k);
  }
  const labels = new Int32Array(height * width).map((_, i) => {
    const row = Math.floor(i / width);
    return Math.floor((row * rows) / height) * cols + Math.floor(((i - row * width) * cols) / width);
  });
  return { centres, labels };
}

/** Gives each pixel the label of the nearest centre, in colour and place; one that no centre reaches keeps its own. */
function assign(labels, rgba, centres, height, width, { size, weight }) {
  const nearest = new Float32Array(labels.length).fill(Infinity);
  for (let k = 0; 5 * k < centres.length; k += 1) {
    const [row, col, red, green, blue] = centres.subarray(5 * k, 5 * k + 5);
    const left = Math.max(0, Math.ceil(col - size));
    const right = Math.min(width, Math.floor(col + size) + 1);
    for (let r = Math.max(0, Math.ceil(row - size)); r <= Math.min(height - 1, row + size); r += 1) {
      const inRows = weight * (r - row) * (r - row);
      for (let c = left, i = r * width + left; c < right; c += 1, i += 1) {
        const dr = rgba[4 * i] - red;
        const dg = rgba[4 * i + 1] - green;
        const db = rgba[4 * i + 2] - blue;
        const distance = inRows + weight * (c - col) * (c - col) + dr * dr + dg * dg + db * db;
        if (distance < nearest[i]) {
          nearest[i] = distance;
          labels[i] = k;
        }
      }
    }
  }
}

/** Moves each centre to the mean of its pixels; one without pixels stays. */
function recentre(centres, labels, rgba, height, width) {
  const sums = new Float64Array(centres.length);
  const counts = new Uint32Array(centres.length / 5);
  for (let row = 0, i = 0; row < height; row += 1) {
    for (let col = 0; col < width; col += 1, i += 1) {
      const k = 5 * labels[i];
      counts[labels[i]] += 1;
      sums[k] += row;
      sums[k + 1] += col;
      sums[k + 2] += rgba[4 * i];
      sums[k + 3] += rgba[4 * i + 1];
      sums[k + 4] += rgba[4 * i + 2];
    }
  }
  for (let i = 0; i < centres.length; i += 1) {
    const count = counts[Math.floor(i / 5)];
    if (count > 0) centres[i] = sums[i] / count;
  }
}

/** Numbers the connected pieces; one of fewer than `least` pixels joins the piece before it. */
function connected(labels, height, width, least) {
  const pieces = new Int32Array(labels.length).fill(UNSET);
  const queue = new Int32Array(labels.length);
  let count = 0;
  for (let start = 0; start < labels.length; start += 1) {
    if (pieces[start] !== UNSET) continue;
    const size = collect(pieces, labels, height, width, { start, piece: count, queue });
    if (size < least && start > 0) {
      // All before `start` has its piece: the pixel to the left, or the one above.
      const before = pieces[start % width ? start - 1 : start - width];
      for (let i = 0; i < size; i += 1) pieces[queue[i]] = before;
    } else {
      count += 1;
    }
  }
  return pieces;
}

/** Marks the piece around `start`, and lists its pixels in `queue`; returns how many there are. */
function collect(pieces, labels, height, width, { start, piece, queue }) {
  const label = labels[start];
  let size = 0;
  const add = (i) => {
    if (pieces[i] !== UNSET || labels[i] !== label) return;
    pieces[i] = piece;
    queue[size] = i;
    size += 1;
  };
  add(start);
  for (let done = 0; done < size; done += 1) {
    const i = queue[done];
    const col = i % width;
    if (col > 0) add(i - 1);
    if (col < width - 1) add(i + 1);
    if (i >= width) add(i - width);
    if (i < width * (height - 1)) add(i + width);
  }
  return size;
}
