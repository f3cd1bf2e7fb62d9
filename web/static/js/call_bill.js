/**
 * What ending the call now comes to, for either side: the rows of the end table that a press can cause.
 *
 * Pure arithmetic; the bill that counts is the server's (models/settlement.py), this is its preview.
 */

/** @typedef {import("./protocol.js").SessionClock} SessionClock */
/**
 * @typedef {object} Session what GET /api/streaming/private-sessions/<id> says of one that runs
 * @property {string} sessionId
 * @property {string} roomId
 * @property {string} streamId
 * @property {string} status
 * @property {"fan"|"creator"} role
 * @property {{userId: string, handle: string, displayName: string, avatarUrl: string|null}} counterpart
 * @property {number} minMinutes
 * @property {number} minuteMs
 * @property {number} paidMs
 * @property {number} deliveredMs
 * @property {number} creatorPauseMs
 * @property {number} nodePauseMs
 * @property {number} ratePerMinute
 * @property {number} commissionPercent
 * @property {number} totalHeld
 * @property {"prepaid"|"per_minute"} paymentMode
 * @property {number} paidMinutes
 * @property {number} includedMinutes of a subscription, used first
 * @property {number} unlockPrice for having started at once
 * @property {boolean} holdRefused by the minute: the paid ones are the last
 * @property {number} nextMinuteMs by the minute: the next one is held when this much is left
 * @property {number} mostMinutes
 */
/**
 * @typedef {object} EndNow
 * @property {number} minutes billed
 * @property {number} tokens paid by a fan, earned by a creator
 * @property {number} back tokens that the fan gets back
 * @property {number} included minutes of the fan's subscription that are used up
 * @property {"nothing"|"minimum"|"started"|"whole"} rule
 */

/**
 * A timer that docs/money.md gives for a minute of 60 s, in this session's minute.
 * @param {number} milliseconds
 * @param {number} minuteMs
 */
export const scaled = (milliseconds, minuteMs) => Math.max(1, Math.floor((milliseconds * minuteMs) / 60_000));

/**
 * @param {Session} session
 * @param {{state: string, deliveredMs: number, paidMs: number, pausedForMs: number}} clock
 * @returns {EndNow}
 */
export function endNow(session, clock) {
  const { minuteMs, minMinutes, ratePerMinute, totalHeld } = session;
  const whole = Math.floor(clock.deliveredMs / minuteMs);
  const started = Math.ceil(clock.deliveredMs / minuteMs);
  const paid = Math.floor(clock.paidMs / minuteMs);
  let [minutes, rule] = [whole, "whole"];
  if (session.role === "fan") {
    const longPause = clock.state === "paused" && clock.pausedForMs >= scaled(10_000, minuteMs);
    if (clock.state === "waiting") [minutes, rule] = [0, "nothing"];
    else if (!longPause) [minutes, rule] = started < minMinutes ? [minMinutes, "minimum"] : [started, "started"];
  }
  minutes = Math.min(minutes, paid);
  // Who ends it by own wish has used the subscription first, and pays for having started at once.
  const own = rule === "minimum" || rule === "started";
  const cost = Math.max(0, minutes - session.includedMinutes) * ratePerMinute + (own ? session.unlockPrice : 0);
  const included = own ? Math.min(minutes, session.includedMinutes) : 0;
  return { minutes, tokens: session.role === "fan" ? cost : earned(session, cost), back: totalHeld - cost, included, rule };
}

/**
 * What a creator keeps of so many tokens: the commission is rounded down.
 * @param {Session} session
 * @param {number} cost
 */
export const earned = (session, cost) => cost - Math.floor((cost * session.commissionPercent) / 100);
