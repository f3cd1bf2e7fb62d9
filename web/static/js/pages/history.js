// @ts-check
/** /history/<id>: a receipt that is still being written comes by itself. */
import { events } from "./common.js";

const waiting = document.querySelector("[data-settling]");
if (waiting) {
  events.on("SESSION_CHANGED", (message) => {
    if (message.sessionId === waiting.getAttribute("data-settling") && message.status === "ended") location.reload();
  });
}
