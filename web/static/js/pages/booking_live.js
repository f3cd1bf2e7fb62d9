// @ts-check
/**
 * Bookings on every page: reminders, the start, time zones and countdowns. The services decide; this only says so.
 */
import { announce, clock, icon, make, toast } from "../ui.js";

const TICK_MS = 1_000;
const DAY_MS = 86_400_000;
/** Why a booking was let go, as the server's `reason`. @type {Record<string, string>} */
const LET_GO = {
  busy: "could not start: one of you was still in another call",
  unavailable: "could not start: the fault was ours",
  blocked: "was let go",
  payment_failed: "was let go: a payment was found bad",
};
/** Element → the moment on our own clock at which its countdown ends. @type {WeakMap<Element, number>} */
const ends = new WeakMap();

/** @param {Date} at @param {boolean} [within] a sentence @returns {string} "Today, 18:00", "tomorrow, 18:00", "Tue 24 Nov, 18:00" */
export function dayAndHour(at, within = false) {
  const hour = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const day = dayOf(at);
  return `${within ? day.replace(/^To/, "to") : day}, ${hour}`;
}

/** @param {Date} at @returns {string} "Today", "Tomorrow", "Tue 24 Nov" */
export function dayOf(at) {
  const day = at.toDateString();
  if (day === new Date().toDateString()) return "Today";
  if (day === new Date(Date.now() + DAY_MS).toDateString()) return "Tomorrow";
  const weekday = at.toLocaleDateString("en-GB", { weekday: "short" });
  return `${weekday} ${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}`;
}

/** Say which zone the times are in, where the server could only say UTC. @param {ParentNode} [within] */
export function localZones(within = document) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone?.replaceAll("_", " ");
  for (const place of within.querySelectorAll("[data-zone]")) place.textContent = `Times are in your time zone${zone ? `, ${zone}` : ""}.`;
}

/** @param {number} left milliseconds @returns {string} "2 days", "3 h 20 min", "4:59" */
function until(left) {
  const minutes = Math.ceil(left / 60_000);
  if (minutes > 2 * 24 * 60) return `${Math.round(minutes / 1440)} days`;
  if (minutes > 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return clock(left + 999);
}

/** Writes every countdown of the page; each begins at its first writing. */
export function tick() {
  for (const place of document.querySelectorAll("[data-countdown]")) {
    if (!ends.has(place)) ends.set(place, performance.now() + Number(place.getAttribute("data-countdown")));
    const left = (ends.get(place) ?? 0) - performance.now();
    const before = place.getAttribute("data-before") ?? "in ";
    const text = left > 0 ? `${before}${until(left)}` : `${before.replace(/in $/, "")}starting`;
    if (place.textContent !== text) place.textContent = text;
  }
}

/** The strip under the header, as partials/booking_strip.html has it. @param {any} message a BOOKING_REMINDER */
function showStrip(message) {
  hideStrip(message.bookingId);
  const at = make("time", { datetime: message.startsAt }, dayAndHour(new Date(message.startsAt)));
  const left = make("span", { class: "num", role: "timer", "data-countdown": message.startsInMs, "data-before": ", in " });
  const strip = make("section", { class: "strip", "aria-label": "Your booking", "data-booking-soon": message.bookingId },
    make("div", {}, make("span", { class: "grow" }, icon("clock"), ` Private stream with ${message.name}: `, at, left),
      make("a", { class: "btn btn--s", href: "/bookings" }, "Bookings")));
  const main = document.getElementById("main");
  main?.parentElement?.insertBefore(strip, main);
  tick();
}

/** @param {string} bookingId */
function hideStrip(bookingId) {
  document.querySelector(`[data-booking-soon="${CSS.escape(bookingId ?? "")}"]`)?.remove();
}

/** @param {any} message a BOOKING_CHANGED */
function changed(message) {
  if (message.status !== "booked") hideStrip(message.bookingId);
  const when = dayAndHour(new Date(message.startsAt), true);
  if (message.status === "booked" && message.role === "creator") {
    toast(`${message.name} booked ${when}.`, { kind: "good", iconName: "clock", action: { label: "Look", href: "/studio?tab=schedule" } });
  } else if (message.status === "cancelled" && message.reason !== message.role) {
    const back = message.role === "fan" ? " Your tokens came back." : "";
    toast(`${message.name} cancelled the booking of ${when}.${back}`, { kind: "warn", iconName: "clock", stay: true });
  } else if (message.status === "released") {
    const back = message.role === "fan" ? " Your tokens came back." : "";
    toast(`The booking of ${when} with ${message.name} ${LET_GO[message.reason] ?? "was let go"}.${back}`, { kind: "warn", iconName: "clock", stay: true });
  }
}

/**
 * @param {import("../events_client.js").EventsClient} events
 * @param {(sessionId: string) => void} callStarted goes to the call, in one tab
 */
export function listenForBookings(events, callStarted) {
  events.on("BOOKING_REMINDER", (message) => {
    showStrip(message);
    const words = `Your private stream with ${message.name} starts in ${until(message.startsInMs)}.`;
    if (document.visibilityState === "visible") announce(words);
    toast(words, { kind: "info", iconName: "bell", action: { label: "Bookings", href: "/bookings" } });
  });
  events.on("BOOKING_CHANGED", changed);
  events.on("BOOKING_STARTED", (message) => {
    hideStrip(message.bookingId);
    // The studio goes there itself, with the camera that it has.
    if (!location.pathname.startsWith("/studio")) callStarted(message.sessionId);
  });
}

tick();
window.setInterval(tick, TICK_MS);
