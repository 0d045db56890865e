/** What a brush covers, in whole numbers throughout, so that every browser and device ratio finds the same pixels. */

/**
 * The pixels whose centre lies within `radius` px of a segment. The ends are in half pixels: the centre of pixel
 * (row, col) is (2 * row + 1, 2 * col + 1).
 * @param {number} radius whole or half px
 * @returns a region clipped to the tile, or null where that is no pixel
 */
export function capsule(row0, col0, row1, col1, radius, height, width) {
  const reach = 2 * radius;
  const rect = {
    row0: Math.max(firstCentre(Math.min(row0, row1) - reach), 0),
    col0: Math.max(firstCentre(Math.min(col0, col1) - reach), 0),
    row1: Math.min(firstCentre(Math.max(row0, row1) + reach + 1), height),
    col1: Math.min(firstCentre(Math.max(col0, col1) + reach + 1), width),
  };
  if (rect.row0 >= rect.row1 || rect.col0 >= rect.col1) return null;
  const isWithin = distanceTest(row0, col0, row1, col1, reach);
  const cols = rect.col1 - rect.col0;
  const inside = new Uint8Array((rect.row1 - rect.row0) * cols);
  let isEmpty = true;
  for (let row = rect.row0; row < rect.row1; row += 1) {
    const [left, right] = columnsNear(row0, col0, row1, col1, reach, row);
    for (let col = Math.max(left, rect.col0); col < Math.min(right, rect.col1); col += 1) {
      if (isWithin(2 * row + 1, 2 * col + 1)) {
        inside[(row - rect.row0) * cols + col - rect.col0] = 1;
        isEmpty = false;
      }
    }
  }
  return isEmpty ? null : { rect, inside };
}

/** The first row or column whose centre lies at or after a coordinate in half pixels. */
function firstCentre(coordinate) {
  return coordinate >> 1;
}

/** Columns outside of which no centre of `row` is near the segment; which of those inside are is for the exact test. */
function columnsNear(row0, col0, row1, col1, reach, row) {
  const [low, high] = row0 === row1 ? [0, 1] : bounds(row0, row1, reach, 2 * row + 1);
  const a = col0 + low * (col1 - col0);
  const b = col0 + high * (col1 - col0);
  return [Math.floor((Math.min(a, b) - reach) / 2) - 1, Math.ceil((Math.max(a, b) + reach) / 2) + 1];
}

/** The part of a segment, from 0 to 1, that comes within `reach` of a row. */
function bounds(row0, row1, reach, centre) {
  const a = (centre - reach - row0) / (row1 - row0);
  const b = (centre + reach - row0) / (row1 - row0);
  return [Math.max(Math.min(a, b), 0), Math.min(Math.max(a, b), 1)];
}

function distanceTest(row0, col0, row1, col1, reach) {
  const rows = row1 - row0;
  const cols = col1 - col0;
  const length2 = rows * rows + cols * cols;
  const reach2 = reach * reach;
  // |cross| <= reach * length, compared as whole numbers: the square of `cross` may pass 2**53, this root does not.
  const limit = integerRoot(reach2 * length2);
  return (row, col) => {
    const y = row - row0;
    const x = col - col0;
    const along = y * rows + x * cols;
    if (along <= 0) return y * y + x * x <= reach2;
    if (along >= length2) return (row - row1) ** 2 + (col - col1) ** 2 <= reach2;
    return Math.abs(y * cols - x * rows) <= limit;
  };
}

/** The largest whole number whose square is at most `square`. */
function integerRoot(square) {
  let root = Math.floor(Math.sqrt(square));
  while (root * root > square) root -= 1;
  while ((root + 1) * (root + 1) <= square) root += 1;
  return root;
}
