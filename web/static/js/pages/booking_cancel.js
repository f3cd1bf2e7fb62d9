// @ts-check
/**
 * Cancelling a booking: what it means is said first, then it is done. Used by /bookings and the Schedule tab.
 */
import { api } from "../api.js";
import { announce, busy, closeDialog, openDialog, plural, toast } from "../ui.js";

/** @param {HTMLElement} button @returns {string} what both sides get and lose */
function words(button) {
  const total = Number(button.dataset.total);
  if (button.dataset.role === "fan") {
    return total ? `${plural(total, "token")} come back to you at once. ${button.dataset.name} is told, and others can book the time.` : `${button.dataset.name} is told, and others can book the time. Your included minutes come back.`;
  }
  const back = total ? `${plural(total, "token")} go back to ${button.dataset.name} at once` : `${button.dataset.name} gets the included minutes back`;
  return `${back}, and they are told. You earn nothing, and the time is not offered again.`;
}

/**
 * Wire the buttons with data-cancel-booking within `root`, also those that come later.
 * @param {HTMLElement} root
 * @param {() => void} onDone after it was cancelled, or was found over
 */
export function wireCancelling(root, onDone) {
  const dialog = document.getElementById("cancel-booking");
  if (!(dialog instanceof HTMLDialogElement)) return;
  const confirm = /** @type {HTMLButtonElement} */ (dialog.querySelector(".btn--danger"));
  /** @type {HTMLElement | null} */
  let chosen = null;
  root.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-cancel-booking]") : null;
    if (!(button instanceof HTMLElement)) return;
    chosen = button;
    const place = dialog.querySelector("[data-words]");
    if (place) place.textContent = words(button);
    openDialog(dialog);
  });
  dialog.querySelector("form")?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const bookingId = chosen?.dataset.cancelBooking ?? "";
    if (!bookingId || confirm.getAttribute("aria-busy")) return;
    try {
      await busy(confirm, "Cancelling…", () => api.delete(`/api/streaming/bookings/${encodeURIComponent(bookingId)}`));
      announce("The booking is cancelled.");
    } catch (error) {
      toast(/** @type {Error} */ (error).message, { kind: "bad" });
    }
    closeDialog(dialog);
    onDone();
  });
}
