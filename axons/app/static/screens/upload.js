/** Files to the server in parts, which are sent again after a broken connection. */

import { post, remove, request } from "./base.js";

const TRIES = 5;

/**
 * Send a file; gives its upload as the server knows it, complete.
 * @param {File} file
 * @param {object} form what else `POST /uploads` asks for, as {project_id, purpose}
 * @param {{signal?: AbortSignal, onProgress?: (share: number) => void}} options
 */
export async function sendFile(file, form, { signal, onProgress = () => {} } = {}) {
  const upload = await post("uploads", { name: file.name, num_bytes: file.size, ...form }, { signal });
  try {
    for (let part = 0; part < upload.num_parts; part += 1) {
      const bytes = file.slice(part * upload.part_bytes, (part + 1) * upload.part_bytes);
      await sendPart(`uploads/${upload.id}/parts/${part}`, bytes, signal);
      onProgress((part + 1) / upload.num_parts);
    }
    return await post(`uploads/${upload.id}:complete`, {}, { signal });
  } catch (error) {
    remove(`uploads/${upload.id}`).catch(() => {}); // else it goes after its time
    throw error;
  }
}

async function sendPart(path, bytes, signal) {
  for (let trial = 1; ; trial += 1) {
    try {
      return await request("PUT", path, bytes, { signal, headers: { "Content-Type": "application/octet-stream" } });
    } catch (error) {
      if (signal?.aborted || (error.status && error.status < 500) || trial === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** trial));
    }
  }
}
