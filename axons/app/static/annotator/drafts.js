// Unsaved labels, kept in this browser until the server has them.

const DATABASE = "axons";
const STORE = "drafts";

/**
 * Drafts in IndexedDB, or in memory where the browser denies it.
 *
 * A draft is {tileId, userId, session, ...}; each page that is open has a session of its own, so that two tabs
 * never overwrite each other's.
 */
export function createDrafts() {
  const opened = open();
  const memory = new Map();

  async function run(mode, inDatabase, inMemory) {
    const database = await opened;
    return database === null ? inMemory() : done(inDatabase(database.transaction(STORE, mode).objectStore(STORE)));
  }

  return {
    /** Keep a draft instead of this session's earlier one. */
    put: (draft) => run("readwrite", (store) => store.put(draft, keyOf(draft)), () => memory.set(`${keyOf(draft)}`, draft)),

    /** Drafts of a person for a tile, the newest first. */
    async list(tileId, userId) {
      const range = IDBKeyRange.bound([tileId, userId], [tileId, userId, []]);
      const isMine = (draft) => draft.tileId === tileId && draft.userId === userId;
      const found = await run("readonly", (store) => store.getAll(range), () => [...memory.values()].filter(isMine));
      return found.sort((one, other) => other.at - one.at);
    },

    /** Forget a session's draft. */
    remove: (draft) => run("readwrite", (store) => store.delete(keyOf(draft)), () => memory.delete(`${keyOf(draft)}`)),
  };
}

const keyOf = ({ tileId, userId, session }) => [tileId, userId, session];

function open() {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      request.onsuccess = () => resolve(request.result);
      request.onerror = request.onblocked = () => resolve(null);
    } catch {
      resolve(null); // private windows and strict settings
    }
  });
}

/** A request's result, once its transaction is on disk. */
function done(request) {
  return new Promise((resolve, reject) => {
    request.transaction.oncomplete = () => resolve(request.result);
    request.transaction.onabort = request.transaction.onerror = () => reject(request.error ?? request.transaction.error);
  });
}
