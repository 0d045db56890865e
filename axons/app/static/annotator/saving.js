/** Keeps the server up to date with a document, one request at a time, and loses nothing on the way. */

import { ApiError, AuthRequired, Offline } from "./api.js";
import { losesMine, merge, resolve } from "./conflict.js";
import { fromDocument } from "./layers.js";
import { newId } from "./values.js";
import { language, t } from "../screens/words.js";

const AUTOSAVE_MS = 1500;
const LONGEST_UNSAVED_MS = 10_000; // for who never stops drawing
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 30_000;
const LOOK_AGAIN_MS = 50;
const KEEPALIVE_BYTES = 60 << 10; // browsers refuse more than 64 kB
const TEXTS = {
  unsaved: () => t("Not saved yet"),
  saving: () => t("Saving…"),
  offline: () => t("Not saved – offline, trying again"),
  conflict: () => t("Conflict – choose which labels to keep"),
  "signed-out": () => t("Not saved – you are signed out"),
  locked: () => t("Not saved – the tile is done"),
};

const notSaved = (why) => t("Not saved – {why}", { why });

/** Tell other tabs and the pages around us that a tile has changed. */
export function announce(tile, revision, status) {
  const channel = new BroadcastChannel("axons");
  channel.postMessage({ type: "saved", tile, revision, status });
  channel.close();
}

/**
 * Saves what is drawn on one tile; make it when `document` shows what the server has.
 *
 * A save that has begun is repeated with the same save_id and bytes until there is an answer. Each step is also in
 * `drafts` until the server has it. `onConflict`, `onSignIn`, `onLocked` and `onDraft` ask the person and give a
 * promise of the answer; see dialogs.js.
 */
