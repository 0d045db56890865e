/** How runs and their scores are called. */

import { t, number } from "./words.js";

const SPLITS = { train: () => t("training"), val: () => t("validation"), test: () => t("test") };

/** A split as people call it. */
export const splitText = (split) => SPLITS[split]();

/** "Run 3 · nerve". */
export const runName = (run) => t("Run {number} · {name}", { number: run.number, name: run.name });

/** "validation, 2 images". */
export const onWhat = (split, { num_images: n }) => (n === 1 ? t("{split}, 1 image", { split: splitText(split) }) : t("{split}, {n} images", { split: splitText(split), n }));

/** A score of 0 to 1, or a dash where there is none. */
export const score = (value) => number(value, 3);

/** A share of 0 to 1 in per cent. */
export const percent = (share) => `${number(100 * share, 1)} %`;
