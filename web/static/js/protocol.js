/**
 * The words of the signaling protocol (docs: docs/contract.md §4), and nothing that speaks it.
 *
 * One JSON text frame is one message. Names here are exactly those on the wire; the Python twin is
 * `models/messages/signaling.py`. This module imports nothing, so anybody may import it.
 */

/** The server closes with this after `TERMINATE_CALL`: rejoining would be refused. */
export const TERMINATED_CLOSE_CODE = 4001;

/** Every message type, both directions. */
export const TYPES = Object.freeze({
  JOIN_ROOM: "JOIN_ROOM",
  JOINED: "JOINED",
  OFFER: "OFFER",
  ANSWER: "ANSWER",
  TRACKS: "TRACKS",
  ICE_CANDIDATE: "ICE_CANDIDATE",
  RESTART_ICE: "RESTART_ICE",
  SELECT_LAYER: "SELECT_LAYER",
  MUTE_TRACK: "MUTE_TRACK",
  LEAVE_ROOM: "LEAVE_ROOM",
  PING: "PING",
  PONG: "PONG",
  PARTICIPANT_JOINED: "PARTICIPANT_JOINED",
  PARTICIPANT_LEFT: "PARTICIPANT_LEFT",
  ACTIVE_SPEAKER: "ACTIVE_SPEAKER",
  SESSION_CLOCK: "SESSION_CLOCK",
  TRACK_STATE: "TRACK_STATE",
  CONNECTION_QUALITY: "CONNECTION_QUALITY",
  RECORDING: "RECORDING",
  STOP_RECORDING: "STOP_RECORDING",
  SPECTATOR_URL: "SPECTATOR_URL",
  TERMINATE_CALL: "TERMINATE_CALL",
  ERROR: "ERROR",
});

/** Each reason of `TERMINATE_CALL` as people read it. */
export const REASON_WORDS = Object.freeze({
  PAYMENT_FAILED: "PAYMENT FAILED",
  TIME_EXPIRED: "TIME EXPIRED",
  ENDED_BY_FAN: "ENDED BY FAN",
  ENDED_BY_CREATOR: "ENDED BY CREATOR",
  NO_SHOW: "NO SHOW",
  STREAM_PRIVATE: "STREAM PRIVATE",
  STREAM_ENDED: "STREAM ENDED",
  MODERATION: "MODERATION",
  REPLACED: "REPLACED",
  MEDIA_FAILURE: "MEDIA FAILURE",
});

/** What a refusal means for the person in front of the page. */
export const ERROR_WORDS = Object.freeze({
  BAD_MESSAGE: "The server did not understand this page. Reload it.",
  FORBIDDEN: "You have no seat in this room.",
  ROOM_FULL: "All 20 seats are taken. Try again in a moment.",
  ROOM_NOT_FOUND: "This room is not open.",
  RATE_LIMITED: "Too many attempts. Wait a moment.",
  ALREADY_JOINED: "You are in this room already.",
  UNAVAILABLE: "Not available right now.",
  SIGN_IN: "Sign in again.",
  NO_WEBSOCKET: "The connection to the server could not be opened. A proxy or an extension may block WebSockets.",
  LOST: "The connection was lost.",
  CLOSED: "The call is over.",
});

/**
 * The sentence that ends a private call; its wording is fixed.
 * @param {string} reason a reason of `TERMINATE_CALL`
 * @returns {string}
 */
export function endMessage(reason) {
  return `Your private call has ended. Reason: ${REASON_WORDS[reason] ?? reason.replaceAll("_", " ")}`;
}

/** A refusal or a loss, with a `code` for programs and `message` for people. */
export class SignalingError extends Error {
  /**
   * @param {string} code one of the keys of ERROR_WORDS
   * @param {string} [words]
   */
  constructor(code, words) {
    super(words || ERROR_WORDS[code] || code);
    this.name = "SignalingError";
    /** @type {string} */
    this.code = code;
  }

  /** Whether trying again, with a fresh grant, can help. */
  get retriable() {
    return ["ROOM_NOT_FOUND", "RATE_LIMITED", "UNAVAILABLE", "NO_WEBSOCKET", "LOST"].includes(this.code);
  }
}