export function createSaver({
  tileId, api, document: labels, user, drafts, activity,
  onState, onSaved, onMerged, onConflict, onSignIn, onLocked, onDraft, onOtherPerson,
}) {
  const session = newId();
  const channel = new BroadcastChannel("axons");
  const nothing = { schema: 1, height: labels.height, width: labels.width, layers: [] };
  let drawn = encode(); // what the document was after its last step
  let base = serverHas(labels.revision, drawn.json, drawn.changeNumber);
  let state = { name: "saved", text: base.revision ? t("Saved") : t("Nothing to save yet"), detail: "" };
  let pending = null; // the save that has begun and was not answered
  let nextId = newId();
  let next = null; // what to do before the next save
  let hold = null; // why no save is tried: "change" ends with the next step, "asked" when the person saves
  let failures = 0;
  let isSure = true; // that nobody else has signed in meanwhile
  let isWanted = false;
  let isWorking = false;
  let isClosed = false;
  let timer = null;
  let unsavedSince = null;
  let wake = () => {};
  let waiters = [];

  // -- What is drawn

  function encode() {
    return { json: labels.toDocument(), changeNumber: labels.changeNumber };
  }

  /** What the server has, as far as we know; `sent` are ids of saves of which it may have done one since. */
  function serverHas(revision, json, changeNumber = null, source = "manual") {
    return { revision, json, changeNumber, source, sent: [] };
  }

  function isSaved() {
    if (drawn.changeNumber === base.changeNumber) return true;
    if (base.json === null || base.sent.length || !isEqual(drawn.json, base.json)) return false;
    base.changeNumber = drawn.changeNumber; // undone
    return true;
  }

  function show(layers, ...known) {
    base = serverHas(...known);
    labels.replaceLayers(layers, base.revision);
    drawn = encode();
  }

  /** Show what the server has instead of what is drawn. */
  function showSaved({ revision, json }) {
    show(layersOf(json), revision, json);
    base.changeNumber = drawn.changeNumber;
    onMerged(t("newer labels are shown"), []);
  }

  async function stepIsOver() {
    while (labels.isDrawing) await new Promise((done) => setTimeout(done, LOOK_AGAIN_MS));
  }

  // -- The draft

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
      const { revision, sent } = base;
      const draft = { ...key, revision, json: drawn.json, saveIds: [...sent, nextId], at: Date.now() };
      const isDone = !pending && drawn.changeNumber === base.changeNumber;
      await (isDone ? drafts.remove(key) : drafts.put(draft)).catch((error) => console.warn("no draft:", error));
    }
    isWriting = false;
  }

  async function isOnServer({ revision, json, saveIds }) {
    if (revision === base.revision || isEqual(json, base.json)) return isEqual(json, base.json);
    const revisions = await api.listRevisions(tileId).catch(() => []);
    return revisions.some((row) => saveIds.includes(row.save_id) && row.crc32 === json.crc32);
  }

  async function start() {
    onState(state);
    for (const draft of await drafts.list(tileId, user.id).catch(() => [])) {
      const { revision, json, saveIds, at } = draft;
      const choice = (await isOnServer(draft))
        ? "discard" : await onDraft({ at: new Date(at), isBehind: revision < base.revision });
      if (choice === "restore") {
        show(layersOf(json), revision, revision === base.revision ? base.json : null);
        base.sent = saveIds;
        say("unsaved");
        await keepDraft();
      }
      if (choice !== null) await drafts.remove(draft).catch(() => {});
      if (choice === "restore") {
        push();
        return; // an older one is offered the next time
      }
    }
  }

  // -- When to save

  function committed() {
    drawn = encode();
    keepDraft();
    if (hold === "change") hold = null;
    if (!hold && !failures && !isWorking && !isClosed) say("unsaved");
    saveSoon();
  }

  function saveSoon() {
    unsavedSince ??= Date.now();
    clearTimeout(timer);
    const left = unsavedSince + LONGEST_UNSAVED_MS - Date.now();
    timer = setTimeout(push, Math.max(0, Math.min(AUTOSAVE_MS, left)));
  }

  function push() {
    if (isClosed || hold) return;
    isWanted = true;
    if (!isWorking) work();
  }

  /** @returns {Promise<boolean>} whether the server has all that is drawn */
  async function saveNow() {
    if (isClosed) return false;
    hold = null;
    push();
    wake();
    return new Promise((done) => waiters.push(done));
  }

  async function work() {
    isWorking = true;
    while ((isWanted || pending || next || waiters.length) && !hold && !isClosed) {
      isWanted = false;
      await (next ?? save)().catch(recover);
    }
    isWorking = false; // before anybody hears of it, who may want to save again
    if (hold || isClosed) answer(false);
  }

  function answer(isDone) {
    const answered = waiters;
    waiters = [];
    for (const done of answered) done(isDone);
  }

  // -- One save

  function begin(revision = base.revision) {
    const { json, changeNumber } = drawn;
    pending = {
      saveId: nextId, json, changeNumber, revision, source: base.source, seconds: activity.take(),
      body: JSON.stringify(json), isGzipped: false, answer: null,
    };
    base.sent.push(nextId);
    nextId = newId();
    unsavedSince = null;
  }

  /** The save came to nothing. */
  function drop({ mayHaveArrived = false } = {}) {
    if (!pending) return;
    activity.giveBack(pending.seconds);
    if (!mayHaveArrived) base.sent = base.sent.filter((id) => id !== pending.saveId);
    pending = null;
  }

  async function save() {
    if (!pending && isSaved()) {
      settle();
      return;
    }
    if (!pending) begin();
    if (!failures) say("saving");
    if (!isSure) await identify();
    const saving = pending;
    if (!saving.isGzipped && !saving.answer) await compress(saving);
    saving.answer ??= send(document.visibilityState === "hidden");
    await acknowledge(await saving.answer.finally(() => { saving.answer = null; }));
  }

  function send(isLeaving) {
    const keepalive = isLeaving && pending.body.length <= KEEPALIVE_BYTES;
    return api.saveAnnotation(tileId, { ...pending, keepalive });
  }

  async function acknowledge(saved) {
    if (pending.choice) await stepIsOver();
    const { json, changeNumber, choice } = pending;
    base = serverHas(saved.revision, json, changeNumber);
    pending = null;
    failures = 0;
    labels.markSaved(saved.revision);
    announce(tileId, saved.revision, saved.status);
    onSaved(saved);
    keepDraft();
    if (choice) adopt(choice, saved.revision, json);
    else if (drawn.changeNumber === changeNumber) settle();
    else {
      say("unsaved");
      saveSoon();
    }
  }

  function settle() {
    clearTimeout(timer);
    unsavedSince = null;
    failures = 0;
    if (state.name !== "saved") {
      keepDraft();
      const time = new Date().toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
      say("saved", "", t("Saved {time}", { time }));
    }
    answer(true);
  }

  /** The page goes away: no time to compress or to wait for another save. */
  function sendLast() {
    if (isClosed || !isSure || (!pending && (hold || next || isSaved()))) return;
    if (!pending) begin();
    const last = send(true);
    last.catch(() => {});
    pending.answer ??= last;
    push(); // the page may come back
  }

  // -- What can go wrong

  async function recover(error) {
    if (isClosed) return;
    const { status, message } = error;
    if (error instanceof AuthRequired) await signIn();
    else if (error instanceof Offline || status >= 500 || status === 429) await waitToRetry(error);
    else if (status === 423) await askAboutDone(message);
    else {
      drop();
      if (status === 412) {
        next = mergeTheirs;
        return;
      }
      if (!(error instanceof ApiError)) console.error(error);
      const isGone = status === 403 || status === 404;
      hold = isGone ? "asked" : "change";
      say(isGone ? "gone" : "refused", message, notSaved(message));
    }
  }

  async function waitToRetry(error) {
    const isOffline = error instanceof Offline;
    // A browser that knows no network has sent nothing: what is drawn meanwhile can go along.
    if (isOffline && navigator.onLine === false && !pending?.choice) drop({ mayHaveArrived: true });
    isWanted = true;
    answer(false);
    say("offline", error.message, isOffline ? TEXTS.offline() : notSaved(error.message));
    const backOff = Math.min(FIRST_RETRY_MS * 2 ** failures, LAST_RETRY_MS);
    failures += 1;
    await new Promise((done) => {
      const waiting = setTimeout(done, Math.max(backOff, 1000 * (error.retryAfter ?? 0)));
      wake = () => { clearTimeout(waiting); done(); };
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
    say("signed-out", "", t("Not saved – {name} is signed in now", { name: person.display_name || person.name }));
    onOtherPerson(person, user);
    throw new Error(state.text); // leaves the save; we are closed
  }

  async function askAboutDone(message) {
    say("locked", message);
    const choice = await onLocked(message);
    next = { reopen, discard }[choice] ?? null;
    if (!next) hold = "asked";
  }

  async function reopen() {
    const tile = await api.reopen(tileId);
    next = null;
    announce(tileId, tile.revision, tile.status);
  }

  async function discard() {
    const saved = await api.getAnnotation(tileId);
    await stepIsOver();
    drop();
    next = null;
    showSaved(saved);
    settle();
  }

  // -- Two people

  async function mergeTheirs() {
    const theirs = await api.getAnnotation(tileId);
    const revisions = (await api.listRevisions(tileId)).filter((row) => row.number <= theirs.revision);
    const own = revisions.find((row) => row.number > base.revision && base.sent.includes(row.save_id));
    if (own) base = serverHas(own.number, null); // a save of ours whose answer was lost
    // A server that was set back to a backup has not deleted what it lacks.
    if (theirs.revision < base.revision || base.revision === 0) base.json = nothing;
    base.json ??= (await api.getAnnotation(tileId, base.revision)).json;
    const since = revisions.filter((row) => row.number > base.revision && row.author_id !== user.id);
    const names = [...new Set(since.map((row) => row.author_name))];
    await stepIsOver();
    drawn = encode();
    const choice = { base: layersOf(base.json), theirs: layersOf(theirs.json), names, choices: {} };
    const { model } = mergeNow(choice);
    if (model) {
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

  function mergeNow({ base: before, theirs, names }) {
    return merge(before, labels.layers, theirs, labels, names);
  }

  /** Go on with the merge of what is drawn now, on top of a revision. */
  function adopt(choice, revision, json) {
    show(resolve(mergeNow(choice), choice.choices), revision, json, null, "merge");
    isWanted = true;
    keepDraft();
    const names = new Intl.ListFormat(language).format(choice.names);
    const what = names ? t("merged with {names}'s labels", { names }) : t("merged with your labels of another window");
    onMerged(what, choice.names);
  }

  /** Show what others have saved, unless something is unsaved here: then the next save merges. */
  async function refresh() {
    const isIdle = () => !isWorking && !hold && !isClosed && !labels.isDrawing && isSaved();
    if (!isIdle()) return;
    const saved = await api.getAnnotation(tileId);
    if (isIdle() && saved.revision > base.revision) showSaved(saved);
  }

  // -- State and events

  function say(name, detail = "", text = TEXTS[name]()) {
    state = { name, text, detail };
    onState(state);
  }

  const listeners = [
    [window, "blur", push],
    [window, "online", () => wake()],
    [window, "pagehide", sendLast],
    [document, "visibilitychange", () => {
      if (document.visibilityState !== "hidden") return;
      push();
      isSure = false; // until the person is back, somebody else may sign in in another tab
    }],
    [channel, "message", ({ data }) => {
      if (data.type === "saved" && data.tile === tileId && data.revision > base.revision) refresh().catch(() => {});
    }],
  ];
  for (const [target, name, listener] of listeners) target.addEventListener(name, listener);

  /** End timers and listeners; what is not saved stays as a draft. */
  function close() {
    isClosed = true;
    clearTimeout(timer);
    wake();
    for (const [target, name, listener] of listeners) target.removeEventListener(name, listener);
    channel.close();
  }

  return { start, committed, saveNow, refresh, close, get state() { return state; } };
}

function layersOf(json) {
  return fromDocument(json).layers;
}

/** Whether two documents are the same apart from who drew when. */
function isEqual(one, other) {
  const drawnBy = ({ layers }) =>
    JSON.stringify(layers.map(({ id, t, value, keep, rings, box, rle }) => [id, t, value, keep, rings, box, rle]));
  return one.crc32 === other.crc32 && drawnBy(one) === drawnBy(other);
}

async function compress(save) {
  if (typeof CompressionStream === "undefined") return;
  const stream = new Blob([save.body]).stream().pipeThrough(new CompressionStream("gzip"));
  const body = new Uint8Array(await new Response(stream).arrayBuffer());
  if (!save.answer) Object.assign(save, { body, isGzipped: true });
}
