// Telling others who has a tile open.

import { Offline } from "./api.js";

const RENEW_MS = 30_000;

/**
 * The lease of one tile; nothing is asked before `take`.
 * @param onLease called with {is_mine, holder, until} as {isMine, holder, until} after each renewal
 * @param onError called with what the server refused; being offline is none of it
 */
export function createLease({ tileId, api, onLease, onError = () => {} }) {
  let timer = null;
  let isHeld = false;

  async function renew(takesOver = false) {
    if (document.visibilityState === "hidden") return;
    try {
      const { is_mine: isMine, holder, until } = await api.takeLease(tileId, takesOver);
      isHeld = isMine;
      if (timer === null) release(); // closed while the answer was on its way
      onLease({ isMine, holder, until: until === null ? null : new Date(until) });
    } catch (error) {
      if (!(error instanceof Offline)) onError(error);
    }
  }

  function release() {
    if (isHeld) api.releaseLease(tileId).catch(() => {});
    isHeld = false;
  }

  const renewNow = () => renew();

  return {
    /** Take the lease now and renew it every 30 s while the page is seen; `takesOver` takes it from its holder. */
    take(takesOver = false) {
      if (timer === null) {
        timer = setInterval(renewNow, RENEW_MS);
        document.addEventListener("visibilitychange", renewNow);
        window.addEventListener("pageshow", renewNow);
        window.addEventListener("pagehide", release);
      }
      return renew(takesOver);
    },

    /** Give it back and ask no more. */
    close() {
      clearInterval(timer);
      timer = null;
      document.removeEventListener("visibilitychange", renewNow);
      window.removeEventListener("pageshow", renewNow);
      window.removeEventListener("pagehide", release);
      release();
    },
  };
}