// --- client to server -------------------------------------------------------------------------------

/** @typedef {"publish"|"subscribe"} PeerConnectionName */
/** @typedef {"audio"|"video"} Kind */
/** @typedef {{type: "JOIN_ROOM", roomId: string, userId: string, isSpectator: boolean, grant?: string, takesTracks?: boolean}} JoinRoom */
/** @typedef {{type: "OFFER", pc: "publish", sdp: string}} PublishOffer */
/** @typedef {{type: "ANSWER", pc: "subscribe", sdp: string, revision: number}} SubscribeAnswer */
/** @typedef {{type: "ICE_CANDIDATE", pc: PeerConnectionName, candidate: RTCIceCandidateInit|null}} IceCandidate */
/** @typedef {{type: "SELECT_LAYER", trackId: string, layer: "high"|"medium"|"low"|"off"}} SelectLayer */
/** @typedef {{type: "MUTE_TRACK", kind: Kind, muted: boolean}} MuteTrack */
/** @typedef {{type: "LEAVE_ROOM"}|{type: "PING"}|{type: "STOP_RECORDING"}} LeaveOrPing */
/** @typedef {JoinRoom|PublishOffer|SubscribeAnswer|IceCandidate|SelectLayer|MuteTrack|LeaveOrPing} ClientMessage */

// --- server to client -------------------------------------------------------------------------------

/** @typedef {{trackId: string, kind: Kind}} TrackInfo */
/** @typedef {{userId: string, displayName: string, tracks: TrackInfo[]}} ParticipantInfo */
/** @typedef {{trackId: string, userId: string, kind: Kind}} SlotInfo */
/**
 * @typedef {object} SessionInfo the private session behind a room
 * @property {string} sessionId
 * @property {number} paidMs
 * @property {number} deliveredMs
 * @property {number} ratePerMinute tokens
 * @property {number} minuteMs 60,000 outside demo mode and tests
 */
/**
 * @typedef {object} Joined
 * @property {"JOINED"} type
 * @property {string} roomId
 * @property {string} userId
 * @property {RTCIceServer[]} iceServers
 * @property {ParticipantInfo[]} participants
 * @property {SessionInfo} [session]
 */
/** @typedef {{type: "ANSWER", pc: "publish", sdp: string}} PublishAnswer */
/** @typedef {{type: "OFFER", pc: "subscribe", sdp: string, revision: number, tracks: Record<string, SlotInfo>}} SubscribeOffer */
/** @typedef {{type: "TRACKS", pc: "subscribe", tracks: Record<string, SlotInfo>}} Tracks who is where, the description as it was */
/** @typedef {{type: "PARTICIPANT_JOINED"|"PARTICIPANT_LEFT", userId: string, displayName: string}} ParticipantChange */
/** @typedef {{type: "ACTIVE_SPEAKER", userId: string}} ActiveSpeaker */
/**
 * @typedef {object} SessionClock the one true clock, at each change and at least every 5 s
 * @property {"SESSION_CLOCK"} type
 * @property {"waiting"|"running"|"paused"} state
 * @property {string} [cause] why it is paused: "creator" or "node"
 * @property {number} deliveredMs
 * @property {number} paidMs
 * @property {number} ratePerMinute
 */
/** @typedef {{type: "TRACK_STATE", userId: string, kind: Kind, state: "on"|"off"|"stalled", cause?: "last_n"}} TrackState */
/** @typedef {{type: "CONNECTION_QUALITY", userId: string, quality: Quality}} ConnectionQuality */
/** How good a way to the node is. @typedef {"good"|"fair"|"poor"|"lost"} Quality */
/** @typedef {{type: "SPECTATOR_URL", streamUrl: string}} SpectatorUrl */
/** @typedef {{type: "TERMINATE_CALL", reason: string, redirectUrl: string}} TerminateCall */
/** @typedef {{type: "ERROR", code: string, message: string}} ServerError */
/** @typedef {Joined|PublishAnswer|SubscribeOffer|Tracks|IceCandidate|ParticipantChange|ActiveSpeaker|SessionClock|TrackState|ConnectionQuality|SpectatorUrl|TerminateCall|ServerError|{type: "PONG"}} ServerMessage */
