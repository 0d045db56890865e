/** Files to the server in parts; after a broken connection only the parts that are missing are sent again. */

import { get, post, remove, request } from "./base.js";

const TRIES = 5;

/**
 * Send a file; gives its upload as the server knows it, complete.
 *
 * Where the connection breaks for long, the error has the `upload`: what has arrived stays, and `resumed` goes on with it.
 * @param {File} file
 * @param {object} form what else `POST /uploads` asks for, as {project_id, purpose}
 * @param {{signal?: AbortSignal, onProgress?: (share: number) => void, resumed?: object}} options
 */
export async function sendFile(file, form, { signal, onProgress = () => {}, resumed = null } = {}) {
  const upload = (resumed && await known(resumed, signal)) ?? await post("uploads", { name: file.name, num_bytes: file.size, ...form }, { signal });
  try {
    let sent = upload.num_parts - upload.missing.length;
    for (const part of upload.missing) {
      const bytes = file.slice(part * upload.part_bytes, (part + 1) * upload.part_bytes);
      await sendPart(`uploads/${upload.id}/parts/${part}`, bytes, signal);
      onProgress((sent += 1) / upload.num_parts);
    }
    return await post(`uploads/${upload.id}:complete`, {}, { signal });
  } catch (error) {
    if (isBroken(error, signal)) error.upload = upload;
    else remove(`uploads/${upload.id}`).catch(() => {}); // else it goes after its time
    throw error;
  }
}

/** Whether it was the connection that failed; not a person who stopped it, nor the server that refused. */
const isBroken = (error, signal) => !signal?.aborted && !(error.status < 500);

/** The upload as it is now, or null where its time is over. */
async function known(upload, signal) {
  try {
    return await get(`uploads/${upload.id}`, { signal });
  } catch (error) {
    if (error.status === 404) return null;
    error.upload = upload;
    throw error;
  }
}

async function sendPart(path, bytes, signal) {
  for (let trial = 1; ; trial += 1) {
    try {
      return await request("PUT", path, bytes, { signal, headers: { "Content-Type": "application/octet-stream" } });
    } catch (error) {
      if (!isBroken(error, signal) || trial === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** trial));
    }
  }
}
