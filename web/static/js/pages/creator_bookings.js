// @ts-check
/**
 * A creator's page: the times that can be booked, and the dialog in which a fan books one. Prices and rules come from
 * the server in words (/models/<handle>/times); this shows them, follows what others book, and sends the wish once.
 */
import { ApiError, OneKey, api } from "../api.js";
import { busy, closeDialog, icon, make, openDialog, plural, toast } from "../ui.js";
import { dayAndHour, localZones } from "./booking_live.js";
import { events, localTimes, refreshBalance } from "./common.js";

const place = /** @type {HTMLElement} */ (document.getElementById("booking"));
const dialog = /** @type {HTMLDialogElement | null} */ (document.getElementById("book"));
const address = `/models/${encodeURIComponent(place.dataset.handle ?? "")}/times`;
/** A time that is gone leaves the page at once; a crowd of viewers does not ask for the rest at the same instant. */
const ASK_AGAIN_MS = [200, 2_000];
/** @type {number | undefined} */
let asking;
const key = new OneKey();

/** @param {string} path @returns {Promise<DocumentFragment>} */
async function fetchPart(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (!answer.ok) throw new ApiError(`HTTP_${answer.status}`, answer.status === 404 ? "This time is gone: it was just booked or taken back." : "It did not load. Try again.", {}, answer.status);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const part = document.createDocumentFragment();
  part.append(...fresh.body.childNodes);
  localTimes(part);
  localZones(part);
  return part;
}

async function refresh() {
  const held = place.contains(document.activeElement);
  const more = place.querySelector("details")?.open;
  try {
    place.replaceChildren(await fetchPart(address));
  } catch (error) {
    console.warn("times not read", error); // the next message asks again
    return;
  }
  const details = place.querySelector("details");
  if (details && more) details.open = true;
  if (held) document.getElementById("times-h")?.focus();
}

/** @param {HTMLButtonElement} button */
async function choose(button) {
  const chosen = dialog;
  if (!chosen) return;
  try {
    const part = await busy(button, "Looking…", () => fetchPart(`${address}/${encodeURIComponent(button.dataset.book ?? "")}`));
    chosen.replaceChildren(part);
    openDialog(chosen);
  } catch (error) {
    toast(/** @type {Error} */ (error).message, { kind: "info" });
    await refresh();
  }
}

/** @param {string} words */
function say(words) {
  const message = document.getElementById("book-message");
  message?.replaceChildren(make("div", { class: "banner banner--warn", role: "alert" }, icon("warn"), make("p", { class: "grow" }, words)));
  if (message) message.hidden = false;
  message?.scrollIntoView({ block: "nearest" });
}

/** The dialog's time is not to be had: another one is the way on. @param {string} words */
function gone(words) {
  say(words);
  const [confirm, leave] = [document.getElementById("book-confirm"), document.getElementById("book-leave")];
  if (confirm) confirm.hidden = true;
  if (!leave) return;
  leave.textContent = "Choose another time";
  leave.focus();
}

/** @param {ApiError} error @returns {string} */
function refusal(error) {
  const nothing = "Nothing was held.";
  switch (error.code) {
    case "SLOT_TAKEN": return `Somebody else has just booked this time. ${nothing}`;
    case "SLOT_CLOSED": return `It is too late to book this time. ${nothing}`;
    case "NOT_FOUND": return `The creator has just taken this time back. ${nothing}`;
    case "PRICE_CHANGED": return `The price is now ${plural(error.fields.totalCost, "token")}. ${nothing} Close this and look again before you confirm.`;
    case "INSUFFICIENT_TOKENS": return `You are ${plural(error.fields.required - error.fields.balance, "token")} short. ${nothing}`;
    case "FAN_BOOKED": return `You have booked another time too close to it. ${nothing}`;
    default: return `${error.message} ${nothing}`;
  }
}

/** @param {HTMLFormElement} form */
async function submit(form) {
  const confirm = form.querySelector("#book-confirm");
  if (!(confirm instanceof HTMLButtonElement) || confirm.getAttribute("aria-busy") || !dialog) return;
  const body = { slotId: form.dataset.slot, maxTotalCost: Number(form.dataset.total) };
  try {
    const booking = await busy(confirm, "Booking…", () => api.post("/api/streaming/bookings", body, { idempotencyKey: key.for(body) }));
    key.answered();
    closeDialog(dialog);
    toast(`Booked: ${dayAndHour(new Date(booking.startsAt), true)}. The call starts by itself.`, { kind: "good" });
    refreshBalance();
    await refresh();
    document.getElementById("times-h")?.focus();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "OFFLINE") key.answered();
    if (["SLOT_TAKEN", "SLOT_CLOSED", "NOT_FOUND"].includes(error.code)) gone(refusal(error));
    else say(error.code === "OFFLINE" ? "The server did not answer. Press again: it is booked once." : refusal(error));
    await refresh();
  }
}

/** Somebody booked a time of this creator, or the creator opened or took one back. @param {any} message a TIMES_CHANGED */
function timesChanged(message) {
  if (message.creatorId !== place.dataset.creator) return;
  window.clearTimeout(asking);
  const [least, most] = ASK_AGAIN_MS;
  asking = window.setTimeout(refresh, least + Math.random() * (most - least));
  if (message.status === "open" || !message.slotId) return;
  const line = place.querySelector(`[data-slot="${CSS.escape(message.slotId)}"]`);
  if (line?.contains(document.activeElement)) document.getElementById("times-h")?.focus();
  line?.remove();
  const form = document.getElementById("book-form");
  if (!dialog?.open || form?.dataset.slot !== message.slotId) return;
  // Booked by this very press: its answer is on the way.
  if (document.getElementById("book-confirm")?.getAttribute("aria-busy")) return;
  gone(message.status === "booked" ? "Somebody else has just booked this time. Nothing was held." : "The creator has just taken this time back. Nothing was held.");
}

place.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-book]") : null;
  if (button instanceof HTMLButtonElement) choose(button);
});
dialog?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target instanceof HTMLFormElement) submit(event.target);
});
events.on("TIMES_CHANGED", timesChanged);
for (const type of ["BOOKING_CHANGED", "BOOKING_STARTED", "RESYNC"]) events.on(type, () => refresh());
