/** How long a person really works: the time between two signs of life counts, at most 10 s of it. */

const IDLE_MS = 10_000;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel"];

/** A clock of active seconds over `target`. */
export function createActivity(target = window) {
  let active = 0;
  let last = null;

  function notice() {
    const now = performance.now();
    if (last !== null) active += Math.min(now - last, IDLE_MS);
    last = now;
  }
  for (const sign of SIGNS) target.addEventListener(sign, notice, { passive: true, capture: true });

  return {
    /** Seconds since they were last taken. */
    take() {
      const seconds = active / 1000;
      active = 0;
      return seconds;
    },

    /** Seconds that were taken for a save that came to nothing. */
    giveBack(seconds) {
      active += 1000 * seconds;
    },

    close() {
      for (const sign of SIGNS) target.removeEventListener(sign, notice, { capture: true });
    },
  };
}
