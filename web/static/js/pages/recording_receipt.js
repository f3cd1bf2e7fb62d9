// @ts-check
/** /history/<id>: pays for the call's recording, and deletes it; shows it once it is complete. */
import { ApiError, OneKey, api } from "../api.js";
import { about, busy, closeDialog, make, plural, warnIn } from "../ui.js";
import { events } from "./common.js";

const section = /** @type {HTMLElement} */ (document.querySelector("#recording"));
const { recording, session, price, unsettled } = section.dataset;
const place = /** @type {HTMLElement} */ (section.querySelector("[data-rec-message]"));
const UNSETTLED_MS = 5_000;
const MOST_LOOKS = 6;
/** Pressing again after a lost answer pays once. */
const key = new OneKey();

/** @param {unknown} error */
function refused(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.code !== "OFFLINE") key.answered();
  const missing = error.code === "INSUFFICIENT_TOKENS" ? Number(price) - (error.fields.balance ?? 0) : 0;
  if (missing > 0) {
    warnIn(place, `${plural(missing, "token")} ${missing === 1 ? "is" : "are"} missing, ${about(missing)}.`, "Nothing was paid. ");
    place.querySelector("p")?.append(make("a", { href: `/wallet?need=${missing}&next=${encodeURIComponent(location.pathname)}` }, "Get tokens"));
  } else warnIn(place, error.detail, "Nothing was paid.");
}

document.querySelector("#buy-recording")?.addEventListener("click", async (event) => {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  const body = { price: Number(price) };
  warnIn(place, "");
  try {
    await busy(button, "Paying…", () => api.post(`/api/streaming/recordings/${recording}/buy`, body, { idempotencyKey: key.for(body) }));
    location.reload();
  } catch (error) {
    refused(error);
  }
});

document.querySelector("#delete-recording-now")?.addEventListener("click", async (event) => {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  const dialog = button.closest("dialog");
  try {
    await busy(button, "Deleting…", () => api.delete(`/api/streaming/recordings/${recording}`));
    location.reload();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (dialog) closeDialog(dialog);
    warnIn(place, error.detail, "It is still there.");
  }
});

/** Look again, but not while it is being watched or a decision is open. */
function again() {
  const watching = section.querySelector("video")?.paused === false;
  if (!watching && !document.querySelector("dialog[open]")) location.reload();
}

events.on("RECORDING_CHANGED", (message) => {
  if (message.sessionId === session) again();
});
// Each connection of the feed begins with one: what another brings may have been said while there was none.
let connections = 0;
events.on("RESYNC", () => {
  connections += 1;
  if (unsettled && connections > 1) again();
});
// The message may have come while the page was on its way. A refund may be due for days, and a long call takes half an
// hour to complete: a few looks, each after twice the last pause, and then the message alone. A reload keeps the state.
const { what: looked = "", times = 0 } = history.state?.unsettled ?? {};
const looks = looked === unsettled ? times : 0;
if (unsettled && looks < MOST_LOOKS) {
  window.setTimeout(() => {
    history.replaceState({ ...history.state, unsettled: { what: unsettled, times: looks + 1 } }, "");
    again();
  }, UNSETTLED_MS * 2 ** looks);
}
