// A saver with a real document and real drafts, and a server in memory that fails as the test says.

import { ApiError, AuthRequired, Offline } from "/static/annotator/api.js";
import { createDocument } from "/static/annotator/document.js";
import { createDrafts } from "/static/annotator/drafts.js";
import { fromDocument } from "/static/annotator/layers.js";
import { createSaver } from "/static/annotator/saving.js";

const SIDE = 32;

/** `answers` says what happens to the saves to come: "lost", "offline", a status, {status, ...}, or a promise. */
export function createServer() {
  const server = { revisions: [], saves: [], answers: [], status: "started", me: "u1" };
  const head = () => server.revisions.at(-1)?.number ?? 0;

  async function textOf({ body, isGzipped }) {
    const stream = new Blob([body]).stream();
    return new Response(isGzipped ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).text();
  }

  function add(json, { saveId, source = "manual", by = "u1", seconds = 0 }) {
    const name = { u1: "Ana", u2: "Ben" }[by];
    const row = { number: head() + 1, save_id: saveId, crc32: json.crc32, author_id: by, author_name: name };
    server.revisions.push({ ...row, source, seconds, json });
    return server.revisions.at(-1);
  }

  server.api = {
    async saveAnnotation(tile, save) {
      const text = await textOf(save);
      server.saves.push({ ...save, body: [...new TextEncoder().encode(text)].length, text });
      let answer = server.answers.shift() ?? "ok";
      if (typeof answer.then === "function") answer = await answer;
      if (answer === "offline") throw new Offline("no answer");
      if (answer === 401) throw new AuthRequired(401, "sign-in-required", "nobody is signed in");
      if (typeof answer === "number") answer = { status: answer };
      if (answer.status) throw new ApiError(answer.status, "", answer.detail ?? "refused", answer.retryAfter ?? null);
      let row = server.revisions.find(({ save_id: id }) => id === save.saveId);
      if (!row) {
        if (server.status === "done") throw new ApiError(423, "tile-locked", "the tile is done");
        if (save.revision !== head()) throw new ApiError(412, "stale-revision", "somebody has saved");
        row = add(JSON.parse(text), { ...save, by: server.me });
      }
      if (answer === "lost") throw new Offline("the answer was lost");
      return { revision: row.number, crc32: row.crc32, status: server.status };
    },
    async getAnnotation(tile, number = head()) {
      const row = server.revisions[number - 1];
      return { revision: number, json: structuredClone(row?.json ?? { schema: 1, height: SIDE, width: SIDE, layers: [], crc32: 0 }) };
    },
    listRevisions: async () => server.revisions.toReversed(),
    getMe: async () => ({ user: { id: server.me, name: server.me, display_name: "" } }),
    async reopen() {
      server.status = "started";
      return { revision: head(), status: server.status };
    },
  };
  /** What somebody else does with the newest labels, or with those of an earlier revision. */
  server.change = (edit, { by = "u2", base = head() } = {}) => {
    const other = createDocument({ height: SIDE, width: SIDE, by });
    const row = server.revisions[base - 1];
    other.replaceLayers(row ? fromDocument(row.json).layers : [], base);
    edit(other);
    add(other.toDocument(), { saveId: `of-${by}-${head()}`, by });
  };
  return server;
}

/** A page that has opened the tile. */
export async function openPage(server, { answer = {}, drafts = createDrafts() } = {}) {
  const { revision, json } = await server.api.getAnnotation("t");
  const page = { states: [], asked: [], merged: [], seconds: 0 };
  page.labels = createDocument({ height: SIDE, width: SIDE, by: "u1" });
  page.labels.replaceLayers(fromDocument(json).layers, revision);
  const asks = (name) => async (...what) => {
    page.asked.push([name, ...what]);
    return typeof answer[name] === "function" ? answer[name](...what) : answer[name] ?? null;
  };
  page.saver = createSaver({
    tileId: "t", api: server.api, document: page.labels, user: { id: "u1", name: "ana" }, drafts,
    activity: {
      take() { const taken = page.seconds; page.seconds = 0; return taken; },
      giveBack(seconds) { page.seconds += seconds; },
    },
    onState: ({ name }) => { if (page.states.at(-1) !== name) page.states.push(name); },
    onSaved: () => {},
    onMerged: (sentence) => page.merged.push(sentence),
    onConflict: asks("conflict"), onSignIn: asks("signIn"), onLocked: asks("locked"), onDraft: asks("draft"),
    onOtherPerson: asks("otherPerson"),
  });
  page.drafts = () => drafts.list("t", "u1");
  await page.saver.start();
  return page;
}

/** A square of pixels, painted as one step. */
export const square = (row, col, side = 4) =>
  ({ rect: { row0: row, col0: col, row1: row + side, col1: col + side }, inside: new Uint8Array(side * side).fill(1) });

export function draw(page, row, col, value) {
  page.labels.paintOnce(square(row, col), value);
  page.saver.committed();
}

/** Pixels of each value in a document of the server. */
export const countsOf = (row) => ({ ...row.json.counts });

export const until = async (isTrue) => { while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5)); };
