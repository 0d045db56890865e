/** Which pixels of a class carry its pattern: a way to tell classes apart without colours. */

const PATTERNS = [
  (row, col) => (row + col) % 8 < 4,
  (row, col) => (((row - col) % 8) + 8) % 8 < 4,
  (row) => row % 6 < 3,
  (_, col) => col % 6 < 3,
  (row, col) => row % 6 < 2 || col % 6 < 2,
  (row, col) => (row >> 2) % 2 === (col >> 2) % 2,
  (row, col) => row % 5 === 2 && col % 5 === 2,
];

/** Whether the pattern of a value covers this pixel. */
export function crossesWith(value, row, col) {
  return value === 0 || PATTERNS[(value - 1) % PATTERNS.length](row, col);
}

/** Whether the hatching of what a model proposes covers this pixel. */
export function isHatched(row, col) {
  return (row + col) % 6 < 3;
}
