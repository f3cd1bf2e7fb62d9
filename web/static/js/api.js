// @ts-check
/**
 * The one way to our REST API: JSON in and out, the CSRF token of the page, problems as errors.
 * Knows nothing of any page. Standard: RFC 9457 (problem+json).
 */

/** A refusal of the server, or no answer at all (`code` "OFFLINE"). */
export class ApiError extends Error {
  /**
   * @param {string} code upper snake case, such as "INSUFFICIENT_TOKENS"
   * @param {string} detail a sentence for people
   * @param {Record<string, any>} [fields] values to act on, such as `required` and `balance`
   * @param {number} [status] HTTP status; 0 when there was no answer
   */
  constructor(code, detail, fields = {}, status = 0) {
    super(detail);
    this.name = "ApiError";
    this.code = code;
    this.detail = detail;
    this.fields = fields;
    this.status = status;
  }
}

/** @returns {string} the token that Flask-WTF expects in X-CSRFToken */
function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]')?.getAttribute("content") ?? "";
}

/** @returns {string} a fresh key for a call that moves tokens; reuse it when you try the same thing again */
export function newIdempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One key for one wish: pressing again after a lost answer asks the same thing, and it is done once. */
export class OneKey {
  #wish = "";
  #key = "";

  /** @param {unknown} wish what is asked for @returns {string} the same key as for the last wish, if it is the same one */
  for(wish) {
    const text = JSON.stringify(wish);
    if (text !== this.#wish) [this.#wish, this.#key] = [text, newIdempotencyKey()];
    return this.#key;
  }

  /** There was an answer: what is asked for next is another wish. */
  answered() {
    this.#wish = "";
  }
}

/** @param {Response} response @returns {Promise<ApiError>} */
async function problem(response) {
  const text = await response.text();
  /** @type {Record<string, any>} */
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = {};
  }
  const { code, detail, title, type: _type, status: _status, instance: _instance, ...fields } = body;
  const words = detail ?? title ?? `The server answered ${response.status}.`;
  return new ApiError(code ?? `HTTP_${response.status}`, words, fields, response.status);
}

/**
 * @param {string} method
 * @param {string} path such as "/api/wallet"
 * @param {any} [body] sent as JSON
 * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
 * @returns {Promise<any>} the decoded answer, or null when it has no body
 * @throws {ApiError}
 */
async function call(method, path, body, { idempotencyKey, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("OFFLINE", "The server did not answer. Check the connection and try again.");
  }
  if (!response.ok) throw await problem(response);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export const api = {
  /** @param {string} path @param {{signal?: AbortSignal}} [options] */
  get: (path, options) => call("GET", path, undefined, options),
  /** @param {string} path @param {any} [body] @param {{idempotencyKey?: string, signal?: AbortSignal}} [options] */
  post: (path, body = {}, options) => call("POST", path, body, options),
  /** @param {string} path @param {any} [body] @param {{idempotencyKey?: string, signal?: AbortSignal}} [options] */
  put: (path, body = {}, options) => call("PUT", path, body, options),
  /** @param {string} path @param {any} [body] @param {{idempotencyKey?: string, signal?: AbortSignal}} [options] */
  delete: (path, body, options) => call("DELETE", path, body, options),
};
