/**
 * The session's clock between two messages of the server: what is delivered, left, and not counted, now.
 *
 * `now` is an argument everywhere (milliseconds of performance.now()). Between two SESSION_CLOCKs a running
 * clock is extended by the time that passed; the server's next word replaces every guess.
 */

/** @typedef {import("./protocol.js").SessionClock} SessionClock */

export class CallMeter {
  /** @type {"waiting"|"running"|"paused"} */
  state = "waiting";
  /** @type {string|undefined} */
  cause = undefined;

  #deliveredMs;
  #paidMs;
  #toldAt = 0;
  #pausedSince = 0;
  #pausesMs;

  /** @param {import("./call_bill.js").Session} session */
  constructor(session) {
    this.#deliveredMs = session.deliveredMs;
    this.#paidMs = session.paidMs;
    this.#pausesMs = session.creatorPauseMs + session.nodePauseMs;
    if (session.deliveredMs > 0) [this.state, this.cause] = ["paused", "node"];
  }

  /** @param {SessionClock} clock @param {number} now */
  told(clock, now) {
    if (this.state === "paused" && clock.state !== "paused") {
      this.#pausesMs += this.#pausedSince ? now - this.#pausedSince : 0;
      this.#pausedSince = 0;
    }
    if (clock.state === "paused" && !this.#pausedSince) this.#pausedSince = now;
    this.state = clock.state;
    this.cause = clock.cause;
    this.#deliveredMs = clock.deliveredMs;
    this.#paidMs = clock.paidMs;
    this.#toldAt = now;
  }

  /** @param {number} now */
  at(now) {
    const since = this.state === "running" ? Math.max(0, now - this.#toldAt) : 0;
    const deliveredMs = Math.min(this.#paidMs, this.#deliveredMs + since);
    const pausedForMs = this.#pausedSince ? now - this.#pausedSince : 0;
    return {
      state: this.state,
      cause: this.cause,
      deliveredMs,
      paidMs: this.#paidMs,
      leftMs: this.#paidMs - deliveredMs,
      pausedForMs,
      uncountedMs: this.#pausesMs + pausedForMs,
    };
  }
}
