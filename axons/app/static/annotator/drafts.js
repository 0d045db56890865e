/** Unsaved labels, kept in this browser until the server has them. */

const STORE = "drafts";

/**
 * Drafts in IndexedDB, or in memory where the browser denies it.
 *
 * A draft is {tileId, userId, session, at, ...}; each open page has a session of its own, so that two tabs never
 * overwrite each other's.
 */
export function createDrafts() {
  const opened = open();
  const memory = new Map();
  const keyOf = ({ tileId, userId, session }) => [tileId, userId, session];

  async function run(mode, inDatabase, inMemory) {
    const database = await opened;
    return database ? done(inDatabase(database.transaction(STORE, mode).objectStore(STORE))) : inMemory();
  }

  return {
    /** Keep a draft instead of this session's earlier one. */
    put: (draft) =>
      run("readwrite", (store) => store.put(draft, keyOf(draft)), () => memory.set(`${keyOf(draft)}`, draft)),

    /** Drafts of a person for a tile, the newest first. */
    async list(tileId, userId) {
      const range = IDBKeyRange.bound([tileId, userId], [tileId, userId, []]);
      const isMine = (draft) => draft.tileId === tileId && draft.userId === userId;
      const found = await run("readonly", (store) => store.getAll(range), () => [...memory.values()].filter(isMine));
      return found.sort((one, other) => other.at - one.at);
    },

    /** Forget a session's draft. */
    remove: (draft) =>
      run("readwrite", (store) => store.delete(keyOf(draft)), () => memory.delete(`${keyOf(draft)}`)),
  };
}

function open() {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open("axons", 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
    } catch {
      resolve(null); // private windows and strict settings
    }
  });
}

/** A request's result, once its transaction is on disk. */
function done(request) {
  const { transaction } = request;
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
