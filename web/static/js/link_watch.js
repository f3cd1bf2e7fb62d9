/**
 * Notices within a second that nothing comes from the node any more, where browsers take seven, and finds out what
 * that means.
 *
 * An alarm says nothing for certain: who is looked at may just have gone, or a burst of packets was lost. So it costs
 * a question over signaling, and what is got ready meanwhile is thrown away unless nothing at all is heard. Knows
 * neither rooms nor seats.
 */
const LOOK_EVERY_MS = 200;
/** Longer than ordinary bursts of loss, and than a Wi-Fi adapter looks for networks. */
export const SILENT_AFTER_MS = 600;
/** So many looks with news one after the other: what comes rarely, like a silent microphone's packets, is no flow. */
const STEADY_LOOKS = 4;
/** Where packets come in spurts, as a silent microphone's do, so many of the longest pauses; forgotten by a tenth with
 *  each look. */
const PAUSES = 2.5;
const LONGEST_SILENCE_MS = 2_500;
const FORGETTING = 0.9;
/** As the answer to an alarm may be an echo from before the silence, there are more, so far apart. */
const AGAIN_AFTER_MS = 1_500;
const MOST_ALARMS = 3;
/** So soon a socket that lives answers; three round trips, where they take longer. */
const ANSWER_WITHIN_MS = 450;
/** The other socket answered, though it was asked later: so long the old one still has. A node or a machine that
 *  stands still for a while holds up both. */
const GRACE_MS = 100;
/** An answer that does not come at once: a second socket is got ready meanwhile. On a long line one and a half round
 *  trips, or each alarm would cost a grant. */
const SPARE_AFTER_MS = 150;
const SPARE_AFTER_TRIPS = 1.5;
/** A try that fell into an outage would wait for TCP's next one; a new one is sooner. */
const SPARE_WITHIN_MS = 1_500;
const SPARE_PAUSE_MS = 250;
const LONGEST_SPARE_PAUSE_MS = 3_000;

export class LinkWatch {
  /** A connection on which packets flowed has brought nothing for 0.6 s; said three times a silence at most.
   *  @type {() => void} */
  onSilence = () => {};

  #connections;
  #timer = 0;
  /** @type {WeakMap<RTCPeerConnection, {count: number, at: number, steady: number, pause: number, alarms: number}>} */
  #known = new WeakMap();
  #newsAt = -Infinity;

  /** @param {() => RTCPeerConnection[]} connections the present ones */
  constructor(connections) {
    this.#connections = connections;
  }

  /** Looks until `stop`. */
  start() {
    this.stop();
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  stop() {
    clearInterval(this.#timer);
  }

  /** Whether anything came after that moment. @param {number} since performance.now() */
  hasHeard(since) {
    return this.#newsAt > since;
  }

  /** What flows now may end for good reasons: somebody left, or switched the camera off. */
  excuse() {
    this.#known = new WeakMap();
  }

  /**
   * One look at one connection.
   * @param {RTCPeerConnection} connection
   * @param {number} count of bytes and answers received so far; it shrinks when paths are given up
   * @param {number} now performance.now()
   */
  looked(connection, count, now) {
    const known = this.#known.get(connection);
    if (!known) {
      this.#known.set(connection, { count, at: now, steady: 0, pause: 0, alarms: 0 });
    } else if (count > known.count) {
      this.#newsAt = now;
      const pause = Math.max(now - known.at, FORGETTING * known.pause);
      this.#known.set(connection, { count, at: now, steady: known.steady + 1, pause, alarms: 0 });
    } else {
      known.count = count;
      const silent = Math.min(LONGEST_SILENCE_MS, Math.max(SILENT_AFTER_MS, PAUSES * known.pause));
      if (known.steady < STEADY_LOOKS) {
        known.steady = 0;
      } else if (known.alarms < MOST_ALARMS && now - known.at >= silent + known.alarms * AGAIN_AFTER_MS) {
        known.alarms += 1;
        this.onSilence();
      }
    }
  }

  async #look() {
    for (const connection of this.#connections()) {
      if (connection.connectionState === "closed") continue;
      const count = await received(connection);
      this.looked(connection, count, performance.now());
    }
  }
}

/** @param {RTCPeerConnection} connection */
async function received(connection) {
  let count = 0;
  for (const row of (await connection.getStats()).values()) {
    if (row.type === "candidate-pair") count += (row.bytesReceived ?? 0) + (row.responsesReceived ?? 0);
  }
  return count;
}

/**
 * Finds out whether a socket lives, and gets another one ready as long as it says nothing.
 * @template T
 * @param {import("./signaling_socket.js").SignalingSocket} socket
 * @param {() => boolean} isSilent nothing else was heard either, and the socket is still the one that counts
 * @param {(within: number) => Promise<T & {socket: import("./signaling_socket.js").SignalingSocket}>} openSpare
 * @returns {Promise<{answered: boolean, spare: T|null}>} spare: open, to be used instead, as nothing was heard
 */
export async function settleDoubt(socket, isSilent, openSpare) {
  const deadline = performance.now() + Math.max(ANSWER_WITHIN_MS, 3 * socket.roundTrip);
  let answered = false;
  const answer = socket.ping().then(() => (answered = true));
  const hopeless = () => !answered && isSilent();
  await Promise.race([answer, sleep(Math.max(SPARE_AFTER_MS, SPARE_AFTER_TRIPS * socket.roundTrip))]);
  for (let pause = SPARE_PAUSE_MS; hopeless(); pause = Math.min(LONGEST_SPARE_PAUSE_MS, 1.5 * pause)) {
    const spare = await inTime(openSpare(SPARE_WITHIN_MS));
    const lives = spare && (await Promise.race([answer.then(() => false), spare.socket.ping(), sleep(SPARE_WITHIN_MS)]));
    const grace = Math.max(GRACE_MS, deadline - performance.now());
    await Promise.race([answer, sleep(lives ? grace : pause)]);
    if (lives && hopeless()) return { answered, spare };
    spare?.socket.close();
  }
  return { answered, spare: null };
}

/**
 * Whoever brings the grant may not give up when it is told to; a socket that comes too late is closed.
 * @template {{socket: import("./signaling_socket.js").SignalingSocket}} T
 * @param {Promise<T>} opening
 * @returns {Promise<T|null>}
 */
async function inTime(opening) {
  const opened = opening.catch(() => null);
  const late = sleep(SPARE_WITHIN_MS).then(() => "late");
  const first = await Promise.race([opened, late]);
  if (first !== "late") return first;
  opened.then((spare) => spare?.socket.close());
  return null;
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
