// @ts-check
/**
 * /bookings: a person's bookings, kept true by the feed. The list is the server's.
 */
import { wireCancelling } from "./booking_cancel.js";
import { localZones, tick } from "./booking_live.js";
import { events, localTimes, refreshBalance } from "./common.js";

const list = /** @type {HTMLElement} */ (document.getElementById("bookings"));

async function refresh() {
  try {
    const answer = await fetch("/bookings?part=list", { credentials: "same-origin" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const held = list.contains(document.activeElement);
    list.replaceChildren(...fresh.body.childNodes);
    localTimes(list);
    localZones(list);
    tick();
    if (held) document.getElementById("bookings-h")?.focus();
  } catch (error) {
    console.warn("bookings not read", error); // the next message asks again
  }
}

wireCancelling(list, () => {
  refresh();
  refreshBalance();
});
// The first RESYNC too: something may have happened between this page and its feed.
for (const type of ["BOOKING_CHANGED", "BOOKING_STARTED", "RESYNC"]) events.on(type, refresh);
