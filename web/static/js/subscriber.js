/**
 * The peer connection that receives everybody else: the node offers, the browser answers.
 *
 * Offers are answered one after another. `tracks` of an offer says whose track each m-line carries now, so an
 * m-line that moves to another person moves between streams here; where nothing else has changed, `TRACKS` says it
 * alone, or the same description comes again: nothing is negotiated then, and nothing answered.
 */
import { TYPES } from "./protocol.js";
import { addCandidate, sendCandidate } from "./publisher.js";
import { describe } from "./sound_repair.js";

/** @typedef {import("./protocol.js").SubscribeOffer} SubscribeOffer */
/** @typedef {import("./protocol.js").Tracks} Tracks */

export class Subscriber {
  /** Called when the connection is beyond repair. */
  onFailed = () => {};

  /** Called when the browser says that nothing comes any more; it looks for another way then. */
  onDisconnected = () => {};

  /** A person's stream appeared; its tracks come into it afterwards.
   *  @type {(stream: MediaStream, userId: string) => void} */
  onStream = () => {};

  /** A person's stream has no track left.
   *  @type {(userId: string) => void} */
  onStreamGone = () => {};

  /** @type {RTCPeerConnection} */
  pc;

  /** @type {Map<string, MediaStream>} by user id */
  streams = new Map();

  #send;
  #queue = Promise.resolve();
  #applied = "";
  #early = [];

  /**
   * @param {RTCIceServer[]} iceServers
   * @param {(message: import("./protocol.js").ClientMessage) => void} send
   */
  constructor(iceServers, send) {
    this.#send = send;
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.pc.addEventListener("icecandidate", ({ candidate }) => sendCandidate(send, "subscribe", candidate));
    this.pc.addEventListener("connectionstatechange", () => {
      if (this.pc.connectionState === "failed") this.onFailed();
      if (this.pc.connectionState !== "disconnected") return;
      this.restart();
      this.onDisconnected();
    });
  }

  /** The way to the node changed or broke: asks for an offer that looks for another one. */
  restart() {
    if (this.pc.currentRemoteDescription) this.#send({ type: TYPES.RESTART_ICE, pc: "subscribe" });
  }

  /** @param {SubscribeOffer|Tracks} offer */
  receiveOffer(offer) {
    this.#queue = this.#queue.then(() => this.#take(offer)).catch((error) => {
      if (this.pc.signalingState !== "closed") {
        console.warn("subscribe_offer_unusable", error.name);
        this.onFailed();
      }
    });
    return this.#queue;
  }

  /** @param {RTCIceCandidateInit|null} candidate */
  async receiveCandidate(candidate) {
    if (this.pc.remoteDescription) await addCandidate(this.pc, candidate);
    else this.#early.push(candidate);
  }

  close() {
    this.pc.close();
    this.streams.clear();
  }

  async #take(offer) {
    if (this.pc.signalingState === "closed") return;
    for (const { userId } of Object.values(offer.tracks)) this.#streamOf(userId);
    if (offer.type === TYPES.OFFER && offer.sdp !== this.#applied) await this.#answer(offer);
    this.#assign(offer.tracks);
  }

  async #answer({ sdp, revision }) {
    await this.pc.setRemoteDescription({ type: "offer", sdp });
    for (const candidate of this.#early.splice(0)) await addCandidate(this.pc, candidate);
    await describe(this.pc, "answer");
    this.#applied = sdp;
    this.#send({ type: TYPES.ANSWER, pc: "subscribe", sdp: this.pc.localDescription.sdp, revision });
  }

  /**
   * A person's stream, shown before it has tracks: Chromium plays the sound of an element to which tracks are added
   * some 20 ms earlier than of one that is given a stream with tracks, and so nearer to the picture.
   */
  #streamOf(userId) {
    let stream = this.streams.get(userId);
    if (!stream) {
      stream = new MediaStream();
      this.streams.set(userId, stream);
      this.onStream(stream, userId);
    }
    return stream;
  }

  /** Puts every received track into the stream of the person it belongs to. */
  #assign(tracks) {
    const wanted = new Map();
    for (const { mid, receiver } of this.pc.getTransceivers()) {
      const slot = tracks[mid];
      if (!slot) continue;
      if (!wanted.has(slot.userId)) wanted.set(slot.userId, new Set());
      wanted.get(slot.userId).add(receiver.track);
    }
    for (const [userId, stream] of this.streams) {
      for (const track of stream.getTracks()) {
        if (!wanted.get(userId)?.has(track)) stream.removeTrack(track);
      }
      if (!wanted.has(userId)) {
        this.streams.delete(userId);
        this.onStreamGone(userId);
      }
    }
    for (const [userId, belonging] of wanted) {
      const stream = this.#streamOf(userId);
      for (const track of belonging) stream.addTrack(track);
    }
  }
}
