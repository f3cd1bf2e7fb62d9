/**
 * The studio's Schedule tab: times opened for booking, who booked them, and what taking one back means.
 */
import { ApiError, api } from "../api.js";
import { about, announce, avatar, busy, formatTokens, icon, make, plural, toast } from "../ui.js";
import { wireCancelling } from "./booking_cancel.js";
import { dayAndHour, dayOf, localZones } from "./booking_live.js";
import { events, userId } from "./common.js";

const GAP_MINUTES = 5;
const MOST_AT_ONCE = 60;

const root = document.getElementById("schedule");
const list = document.getElementById("schedule-list");
const form = document.getElementById("open-times");
const button = document.getElementById("open-times-button");
const minuteMs = Number(root.dataset.minuteMs);
const field = (name) => form.querySelector(`#slot-${name}`);
const put = (name, ...children) => form.querySelector(`[data-preview="${name}"]`).replaceChildren(...children);

/** @param {Date} at @returns {string} "18:30" */
const hour = (at) => at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

/** @param {Date} day @returns {string} as <input type="date"> has it, in the reader's zone */
const dateValue = (day) => `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`;

/** The times that the form describes, or what is right instead. @returns {{starts: Date[], minutes: number, error?: string}} */
function wanted() {
  const minutes = Number(field("minutes").value);
  const count = Number(field("count").value);
  const weeks = Number(field("weeks").value);
  const first = new Date(`${field("date").value}T${field("time").value}`);
  const nothing = (error) => ({ starts: [], minutes, error });
  if (!Number.isInteger(minutes) || minutes < 1 || minutes > 240) return nothing("Choose 1 to 240 minutes.");
  if (!Number.isInteger(count) || count < 1 || count > 12) return nothing("Choose 1 to 12 in a row.");
  if (Number.isNaN(first.getTime())) return nothing("Choose a date and a start.");
  if (first.getTime() < Date.now() + GAP_MINUTES * minuteMs) return nothing("Choose a start at least 5 minutes ahead.");
  const starts = [];
  for (let week = 0; week < weeks; week += 1) {
    // By the calendar, so that 18:00 stays 18:00 when the clocks change.
    const start = new Date(first);
    start.setDate(start.getDate() + 7 * week);
    for (let n = 0; n < count; n += 1) starts.push(new Date(start.getTime() + n * (minutes + GAP_MINUTES) * minuteMs));
  }
  if (starts.length > MOST_AT_ONCE) return nothing(`Choose at most ${MOST_AT_ONCE} times at once.`);
  return { starts, minutes };
}

function preview() {
  const { starts, minutes, error } = wanted();
  const place = form.querySelector("#slot-error");
  // Said once it was tried; before that an empty form is no mistake.
  place.hidden = !error || !form.dataset.tried;
  place.querySelector("span").textContent = error ?? "";
  if (error) {
    for (const name of ["times", "pays", "earns"]) put(name, "–");
    return;
  }
  const pays = Number(root.dataset.rate) * minutes;
  const earns = pays - Math.floor((pays * Number(root.dataset.commission)) / 100);
  const last = starts.at(-1);
  put("times", starts.length === 1 ? `${dayAndHour(starts[0])} to ${hour(new Date(starts[0].getTime() + minutes * minuteMs))}` : `${starts.length} times, ${dayAndHour(starts[0])} to ${dayAndHour(last)}`);
  put("pays", `${plural(pays, "token")}, ${about(pays)}`);
  put("earns", `${plural(earns, "token")}, ${about(earns)}`);
}

