/** The keys: one table from which both the keyboard and the sheet that explains it are made. */

const TYPED = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";

/** [group, keys as they are shown, what it does, action, argument]; Ctrl is also Cmd. */
export const KEYS = [
  ["Tools", "B", "Brush", "setTool", "brush"],
  ["Tools", "E", "Eraser", "setTool", "eraser"],
  ["Tools", "P", "Polygon", "setTool", "polygon"],
  ["Tools", "R", "Box", "setTool", "box"],
  ["Tools", "V", "Select and edit polygons", "setTool", "select"],
  ["Tools", "F", "Fill: what is connected", "setTool", "fill"],
  ["Tools", "W", "Wand: pixels of a similar colour", "setTool", "wand"],
  ["Tools", "S", "Superpixels", "setTool", "superpixel"],
  ["Tools", "I", "Take the class below the pointer", "pickClass"],
  ["Classes", "1 … 9", "Class with this number; of selected polygons, too", "setClassByKey"],
  ["Classes", "0", "Background", "setClassByKey"],
  ["Classes", "N", "Ignored on purpose", "setClass", 254],
  ["Classes", "X", "Swap the last two classes", "swapClasses"],
  ["Classes", "L", "Protect the class: nothing paints over it", "toggleProtect"],
  ["Draw", "[", "Smaller brush; in Select the polygon above", "smaller"],
  ["Draw", "]", "Larger brush; in Select the polygon below", "larger"],
  ["Draw", "Enter", "Finish the polygon", "finish"],
  ["Draw", "Esc", "Give up what is being drawn, or the selection", "cancel"],
  ["Draw", "Backspace", "Drop the last vertex; in Select delete", "dropVertex"],
  ["Draw", "Delete", "Delete selected polygons", "deleteSelected"],
  ["Draw", "/", "New, add, subtract, divide", "nextMode"],
  ["Draw", "M", "Merge selected polygons", "mergeSelected"],
  ["Draw", "Ctrl+D", "Copy the labels of the previous tile", "copyPrevious"],
  ["Draw", "Ctrl+A", "Select all polygons", "selectAll"],
  ["Undo, save", "Ctrl+Z", "Undo", "undo"],
  ["Undo, save", "Ctrl+Shift+Z", "Redo", "redo"],
  ["Undo, save", "Ctrl+Y", "Redo", "redo"],
  ["Undo, save", "Ctrl+S", "Save now", "save"],
  ["View", "+", "Zoom in", "zoom", 1.25],
  ["View", "-", "Zoom out", "zoom", 0.8],
  ["View", "Home", "Fit the tile into the window", "fit"],
  ["View", "O", "Outlines only", "toggleOutline"],
  ["View", "Shift+F", "Full window", "fullWindow"],
  ["Suggestions", "G", "Show or hide what is suggested", "toggleProposal"],
  ["Suggestions", "Y", "Accept the part below the pointer", "acceptPart"],
  ["Suggestions", "Shift+Y", "Accept everything", "acceptAll"],
  ["Suggestions", "U", "Reject", "rejectProposal"],
  ["Tiles", ",", "Previous tile", "previousTile"],
  ["Tiles", ".", "Next tile", "nextTile"],
  ["Tiles", "Ctrl+Enter", "Mark done and open the next one", "markDone"],
  ["Keyboard only", "↑ ↓ ← →", "Move the pointer by a pixel; with Shift by ten", "nudge"],
  ["Keyboard only", "D", "Click at the pointer", "press"],
  ["Keyboard only", "Shift+D", "Press at the pointer; again: let go", "hold"],
  ["Help", "?", "These keys", "showKeys"],
];

/** What has no action of its own. */
export const HELD = [
  ["Draw", "Alt (hold)", "Subtract with the tool at hand; in Select remove a vertex"],
  ["Draw", "Shift+click", "Brush: straight line from the last point; Select: one more"],
  ["Draw", "Shift+drag", "Polygon: free-hand"],
  ["Draw", "Alt or Shift + wheel", "Brush size"],
  ["View", "Space + drag", "Move the picture; the middle and the right button do, too"],
  ["View", "Wheel", "Zoom at the pointer"],
  ["View", "H (hold)", "Hide the labels"],
];

const BY_KEY = new Map(KEYS.map(([, keys, , action, argument]) => [keys.toLowerCase(), { action, argument }]));
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** The entry for an event: digits by their place on the keyboard, everything else by what is written on the key. */
function found(event) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code)?.[1];
  const isBracket = event.key === "[" || event.key === "]"; // AltGr on many keyboards
  if (isBracket || event.key === "?" || event.key === "/") return BY_KEY.get(event.key);
  if (event.altKey) return undefined;
  const ctrl = event.ctrlKey || event.metaKey ? "ctrl+" : "";
  if (digit !== undefined && !ctrl && !event.shiftKey) return { action: "setClassByKey", argument: Number(digit) };
  if (event.key === "+" || event.key === "=") return ctrl ? undefined : BY_KEY.get("+");
  const shift = event.shiftKey && event.key.length === 1 && /[a-z]/i.test(event.key) ? "shift+" : "";
  const names = { escape: "esc" };
  const isLatin = /^[ -~]+$/.test(event.key);
  const name = (isLatin ? event.key : event.code.replace("Key", "")).toLowerCase(); // other alphabets by the key's place
  return BY_KEY.get(ctrl + shift + (names[name] ?? name));
}

/**
 * Listen on the window: keys work wherever the focus is, but not while somebody types or a dialog is open.
 * @param {(name: string, argument?: unknown) => void} run
 * @param {{isSpace: boolean}} held what is held down at the moment
 */
export function listenToKeys(run, held, { onHide, frame }) {
  window.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.target.closest?.(TYPED)) return;
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const isControl = event.target !== frame && event.target.closest?.("button, a, summary, input, [role=slider]");
    if (event.key === " " && isPlain && !isControl) {
      held.isSpace = true;
      event.preventDefault();
    } else if (event.key.toLowerCase() === "h" && isPlain) {
      if (!event.repeat) onHide(true);
    } else if (event.key in ARROWS && isPlain && !isControl) {
      const [rows, cols] = ARROWS[event.key].map((step) => step * (event.shiftKey ? 10 : 1));
      run("nudge", [rows, cols]);
      event.preventDefault();
    } else if (!(isControl && isPlain && (event.key === "Enter" || event.key === " "))) {
      const entry = found(event);
      if (!entry) return;
      event.preventDefault();
      run(entry.action, entry.argument);
    }
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === " ") held.isSpace = false;
    if (event.key.toLowerCase() === "h") onHide(false);
  });
  window.addEventListener("blur", () => {
    held.isSpace = false;
    onHide(false);
  });
}
