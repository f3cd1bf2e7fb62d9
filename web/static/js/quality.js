// @ts-check
/**
 * How good the two ways of a call are: "your connection" and "theirs", each in four words.
 *
 * The grades are the media node's, by one measure for both sides (CONNECTION_QUALITY; the thresholds and how long
 * a change has to last: media/quality.py). Added here is only what the node cannot know: that we do not reach it, and
 * that a picture which arrives is not shown.
 */
const LOOK_EVERY_MS = 2_000;
/** So many looks without one decoded frame while packets come: four seconds are no hiccup. */
const STANDING_LOOKS = 2;
const MOST_STRAY_PACKETS = 10;
/** Screen readers hear of a side at most so often. */
const SAID_EVERY_MS = 10_000;

/** @typedef {import("./protocol.js").Quality} Quality */
/** @typedef {"own"|"theirs"} Side */

/** Bars beside the word: colour never speaks alone. @type {Readonly<Record<Quality, number>>} */
export const BARS = Object.freeze({ good: 4, fair: 3, poor: 2, lost: 1 });
const ORDER = Object.freeze(["good", "fair", "poor", "lost"]);

export class CallQuality {
  /** @type {(side: Side, quality: Quality|null) => void} null: not known (yet) */
  onChange = () => {};
  /** A change worth a sentence. @type {(side: Side, quality: Quality) => void} */
  onNews = () => {};

  /** @type {Record<Side, Quality|null>} */
  #told = { own: null, theirs: null };
  /** @type {Record<Side, Quality|null>} */
  #shown = { own: null, theirs: null };
  /** @type {Record<Side, Quality>} */
  #said = { own: "good", theirs: "good" };
  /** @type {Record<Side, number>} */
  #saidAt = { own: -Infinity, theirs: -Infinity };
  #reached = true;
  /** Packets of the picture came since the look before. */
  #arrives = false;
  #standing = 0;
  /** @type {{id: string, frames: number, packets: number}|null} */
  #before = null;

  /** The node graded one side. @param {Side} side @param {Quality|null} quality @param {number} now performance.now() */
  told(side, quality, now) {
    this.#told[side] = quality;
    this.#show(now);
  }

  /** Whether the node is reached. @param {boolean} reached @param {number} now */
  reached(reached, now) {
    if (!reached) this.#told.theirs = null;
    // What was known of the lost connection says nothing of the next one.
    if (reached && !this.#reached) this.#told.own = null;
    this.#reached = reached;
    this.#show(now);
  }

  /**
   * One look at the received picture.
   * @param {{id: string, frames: number, packets: number}|null} picture decoded and received so far; null: none
   * @param {number} now
   */
  looked(picture, now) {
    const before = this.#before;
    this.#before = picture;
    const came = picture !== null && before?.id === picture.id ? picture.packets - before.packets : 0;
    this.#arrives = came > MOST_STRAY_PACKETS;
    this.#standing = this.#arrives && picture?.frames === before?.frames ? this.#standing + 1 : 0;
    this.#show(now);
  }

  /**
   * Looks at these connections until the returned function is called.
   * @param {() => RTCPeerConnection[]} connections the present ones
   * @returns {() => void}
   */
  watch(connections) {
    const timer = setInterval(async () => this.looked(await received(connections()), performance.now()), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }

  /** @param {number} now */
  #show(now) {
    for (const side of /** @type {Side[]} */ (["own", "theirs"])) {
      const quality = side === "own" ? this.#own() : this.#told.theirs;
      if (quality !== this.#shown[side]) {
        this.#shown[side] = quality;
        this.onChange(side, quality);
      }
      if (quality && quality !== this.#said[side] && now - this.#saidAt[side] >= SAID_EVERY_MS) {
        this.#said[side] = quality;
        this.#saidAt[side] = now;
        this.onNews(side, quality);
      }
    }
  }

  /** @returns {Quality|null} */
  #own() {
    // Signaling alone may be away: while a picture comes, nobody knows how good the way is, but lost it is not.
    if (!this.#reached) return this.#arrives ? null : "lost";
    const told = this.#told.own;
    if (this.#standing < STANDING_LOOKS) return told;
    return told && ORDER.indexOf(told) > ORDER.indexOf("poor") ? told : "poor";
  }
}

/** @param {RTCPeerConnection[]} connections */
async function received(connections) {
  for (const pc of connections) {
    if (pc.connectionState === "closed") continue;
    for (const stat of (await pc.getStats()).values()) {
      if (stat.type === "inbound-rtp" && stat.kind === "video") {
        return { id: stat.id, frames: stat.framesDecoded ?? 0, packets: stat.packetsReceived ?? 0 };
      }
    }
  }
  return null;
}
