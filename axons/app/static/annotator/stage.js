/** Pointer, pen, fingers and wheel above the picture: they draw with the tool at hand, pan, or zoom. */

const WHEEL_STEP = 1.0015;
const KEYBOARD_POINTER = -1;

/**
 * @param {object} page {view, settings, tool, isReadOnly, isPanning, resizeBrush, pointerMoved}; `tool` is looked up
 *   at each event, so that it may change in between
 */
export function createStage(page) {
  const { view } = page;
  const { frame } = view;
  const touches = new Map(); // pointers that are fingers -> [x, y]
  let pointer = null; // where it is in the image, null outside the frame
  let dragging = null; // {id, tool} while a tool is at work
  let panning = null; // {id, x, y}
  let pinch = null; // {distance, x, y}
  let hasPen = false; // then fingers only move the picture, as the palm would draw

  function pointerOf(event) {
    const [row, col] = view.toImage(event);
    return { row, col, alt: event.altKey, shift: event.shiftKey, clicks: event.detail, client: [event.clientX, event.clientY] };
  }

  function see(event) {
    pointer = pointerOf(event);
    page.pointerMoved(pointer);
    view.askAbove();
  }

  function down(event) {
    frame.focus({ preventScroll: true });
    hasPen ||= event.pointerType === "pen";
    if (event.pointerType === "touch") touches.set(event.pointerId, [event.clientX, event.clientY]);
    if (touches.size === 2) {
      drop(true);
      pinch = spread();
      return;
    }
    capture(event.pointerId);
    const isPan = event.button === 1 || event.button === 2 || page.isPanning() || (hasPen && event.pointerType === "touch");
    if (isPan) {
      panning = { id: event.pointerId, x: event.clientX, y: event.clientY };
      event.preventDefault();
    } else if (event.button === 0 && !dragging) {
      see(event);
      press(event.pointerId);
    }
  }

  function press(id) {
    const tool = page.tool();
    if (!tool || (page.isReadOnly && tool !== page.tools.select)) {
      page.refuse();
      return;
    }
    dragging = { id, tool };
    tool.down(pointer);
    view.askAbove();
  }

  function move(event) {
    if (touches.has(event.pointerId)) touches.set(event.pointerId, [event.clientX, event.clientY]);
    if (pinch) {
      const now = spread();
      view.pan(now.x - pinch.x, now.y - pinch.y);
      view.zoomBy(now.distance / pinch.distance, [now.x, now.y]);
      pinch = now;
    } else if (panning?.id === event.pointerId) {
      view.pan(event.clientX - panning.x, event.clientY - panning.y);
      Object.assign(panning, { x: event.clientX, y: event.clientY });
    } else if (dragging?.id === event.pointerId) {
      const steps = (dragging.tool.wantsEachMove && event.getCoalescedEvents?.()) || []; // not there over plain http
      for (const step of steps.length ? steps : [event]) dragging.tool.move(pointerOf(step));
      see(event);
    } else {
      see(event);
      if (!page.isReadOnly) page.tool()?.move(pointer);
    }
  }

  function up(event) {
    touches.delete(event.pointerId);
    if (touches.size < 2) pinch = null;
    if (panning?.id === event.pointerId) panning = null;
    if (dragging?.id === event.pointerId) {
      see(event);
      drop(false);
    }
  }

  /** End what the tool is doing. */
  function drop(isCancelled) {
    const ended = dragging;
    dragging = null;
    if (!ended) return;
    if (isCancelled) ended.tool.cancel();
    else ended.tool.up(pointer);
    view.askAbove();
  }

  function wheel(event) {
    event.preventDefault();
    const amount = event.deltaY || event.deltaX; // Shift turns the wheel sideways
    if (event.altKey || event.shiftKey) {
      page.resizeBrush(amount < 0 ? 1 : -1);
    } else {
      const pixels = event.deltaMode === 1 ? amount * 33 : amount;
      view.zoomBy(WHEEL_STEP ** -Math.max(-400, Math.min(400, pixels)), [event.clientX, event.clientY]);
    }
    see(event);
  }

  /** Capture keeps a drag alive outside the frame; events that scripts make cannot be captured. */
  function capture(id) {
    try {
      frame.setPointerCapture(id);
    } catch {
      // The drag ends at the frame's border then.
    }
  }

  function spread() {
    const [[x0, y0], [x1, y1]] = [...touches.values()];
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, distance: Math.max(1, Math.hypot(x0 - x1, y0 - y1)) };
  }

  frame.addEventListener("pointerdown", down);
  frame.addEventListener("pointermove", move);
  frame.addEventListener("pointerup", up);
  frame.addEventListener("pointercancel", (event) => {
    if (dragging?.id === event.pointerId) drop(true);
    up(event);
  });
  frame.addEventListener("pointerleave", () => {
    if (dragging || panning) return;
    pointer = null;
    page.pointerMoved(null);
    view.askAbove();
  });
  frame.addEventListener("wheel", wheel, { passive: false });
  frame.addEventListener("contextmenu", (event) => event.preventDefault());
  frame.addEventListener("auxclick", (event) => event.preventDefault());
  view.setToolDrawing((context, zoom) => page.tool()?.draw(context, zoom, pointer));

  return {
    get pointer() { return pointer; },
    get isBusy() { return dragging !== null; },

    /** Give up what the pointer is doing. */
    cancel: () => drop(true),

    /** End it as if the pointer were let go. */
    finish: () => drop(false),

    /** Move the pointer by the keyboard: rows and columns in pixels of the image. */
    nudge(rows, cols) {
      const { height, width } = page.document;
      const here = pointer ?? { row: height / 2, col: width / 2 };
      const centre = (place, most) => Math.min(most, Math.max(0, Math.floor(place))) + 0.5;
      const row = centre(here.row + rows, height - 1);
      const col = centre(here.col + cols, width - 1);
      pointer = { row, col, alt: false, shift: false, clicks: 1, client: view.toScreen(row, col) };
      dragging?.tool.move(pointer);
      page.pointerMoved(pointer);
      view.askAbove();
    },

    /** Press and let go at the keyboard's pointer; with `holds` press, or let go. */
    press({ holds = false, alt = false } = {}) {
      if (!pointer) this.nudge(0, 0);
      pointer = { ...pointer, alt };
      if (!dragging) press(KEYBOARD_POINTER);
      else if (holds) {
        drop(false);
        return;
      }
      if (!holds) drop(false);
    },
  };
}
