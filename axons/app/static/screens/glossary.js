/** About forty terms, each in at most 25 words; `t` of a meaning is in the catalogue. */

export const GLOSSARY = {
  tile: { name: "tile", meaning: "A square window of an image, small enough to be labelled at one sitting." },
  iou: { name: "IoU", meaning: "Intersection over union: shared pixels divided by all pixels of prediction and truth; 1 is perfect." },
};
