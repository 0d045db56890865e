/** The values of a plane's pixels, as axons/data/layers.py defines them, and ids of new things. */

export const UNLABELLED = 255;
export const IGNORED = 254;
/** In mask layers only: leaves what is below. */
export const SEE_THROUGH = 253;
export const MAX_CLASS_INDEX = 252;
/** Polygon coordinates are whole sixteenths of a pixel; (0, 0) is the outer corner of the first pixel. */
export const SUBPIXEL = 16;

const ID_BYTES = 18;

/** @returns {string} 24 random characters out of A-Z, a-z, 0-9, "-" and "_" */
export function newId() {
  // Over plain http only getRandomValues is there, not randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
