/**
 * What the call page says, to the fan and to the creator: sentences from figures, nothing else.
 */
import { earned, scaled } from "./call_bill.js";
import { clock, formatTokens, money, plural } from "./ui.js";

/** @typedef {import("./call_bill.js").Session} Session */

const tokens = (count) => plural(count, "token");
const minutes = (count) => plural(count, "minute");

/**
 * The side's own view of ending now.
 * @param {Session} session
 * @param {import("./call_bill.js").EndNow} now
 * @param {{state: string, deliveredMs: number}} meter
 * @returns {{label: string, title: string, words: string, short: string}}
 */
export function endNowWords(session, now, meter) {
  const pause = meter.state === "paused" && now.rule === "whole" && session.role === "fan";
  const label = pause ? "If you end now, because of this pause" : "If you end now";
  const comes = comesBack(session, now);
  if (session.role === "creator") {
    const words = `${clock(meter.deliveredMs)} delivered, whole minutes only, no minimum. The fan gets ${fanHas(session, now)} back.`;
    const title = now.tokens ? `${minutes(now.minutes)}, you earn ${tokens(now.tokens)}` : "You earn nothing";
    return { label, title, words,
      short: now.tokens ? `End now: you earn ${tokens(now.tokens)} for ${minutes(now.minutes)}.` : "End now: you earn nothing." };
  }
  const why = {
    nothing: `${session.counterpart.displayName} is not connected yet.`,
    minimum: `${clock(meter.deliveredMs)} delivered; the minimum is ${minutes(session.minMinutes)}.`,
    started: `${clock(meter.deliveredMs)} delivered, rounded up.`,
    whole: "Whole minutes only.",
  }[now.rule];
  const used = now.included ? `${minutes(now.included)} of your subscription` : "";
  const title = now.tokens ? `${used ? `${used} and` : `${minutes(now.minutes)},`} ${tokens(now.tokens)}` : used || "Nothing";
  return { label, title, words: `${why} ${comes}`, short: `End now: ${title === "Nothing" ? "nothing" : title}. ${comes.replace(/ \([^)]*\)/, "")}` };
}

/** What a creator's leaving gives back. @param {Session} session @param {import("./call_bill.js").EndNow} now */
function fanHas(session, now) {
  if (!session.includedMinutes) return tokens(now.back);
  return now.back ? `${tokens(now.back)} and all included minutes` : "all included minutes";
}

/** What the fan has back of tokens and of included minutes. @param {Session} session @param {import("./call_bill.js").EndNow} now */
function comesBack(session, now) {
  const unused = session.includedMinutes - now.included;
  const parts = [now.back && `${tokens(now.back)} (${money(now.back)})`, unused && `${formatTokens(unused)} included ${unused === 1 ? "minute" : "minutes"}`].filter(Boolean);
  if (!parts.length) return "Nothing comes back.";
  return `${parts.join(" and ")} ${parts.length === 1 && (now.back || unused) === 1 ? "comes" : "come"} back.`;
}

/** @param {Session} session */
export function rateWords(session) {
  const rate = `${tokens(session.ratePerMinute)} per minute (${money(session.ratePerMinute)})`;
  return session.role === "fan" ? rate : `${rate}, ${100 - session.commissionPercent}% yours`;
}

/** The row that differs between the sides. @param {Session} session @param {number} available */
export function thirdRow(session, available) {
  if (session.role === "fan") return { label: "Left in your wallet", value: tokens(available) };
  const all = earned(session, session.totalHeld);
  return { label: "If all of it is used", value: session.totalHeld ? `you earn ${tokens(all)}` : "paid by the subscription" };
}

/** @param {Session} session */
export function aheadWords(session) {
  const all = `${formatTokens(session.paidMinutes)} min`;
  if (!session.includedMinutes) return `${all}, ${tokens(session.totalHeld)}`;
  const whose = session.role === "fan" ? "your" : "the";
  if (!session.totalHeld) return `${all}, all of ${whose} subscription`;
  return `${all}: ${formatTokens(session.includedMinutes)} of ${whose} subscription, and ${tokens(session.totalHeld)}`;
}

/** @param {Session} session */
export function aheadLabel(session) {
  const what = session.paymentMode === "per_minute" ? "Paid so far" : "Paid ahead";
  return session.role === "fan" ? what : `${what} by the fan`;
}

