// Keeps the server up to date with a document, one request at a time, and loses nothing on the way.

import { ApiError, AuthRequired, Offline } from "./api.js";
import { losesMine, merge, resolve } from "./conflict.js";
import { fromDocument } from "./layers.js";
import { newId } from "./values.js";

const AUTOSAVE_MS = 1500;
const LONGEST_UNSAVED_MS = 10_000; // for who never stops drawing
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 30_000;
const LOOK_AGAIN_MS = 50;
const KEEPALIVE_BYTES = 60 << 10; // browsers refuse more than 64 kB
const TEXTS = {
  unsaved: "Not saved yet",
  saving: "Saving…",
  offline: "Not saved – offline, trying again",
  conflict: "Conflict – choose which labels to keep",
  "signed-out": "Not saved – you are signed out",
  locked: "Not saved – the tile is done",
};

/** Tell other tabs and the pages around us that a tile has changed. */
export function announce(tile, revision, status) {
  const channel = new BroadcastChannel("axons");
  channel.postMessage({ type: "saved", tile, revision, status });
  channel.close();
}

/**
 * Saves what is drawn on one tile; make it when `document` shows what the server has.
 *
 * Every save that has begun is finished with the same save_id and bytes, whatever happens to its answer. Each step is
 * also in `drafts` until the server has it. The `on...` that give a promise ask the person; null is "not now".
 */
