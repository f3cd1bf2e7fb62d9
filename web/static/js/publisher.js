/**
 * The peer connection that sends this person's tracks: the browser offers, the node answers.
 *
 * Knows the camera's tracks and the words of signaling; not why anybody publishes.
 */
import { TYPES } from "./protocol.js";
import { describe } from "./sound_repair.js";

/** Enough for 720p at 30 frames a second; more would only be lost on ordinary uplinks. */
const VIDEO_BITS_PER_SECOND = 2_500_000;
const AUDIO_BITS_PER_SECOND = 64_000;
const VIDEO_ENCODING = Object.freeze({ maxBitrate: VIDEO_BITS_PER_SECOND, maxFramerate: 30 });
/** Three sizes of one camera, the smallest first: each viewer gets the one that its line or its tile is good for. */
const LAYERS = Object.freeze([
  { rid: "l", scaleResolutionDownBy: 4, maxBitrate: 150_000, maxFramerate: 30 },
  { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 500_000, maxFramerate: 30 },
  { rid: "h", scaleResolutionDownBy: 1, ...VIDEO_ENCODING },
]);
/** Browsers leave the largest layer out of a picture smaller than this (960×540): then one encoding is better. */
const LEAST_PIXELS = 960 * 540;

export class Publisher {
  /** Called when the connection is beyond repair. */
  onFailed = () => {};

  /** Called when the browser says that nothing comes any more; it looks for another way then. */
  onDisconnected = () => {};

  /** @type {RTCPeerConnection} */
  pc;

  #send;
  #simulcast;
  #queue = Promise.resolve();
  #answered = null;
  #restarting = false;
  #early = [];

  /**
   * @param {RTCIceServer[]} iceServers
   * @param {(message: import("./protocol.js").ClientMessage) => void} send
   * @param {{simulcast?: boolean}} [options] simulcast: the camera in three sizes, if it is large enough
   */
  constructor(iceServers, send, { simulcast = false } = {}) {
    this.#send = send;
    this.#simulcast = simulcast;
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.pc.addEventListener("icecandidate", ({ candidate }) => sendCandidate(send, "publish", candidate));
    this.pc.addEventListener("connectionstatechange", () => {
      if (this.pc.connectionState === "failed") this.onFailed();
      if (this.pc.connectionState !== "disconnected") return;
      this.restart();
      this.onDisconnected();
    });
  }

  /** The way to the node changed or broke: looks for another one, while media goes on over the old. */
  restart() {
    if (!this.pc.remoteDescription || this.#restarting) return this.#queue;
    this.#restarting = true;
    return this.#inTurn(async () => {
      this.#restarting = false;
      this.pc.restartIce();
      await this.#offer();
    });
  }

  /**
   * Sends these tracks from now on; at most one of a kind.
   * @param {MediaStreamTrack[]} tracks
   */
  publish(tracks) {
    return this.#inTurn(async () => {
      for (const track of tracks) {
        this.pc.addTransceiver(track, { direction: "sendonly", sendEncodings: this.#encodings(track) });
      }
      await this.#offer();
    });
  }

  /**
   * Another track of this kind, or none: without renegotiation where there was one before.
   * @param {"audio"|"video"} kind
   * @param {MediaStreamTrack|null} track
   */
  replace(kind, track) {
    return this.#inTurn(async () => {
      const sender = this.#sender(kind);
      if (sender) {
        await sender.replaceTrack(track);
      } else if (track) {
        this.pc.addTransceiver(track, { direction: "sendonly", sendEncodings: this.#encodings(track) });
        await this.#offer();
      }
    });
  }

  /** @param {string} sdp the node's answer */
  async receiveAnswer(sdp) {
    if (this.pc.signalingState !== "have-local-offer") return;
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    for (const candidate of this.#early.splice(0)) await addCandidate(this.pc, candidate);
    this.#answered?.();
  }

  /** @param {RTCIceCandidateInit|null} candidate */
  async receiveCandidate(candidate) {
    if (this.pc.remoteDescription) await addCandidate(this.pc, candidate);
    else this.#early.push(candidate);
  }

  close() {
    this.#answered?.();
    this.pc.close();
  }

  #encodings(track) {
    if (track.kind === "audio") return [{ maxBitrate: AUDIO_BITS_PER_SECOND }];
    const { width = 0, height = 0 } = track.getSettings();
    return this.#simulcast && width * height >= LEAST_PIXELS ? [...LAYERS] : [VIDEO_ENCODING];
  }

  #sender(kind) {
    return this.pc.getTransceivers().find(({ receiver }) => receiver.track.kind === kind)?.sender ?? null;
  }

  /** The next change waits for the answer: an offer on top of an offer would lose one. */
  async #offer() {
    await describe(this.pc, "offer");
    const answered = new Promise((resolve) => (this.#answered = resolve));
    this.#send({ type: TYPES.OFFER, pc: "publish", sdp: this.pc.localDescription.sdp });
    await answered;
  }

  #inTurn(work) {
    const turn = this.#queue.then(() => (this.pc.signalingState === "closed" ? undefined : work()));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }
}

/**
 * @param {(message: import("./protocol.js").ClientMessage) => void} send
 * @param {"publish"|"subscribe"} pc
 * @param {RTCIceCandidate|null} candidate
 */
export function sendCandidate(send, pc, candidate) {
  if (candidate && !candidate.candidate) return; // "end of this generation"; null follows and says it.
  send({ type: TYPES.ICE_CANDIDATE, pc, candidate: candidate?.toJSON() ?? null });
}

/**
 * A candidate that does not fit costs one path, never the call.
 * @param {RTCPeerConnection} pc
 * @param {RTCIceCandidateInit|null} candidate
 */
export async function addCandidate(pc, candidate) {
  try {
    await pc.addIceCandidate(candidate ?? undefined);
  } catch (error) {
    console.warn("ice_candidate_unusable", error.name);
  }
}