/** @param {{slotId: string, startsAt: string, endsAt: string, minutes: number, status: string, booking?: any}} slot */
function row(slot) {
  const [starts, ends] = [new Date(slot.startsAt), new Date(slot.endsAt)];
  const id = `slot-${slot.slotId}`;
  const when = make("p", { class: "bold num", id }, `${hour(starts)} – ${hour(ends)}`, make("span", { class: "sr" }, ` ${dayOf(starts)}`));
  const { booking } = slot;
  if (!booking) {
    const back = make("button", { class: "btn btn--s btn--bare", type: "button", "aria-describedby": id }, "Take back");
    back.addEventListener("click", () => withdraw(slot, back));
    return make("li", { class: "slot" }, make("div", { class: "grow" }, when, make("p", { class: "small muted" }, `${plural(slot.minutes, "minute")}, open`)), back);
  }
  const { counterpart: fan } = booking;
  const words = `${plural(booking.minutes, "minute")}. You earn ${formatTokens(booking.earnings)} of ${plural(booking.totalCost, "token")} if all are used.`;
  const cancel = booking.status === "booked"
    ? make("button", { class: "btn btn--s", type: "button", "data-cancel-booking": booking.bookingId, "data-role": "creator", "data-name": fan.handle, "data-total": booking.totalCost, "aria-describedby": id }, "Cancel booking")
    : booking.sessionId && make("a", { class: "btn btn--s", href: `/call/${booking.sessionId}` }, "Call");
  return make("li", { class: "slot" }, avatar(fan.handle, fan.handle, fan.avatarUrl, "s"),
    make("div", { class: "grow" }, when, make("p", { class: "small" }, make("b", {}, fan.handle), " ", fan.isMock && make("span", { class: "pill pill--info" }, "Demo"), " ",
      make("span", { class: "pill pill--good" }, booking.status === "booked" ? "Booked" : "Started")), make("p", { class: "small muted" }, words)), cancel);
}

function show(slots) {
  list.removeAttribute("aria-busy");
  const held = list.contains(document.activeElement);
  if (!slots.length) {
    list.replaceChildren(make("div", { class: "empty" }, make("span", { class: "empty__mark" }, icon("clock")), make("h3", {}, "No times are open"), make("p", {}, "Open some, and fans can book them on your page.")));
  } else {
    const rows = [];
    let day = "";
    for (const slot of slots) {
      const its = dayOf(new Date(slot.startsAt));
      if (its !== day) rows.push(make("li", { class: "slot--day" }, make("h3", { class: "text-m" }, its)));
      day = its;
      rows.push(row(slot));
    }
    list.replaceChildren(make("ul", { class: "list" }, ...rows));
  }
  if (held) document.getElementById("times-h").focus();
}

/** Ask the server for the times. */
async function refresh() {
  try {
    const { slots } = await api.get(`/api/streaming/slots/${encodeURIComponent(userId)}`);
    show(slots);
  } catch (error) {
    console.warn("times_not_read", error.code);
    if (list.getAttribute("aria-busy")) list.replaceChildren(make("p", { class: "card__pad muted" }, "The times did not load. They come with the next message."));
  }
}

async function withdraw(slot, pressed) {
  try {
    await busy(pressed, "Taking…", () => api.delete(`/api/streaming/slots/${encodeURIComponent(slot.slotId)}`));
    announce(`${dayAndHour(new Date(slot.startsAt))} is not open any more.`);
  } catch (error) {
    const booked = error instanceof ApiError && error.code === "SLOT_BOOKED";
    toast(booked ? "Somebody has just booked it." : error.message, { kind: booked ? "info" : "bad" });
  }
  await refresh();
}

async function open() {
  form.dataset.tried = "1";
  preview();
  const { starts, minutes, error } = wanted();
  if (error) {
    field(/minutes\.$/.test(error) ? "minutes" : "date").focus();
    return;
  }
  try {
    const slots = starts.map((start) => ({ startsAt: start.toISOString(), minutes }));
    await busy(button, "Opening…", () => api.post("/api/streaming/slots", { slots }));
    delete form.dataset.tried;
    toast(`${plural(starts.length, "time")} opened.`, { kind: "good" });
  } catch (refusal) {
    const overlaps = refusal instanceof ApiError && refusal.code === "SLOT_OVERLAPS";
    const words = overlaps ? `${dayAndHour(new Date(refusal.fields.startsAt))} is too close to another of your times: ${GAP_MINUTES} minutes stay free between two. Nothing was opened.` : refusal.message;
    toast(words, { kind: "bad" });
  }
  await refresh();
}

/** The next whole hour that is far enough ahead to be opened, as the form's proposal. */
function propose() {
  const next = new Date(Date.now() + 3_600_000 + 2 * GAP_MINUTES * minuteMs);
  next.setMinutes(0, 0, 0);
  field("date").value = dateValue(next);
  field("date").min = dateValue(new Date());
  field("date").max = dateValue(new Date(Date.now() + 60 * 86_400_000));
  field("time").value = hour(next);
}

propose();
preview();
localZones(root);
button.disabled = false;
form.addEventListener("input", preview);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!button.getAttribute("aria-busy")) void open();
});
wireCancelling(root, refresh);
for (const type of ["BOOKING_CHANGED", "BOOKING_STARTED", "RESYNC"]) events.on(type, () => refresh());
document.getElementById("t-schedule").addEventListener("click", () => refresh());
await refresh();
