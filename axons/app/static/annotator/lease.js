/** Telling others who has a tile open. */

const RENEW_MS = 30_000;

/**
 * The lease of one tile; nothing is asked before `take`.
 * @param onLease called with {isMine, holder, until} after each renewal
 * @param onError called when one fails; the next comes all the same
 */
export function createLease({ tileId, api, onLease, onError }) {
  let timer = null;
  let isMine = false;

  async function renew(takesOver) {
    const lease = await api.takeLease(tileId, takesOver);
    isMine = lease.is_mine;
    if (timer === null) release(); // closed while the answer was on its way
    else onLease({ isMine, holder: lease.holder, until: lease.until && new Date(lease.until) });
  }

  function renewIfSeen() {
    if (document.visibilityState === "visible") renew(false).catch(onError);
  }

  function release() {
    if (isMine) api.releaseLease(tileId).catch(() => {});
    isMine = false;
  }

  const listeners = [
    [document, "visibilitychange", renewIfSeen],
    [window, "pageshow", renewIfSeen],
    [window, "pagehide", release],
  ];

  return {
    /** Take the lease now and renew it every 30 s while the page is seen; `takesOver` takes it from its holder. */
    take(takesOver = false) {
      if (timer === null) {
        timer = setInterval(renewIfSeen, RENEW_MS);
        for (const [target, name, listener] of listeners) target.addEventListener(name, listener);
      }
      return renew(takesOver).catch(onError);
    },

    /** Give it back and ask no more. */
    close() {
      clearInterval(timer);
      timer = null;
      for (const [target, name, listener] of listeners) target.removeEventListener(name, listener);
      release();
    },
  };
}
