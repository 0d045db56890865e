/** What the row `annotator` measures inside a page; `TILE` is replaced by what the page has open, once one can draw. */
(() => {
  const probe = { tile: () => TILE, ready: null, dabs: [], waits: [], frames: [], watchFrames };
  window.probe = probe;
  const channel = new MessageChannel();
  const waiting = [];
  channel.port1.onmessage = () => { for (const tell of waiting.splice(0)) tell(performance.now()); };

  /** Tell the time once the next frame is drawn: a message is handed over after it. */
  function afterFrame(tell) {
    requestAnimationFrame(() => {
      waiting.push(tell);
      channel.port2.postMessage(null);
    });
  }

  function look() {
    if (probe.tile()) afterFrame((now) => { probe.ready = now; });
    else requestAnimationFrame(look);
  }
  requestAnimationFrame(look);

  // A move with the button down: from when the page is told to the frame that shows it, and how long it was not told.
  window.addEventListener("pointermove", (event) => {
    if (!(event.buttons & 1)) return;
    const told = performance.now();
    probe.waits.push(told - event.timeStamp);
    afterFrame((now) => probe.dabs.push(now - told));
  }, true);

  /** From now on: how long until the next frame, of each frame in which the pointer moved with the middle button. */
  function watchFrames() {
    let before = null;
    let hasMoved = false;
    window.addEventListener("pointermove", (event) => { hasMoved ||= (event.buttons & 4) > 0; }, true);
    requestAnimationFrame(function frame(now) {
      if (before !== null) probe.frames.push(now - before);
      before = hasMoved ? now : null;
      hasMoved = false;
      requestAnimationFrame(frame);
    });
  }
})();