/** Minute by minute: what comes next, before it is held. @param {Session} session @param {number} available */
export function nextWords(session, available) {
  if (session.paymentMode !== "per_minute") return "";
  if (session.holdRefused) return "could not be held";
  if (session.paidMinutes >= session.mostMinutes) return "none: this is the longest call";
  const cost = `${tokens(session.ratePerMinute)} (${money(session.ratePerMinute)})`;
  const when = `at ${clock(session.nextMinuteMs)} left`;
  if (session.role === "fan" && available < session.ratePerMinute) return `${cost}, ${when}: you have ${tokens(available)}`;
  return `${cost}, ${when}`;
}

/**
 * Words over the picture while nothing is shown.
 * @param {Session} session
 * @param {{state: string, cause?: string}} meter
 * @param {{leftMs: number, end: import("./call_bill.js").EndNow}} pause what is left of all pauses, and what an end by it costs
 * @param {{here: boolean, seen: boolean}} seen of the other side
 * @returns {{title: string, words: string, mark: string}|null} null: the picture itself is shown
 */
export function overlayWords(session, meter, pause, seen) {
  const other = session.counterpart.displayName;
  const fan = session.role === "fan";
  if (meter.state === "waiting") {
    return { mark: "clock", title: fan ? `Waiting for ${other}` : "Starting your picture…",
      words: fan
        ? `The clock starts with the first picture. If ${other} does not connect, all of it comes back.`
        : `The clock starts with your first picture, whether ${other} is there or not.` };
  }
  if (meter.state === "running") return fan || seen.seen ? null : unseenWords(other, seen.here);
  const what = meter.cause === "node" ? "something fails on our side" : fan ? `${other}’s picture isn’t arriving` : "your picture isn’t arriving";
  const pays = fan ? "you pay" : "you are paid";
  const count = pause.end.tokens
    ? `${pays} whole minutes delivered: ${minutes(pause.end.minutes)}, ${tokens(pause.end.tokens)}.`
    : `${pays} nothing: no whole minute was delivered.`;
  return { mark: "pause", title: `Paused: ${what}`,
    words: `This time is not counted. If it lasts another ${clock(pause.leftMs)} the call ends and ${count}` };
}

/** The creator's clock runs without the fan's picture, and without the fan. */
function unseenWords(other, here) {
  return here
    ? { mark: "offair", title: `${other} has no camera on`, words: "You are seen and heard as usual." }
    : { mark: "user", title: `${other} is not here yet`, words: "The paid time runs with your picture, whether they watch or not." };
}

/**
 * What the state of the connection says over the picture.
 * @param {Session} session
 * @param {import("./sfu_client.js").ConnectionState} state
 */
export function connectionWords(session, state) {
  if (state === "connecting") return { mark: "clock", title: "Connecting…", words: "Taking your seat in the private room." };
  if (state !== "reconnecting") return null;
  const [away, pause] = [scaled(60_000, session.minuteMs), scaled(120_000, session.minuteMs)];
  const words = session.role === "fan"
    ? `The paid time goes on meanwhile. After ${seconds(away)} away it counts as leaving.`
    : `The clock stops while your picture is gone. After ${seconds(pause)} of pauses in all the call ends.`;
  return { mark: "replay", title: "Connection lost. Coming back…", words };
}

/** @param {Session} session @param {number} thresholdMs @param {boolean} last */
export function warningWords(session, thresholdMs, last) {
  if (session.paymentMode === "per_minute") return lastMinuteWords(session);
  const usual = session.minuteMs === 60_000;
  const title = last || !usual ? `Less than ${seconds(thresholdMs)} left.` : "Less than a minute left.";
  return { title, words: session.role === "fan" ? "At 0:00 the picture stops. Nothing more is charged unless you extend." : "At 0:00 the call ends and the paid time is yours." };
}

/** By the minute only the last one is warned of. */
function lastMinuteWords(session) {
  if (session.role === "creator") return { title: "The next minute is not paid.", words: "At 0:00 the call ends and the paid time is yours." };
  return session.holdRefused
    ? { title: "Your tokens do not reach for another minute.", words: "At 0:00 the picture stops. Nothing more is charged." }
    : { title: "The next minute is not held.", words: "At 0:00 the picture stops. Nothing more is charged." };
}

const seconds = (milliseconds) => `${Math.max(1, Math.round(milliseconds / 1000))} s`;

