/** The REST API of the server: the only module that calls fetch. */

import { fromServer, t } from "../screens/words.js";

const ROOT = "/api/v1";
const LONGEST_ANSWER_MS = 60_000;

/** The server refused: `detail` is its sentence for the person, `retryAfter` are seconds. */
export class ApiError extends Error {
  constructor(status, title, detail, retryAfter = null) {
    super(detail);
    Object.assign(this, { status, title, detail, retryAfter });
  }
}

/** Nobody is signed in, or a first password has to be changed. */
export class AuthRequired extends ApiError {}

/** No answer came; the server may have done what was asked. */
export class Offline extends Error {}

/**
 * Ask the server; `path` begins behind /api/v1.
 * @returns {Promise<Response>} an answer that is a success; else ApiError, AuthRequired or Offline is thrown
 */
export async function request(method, path, { json, body = json && JSON.stringify(json), headers, keepalive } = {}) {
  const options = { method, body, keepalive, cache: "no-cache", signal: AbortSignal.timeout(LONGEST_ANSWER_MS) };
  options.headers = { ...(body && { "Content-Type": "application/json" }), ...headers };
  const response = await fetch(ROOT + path, options).catch(() => {
    throw new Offline(t("the server does not answer"));
  });
  if (!response.ok) throw await problemOf(response);
  return response;
}

export const getJson = (path) => parsed(request("GET", path));
export const post = (path, json) => parsed(request("POST", path, { json }));

export const getMe = () => getJson("/auth/me");
export const logIn = (name, password) => post("/auth/login", { name, password });
export const signInMethods = () => getJson("/auth/methods");

export const listRevisions = (tileId) => getJson(`/tiles/${tileId}/revisions`);
export const markDone = (tileId) => post(`/tiles/${tileId}/done`);
export const reopen = (tileId) => parsed(request("DELETE", `/tiles/${tileId}/done`));
export const takeLease = (tileId, takesOver) => post(`/tiles/${tileId}/lease?takes_over=${takesOver}`);
export const releaseLease = (tileId) => request("DELETE", `/tiles/${tileId}/lease`, { keepalive: true });

/**
 * The newest labels of a tile, or those of one revision.
 * @returns {Promise<{revision: number, json: object}>}
 */
export async function getAnnotation(tileId, number) {
  const path = number === undefined ? "annotation" : `revisions/${number}`;
  const response = await request("GET", `/tiles/${tileId}/${path}`);
  const json = await parsed(response);
  // Some imported layers have no id. All pages must call them the same, or a merge would take them for two.
  json.layers.forEach((layer, i) => { layer.id ||= `unnamed-${i}`; });
  return { revision: Number(response.headers.get("ETag").replace(/\D/g, "")), json };
}

/** Save labels that began with `revision`; the same save_id and body may be sent again. */
export function saveAnnotation(tileId, { body, isGzipped, revision, saveId, seconds, source, keepalive }) {
  const query = new URLSearchParams({ save_id: saveId, seconds: seconds.toFixed(1), source });
  const headers = { "If-Match": `"${revision}"`, ...(isGzipped && { "Content-Encoding": "gzip" }) };
  return parsed(request("PUT", `/tiles/${tileId}/annotation?${query}`, { body, headers, keepalive }));
}

/** Make an earlier revision the newest once more. */
export function restoreRevision(tileId, number, revision, saveId) {
  const headers = { "If-Match": `"${revision}"` };
  return parsed(request("POST", `/tiles/${tileId}/revisions/${number}/restore?save_id=${saveId}`, { headers }));
}

async function parsed(answer) {
  const response = await answer;
  return response.json().catch(() => {
    throw new Offline(t("the answer was cut off"));
  });
}

async function problemOf(response) {
  const { status, headers } = response;
  const { title = "", detail = t("the server answered {status}", { status }) } = await response.json().catch(() => ({}));
  const asksToSignIn = status === 401 || title === "password-change-required";
  const retryAfter = Number(headers.get("Retry-After")) || null;
  return new (asksToSignIn ? AuthRequired : ApiError)(status, title, fromServer(detail), retryAfter);
}