export function createSaver({
  tileId, api, document: labels, user, drafts, activity,
  onState = () => {}, onSaved = () => {}, onMerged = () => {}, onOtherPerson = () => {},
  onConflict, onSignIn, onLocked, onDraft,
}) {
  const session = newId();
  const channel = new BroadcastChannel("axons");
  const nothing = { schema: 1, height: labels.height, width: labels.width, layers: [] };
  let state = { name: "saved", at: null, text: "Nothing to save yet", detail: "" };
  let drawn = encode(); // what the document was after its last step
  let base = { revision: labels.revision, json: drawn.json, changeNumber: drawn.changeNumber }; // what the server has
  let pending = null; // the save that has begun and was not answered
  let nextId = newId();
  let sent = []; // save_ids since `base` of which the server may have done one without our knowing
  let next = null; // what to do before the next save: "merge", "reopen", "discard"
  let source = "manual";
  let hold = null; // why no save is tried: "change" ends with the next step, "asked" when the person asks
  let failures = 0;
  let isSure = true; // that nobody else has signed in meanwhile
  let isWanted = false;
  let isWorking = false;
  let timer = null;
  let unsavedSince = null;
  let wake = () => {};
  let waiters = [];
  let isClosed = false;

  // -- What is drawn -------------------------------------------------------------------------------------------------

  function encode() {
    return { json: labels.toDocument(), changeNumber: labels.changeNumber };
  }

  function isSaved() {
    if (drawn.changeNumber === base.changeNumber) return true;
    if (base.json === null || sent.length > 0 || !isEqual(drawn.json, base.json)) return false;
    base.changeNumber = drawn.changeNumber; // undone
    return true;
  }

  /** Show other layers, which began with `revision`; `json` is what the server has, null if it is not known. */
  function show(layers, revision, json) {
    labels.replaceLayers(layers, revision);
    drawn = encode();
    base = { revision, json, changeNumber: null };
    sent = [];
  }

  async function stepIsOver() {
    while (labels.isDrawing) await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }

  // -- The draft -----------------------------------------------------------------------------------------------------

  let isDraftWritten = true;
  let isWriting = false;

  /** Write the newest state, or remove the draft if the server has it; one after the other. */
  async function keepDraft() {
    isDraftWritten = false;
    if (isWriting) return;
    isWriting = true;
    while (!isDraftWritten) {
      isDraftWritten = true;
      const key = { tileId, userId: user.id, session };
      const { revision } = base;
      const draft = { ...key, revision, json: drawn.json, saveIds: [...sent, nextId], at: Date.now() };
      const isDone = pending === null && drawn.changeNumber === base.changeNumber;
      await (isDone ? drafts.remove(key) : drafts.put(draft)).catch((error) => console.warn("no draft:", error));
    }
    isWriting = false;
  }

  async function isOnServer(draft) {
    if (draft.revision === base.revision || isEqual(draft.json, base.json)) return isEqual(draft.json, base.json);
    const revisions = await api.listRevisions(tileId).catch(() => []);
    return revisions.some((row) => draft.saveIds.includes(row.save_id) && row.crc32 === draft.json.crc32);
  }

  async function start() {
    for (const draft of await drafts.list(tileId, user.id).catch(() => [])) {
      const choice = (await isOnServer(draft))
        ? "discard"
        : await onDraft({ at: new Date(draft.at), isBehind: draft.revision < base.revision });
      if (choice === "restore") {
        show(layersOf(draft.json), draft.revision, draft.revision === base.revision ? base.json : null);
        sent = draft.saveIds;
        await keepDraft();
      }
      if (choice !== null) await drafts.remove(draft).catch(() => {});
      if (choice === "restore") {
        say("unsaved");
        push();
        return; // an older one is offered the next time
      }
    }
  }

  // -- When to save --------------------------------------------------------------------------------------------------

  function committed() {
    drawn = encode();
    keepDraft();
    if (hold === "change") hold = null;
    if (hold === null && failures === 0 && !isWorking && !isClosed) say("unsaved");
    saveSoon();
  }

  function saveSoon() {
    unsavedSince ??= performance.now();
    clearTimeout(timer);
    const left = unsavedSince + LONGEST_UNSAVED_MS - performance.now();
    timer = setTimeout(push, Math.max(0, Math.min(AUTOSAVE_MS, left)));
  }

  function push() {
    if (isClosed || hold !== null) return;
    clearTimeout(timer);
    isWanted = true;
    if (!isWorking) work();
  }

  function saveNow() {
    if (hold === null && !isWorking && isSaved() && next === null) {
      settle();
      return Promise.resolve(true);
    }
    hold = null;
    const answer = new Promise((resolve) => waiters.push({ changeNumber: drawn.changeNumber, resolve }));
    push();
    wake();
    return answer;
  }

  async function work() {
    isWorking = true;
    while ((isWanted || pending || next || waiters.length > 0) && hold === null && !isClosed) {
      isWanted = false;
      try {
        if (next !== null) await { merge: mergeTheirs, reopen, discard }[next]();
        else await save();
      } catch (error) {
        await recover(error);
      }
    }
    isWorking = false; // before anybody hears of it, who may want to save again
    if (hold !== null || isClosed) answerWaiters(false);
  }

  // -- One save ------------------------------------------------------------------------------------------------------

  function begin(revision = base.revision) {
    const { json, changeNumber } = drawn;
    pending = {
      saveId: nextId, body: JSON.stringify(json), isGzipped: false, json, changeNumber, revision, source,
      seconds: activity.take(), answer: null,
    };
    sent.push(nextId);
    nextId = newId();
    unsavedSince = null;
  }

  /** The save came to nothing; `mayHaveArrived` if nobody knows. */
  function drop(mayHaveArrived) {
    if (pending === null) return;
    activity.giveBack(pending.seconds);
    if (!mayHaveArrived) sent = sent.filter((id) => id !== pending.saveId);
    pending = null;
  }

  async function save() {
    if (pending === null) {
      if (isSaved()) {
        settle();
        return;
      }
      begin();
    }
    if (failures === 0) say("saving");
    if (!isSure) await identify();
    if (!pending.isGzipped && pending.answer === null) await compress(pending);
    pending.answer ??= send(pending);
    const sending = pending;
    try {
      await acknowledge(await sending.answer);
    } catch (error) {
      sending.answer = null;
      throw error;
    }
  }

  function send(save) {
    const isLeaving = document.visibilityState === "hidden";
    const keepalive = isLeaving && (save.body.byteLength ?? save.body.length) <= KEEPALIVE_BYTES;
    return api.saveAnnotation(tileId, { ...save, keepalive });
  }

  async function acknowledge(saved) {
    const { json, changeNumber, choice } = pending;
    if (choice) await stepIsOver();
    const savedAs = pending.source;
    base = { revision: saved.revision, json, changeNumber };
    [pending, sent, failures, source] = [null, [], 0, "manual"];
    labels.markSaved(saved.revision, changeNumber);
    announce(tileId, saved.revision, saved.status);
    onSaved(saved, savedAs);
    if (choice) {
      adopt(choice, saved.revision, json);
      return;
    }
    keepDraft();
    if (drawn.changeNumber === changeNumber) settle();
    else {
      say("unsaved");
      saveSoon();
    }
    answerWaiters(true, changeNumber);
  }

  function settle() {
    clearTimeout(timer);
    [unsavedSince, failures] = [null, 0];
    if (state.name !== "saved") {
      labels.markSaved(base.revision, base.changeNumber);
      keepDraft();
      say("saved");
    }
    answerWaiters(true, drawn.changeNumber);
  }

  function answerWaiters(isDone, changeNumber = Infinity) {
    const answered = waiters.filter((waiter) => waiter.changeNumber <= changeNumber);
    waiters = waiters.filter((waiter) => waiter.changeNumber > changeNumber);
    for (const { resolve } of answered) resolve(isDone);
  }

  /** The page goes away: no time to compress or to wait for another save. */
  function sendLast() {
    if (isClosed || !isSure || (pending === null && (hold !== null || isSaved() || next !== null))) return;
    if (pending === null) begin();
    if (pending.body.length > KEEPALIVE_BYTES) return;
    const answer = api.saveAnnotation(tileId, { ...pending, keepalive: true });
    answer.catch(() => {});
    pending.answer ??= answer;
    push();
  }

  // -- What can go wrong ---------------------------------------------------------------------------------------------

  async function recover(error) {
    if (isClosed) return;
    if (error instanceof AuthRequired) await signIn();
    else if (error instanceof Offline || isPassing(error.status)) await waitAndRetry(error);
    else if (error.status === 412) {
      drop(false);
      next = "merge";
    } else if (error.status === 423) await askAboutDone(error);
    else {
      if (!(error instanceof ApiError)) console.error(error);
      drop(false);
      const isGone = error.status === 403 || error.status === 404;
      hold = isGone ? "asked" : "change";
      say(isGone ? "gone" : "refused", error.message, `Not saved – ${error.message}`);
    }
  }

  async function waitAndRetry(error) {
    // A browser that knows no network has sent nothing: what is drawn meanwhile can go along.
    if (error instanceof Offline && navigator.onLine === false && !pending?.choice) drop(true);
    isWanted = true;
    answerWaiters(false);
    say("offline", error.message, error instanceof ApiError ? `Not saved – ${error.message}` : TEXTS.offline);
    const backOff = Math.min(FIRST_RETRY_MS * 2 ** failures, LAST_RETRY_MS);
    failures += 1;
    await new Promise((resolve) => {
      const waiting = setTimeout(resolve, Math.max(backOff, 1000 * (error.retryAfter ?? 0)));
      wake = () => { clearTimeout(waiting); resolve(); };
    });
  }

  async function signIn() {
    say("signed-out");
    isSure = false;
    if (await onSignIn(api, user)) failures = 0;
    else hold = "asked";
  }

  /** Never send under another person's name. */
  async function identify() {
    const person = (await api.getMe()).user;
    isSure = person.id === user.id;
    if (isSure) return;
    isClosed = true;
    say("signed-out", "", `Not saved – ${person.display_name || person.name} is signed in now`);
    onOtherPerson(person, user);
    throw new AuthRequired(401, "other-person", state.text); // ends the work: we are closed
  }

  async function askAboutDone(error) {
    say("locked", error.message);
    next = await onLocked(error.message);
    if (next === null) hold = "asked";
    if (next === "discard") drop(false);
  }

  async function reopen() {
    const tile = await api.reopen(tileId);
    next = null;
    isWanted = true;
    announce(tileId, tile.revision, tile.status);
  }

  async function discard() {
    const { revision, json } = await api.getAnnotation(tileId);
    await stepIsOver();
    show(layersOf(json), revision, json);
    base.changeNumber = drawn.changeNumber;
    next = null;
    settle();
  }

  // -- Two people ----------------------------------------------------------------------------------------------------

  async function mergeTheirs() {
    const theirs = await api.getAnnotation(tileId);
    const revisions = (await api.listRevisions(tileId)).filter((row) => row.number <= theirs.revision);
    const own = revisions.find((row) => row.number > base.revision && sent.includes(row.save_id));
    if (own) { // a save of ours whose answer was lost
      base = { revision: own.number, json: null, changeNumber: null };
      sent = [];
    }
    // A server that was set back to a backup has not deleted what it lacks.
    if (theirs.revision < base.revision) base.json = nothing;
    base.json ??= await labelsOf(base.revision);
    const since = revisions.filter((row) => row.number > base.revision && row.author_id !== user.id);
    const names = [...new Set(since.map((row) => row.author_name))];
    await stepIsOver();
    drawn = encode();
    const choice = { base: layersOf(base.json), theirs, names, choices: {} };
    const { model } = mergeNow(choice);
    if (model !== null) {
      say("conflict");
      choice.choices = await onConflict(model);
      if (choice.choices === null) {
        hold = "asked";
        return;
      }
    }
    next = null;
    if (losesMine(choice.choices)) {
      begin(theirs.revision);
      pending.choice = choice;
    } else adopt(choice, theirs.revision, theirs.json);
  }

  const mergeNow = (choice) => merge(choice.base, labels.layers, layersOf(choice.theirs.json), labels, choice.names);

  /** Go on with the merge of what is drawn now, on top of a revision. */
  function adopt(choice, revision, json) {
    show(resolve(mergeNow(choice), choice.choices), revision, json);
    source = "merge";
    isWanted = true;
    keepDraft();
    const others = choice.names.length > 0 ? `${choice.names.join("'s and ")}'s labels` : "your labels of another window";
    onMerged(`merged with ${others}`, choice.names);
  }

  async function labelsOf(revision) {
    return revision === 0 ? nothing : (await api.getAnnotation(tileId, revision)).json;
  }

  /** Show what others have saved, unless something is unsaved here: then the next save merges. */
  async function refresh() {
    if (isWorking || hold !== null || !isSaved()) return;
    const { revision, json } = await api.getAnnotation(tileId);
    if (isWorking || isClosed || labels.isDrawing || !isSaved() || revision <= base.revision) return;
    show(layersOf(json), revision, json);
    base.changeNumber = drawn.changeNumber;
    labels.markSaved(revision, base.changeNumber);
  }

  // -- State and events ----------------------------------------------------------------------------------------------

  function say(name, detail = "", text = TEXTS[name]) {
    const at = name === "saved" ? new Date() : state.at;
    const time = at?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    state = { name, at, text: text ?? `Saved ${time}`, detail };
    onState(state);
  }

  function leave() {
    push();
    isSure = false; // until the person is back, anybody may sign in in another tab
  }

  const listeners = [
    [window, "blur", () => push()],
    [window, "online", () => wake()],
    [window, "pagehide", sendLast],
    [document, "visibilitychange", () => document.visibilityState === "hidden" && leave()],
    [channel, "message", ({ data }) => {
      if (data.type === "saved" && data.tile === tileId && data.revision > base.revision) refresh().catch(() => {});
    }],
  ];
  for (const [target, name, listener] of listeners) target.addEventListener(name, listener);

  return {
    start,
    committed,
    saveNow,
    refresh,
    get state() { return state; },

    /** End timers and listeners; what is not saved stays as a draft. */
    async close() {
      isClosed = true;
      clearTimeout(timer);
      wake();
      for (const [target, name, listener] of listeners) target.removeEventListener(name, listener);
      channel.close();
      while (isWriting) await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    },
  };
}

const layersOf = (json) => fromDocument(json).layers;

/** Whether two documents are the same apart from who drew when. */
function isEqual(one, other) {
  return one.crc32 === other.crc32 && fingerprint(one) === fingerprint(other);
}

function fingerprint({ layers }) {
  return JSON.stringify(layers.map(({ id, t, value, keep, rings, box, rle }) => [id, t, value, keep, rings, box, rle]));
}

const isPassing = (status) => status >= 500 || status === 429 || status === 408;

async function compress(save) {
  if (typeof CompressionStream === "undefined") return;
  const stream = new Blob([save.body]).stream().pipeThrough(new CompressionStream("gzip"));
  const body = new Uint8Array(await new Response(stream).arrayBuffer());
  if (save.answer === null) Object.assign(save, { body, isGzipped: true });
}
