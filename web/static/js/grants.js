/**
 * Asks this site's REST interface for a grant: permission to join one room, once, within a minute.
 *
 * Separate from SFUClient so that an integrator can bring grants of its own (`options.fetchGrant`).
 */
import { SignalingError } from "./protocol.js";

/**
 * @typedef {object} GrantAnswer
 * @property {string} grant
 * @property {string} userId
 * @property {string} [expiresAt]
 * @property {string} [signalingUrl]
 * @property {RTCIceServer[]} [iceServers]
 */

const CODES_BY_STATUS = Object.freeze({ 401: "SIGN_IN", 403: "FORBIDDEN", 404: "ROOM_NOT_FOUND", 429: "RATE_LIMITED" });

/**
 * @param {string} roomId
 * @param {"participant"|"spectator"} role
 * @param {AbortSignal} [signal] gives up
 * @returns {Promise<GrantAnswer>}
 * @throws {SignalingError}
 */
export async function fetchGrant(roomId, role, signal) {
  const csrf = document.querySelector("meta[name=csrf-token]")?.getAttribute("content") ?? "";
  let response;
  try {
    response = await fetch("/api/rtc/grants", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrf },
      body: JSON.stringify({ roomId, role }),
      signal,
    });
  } catch {
    throw new SignalingError("LOST");
  }
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => ({}));
  throw new SignalingError(CODES_BY_STATUS[response.status] ?? "UNAVAILABLE", problem.detail);
}

/** Where signaling is unless the grant says otherwise: this origin, piped to the room's node. */
export function defaultSignalingUrl() {
  const url = new URL("/api/rtc/signaling", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
