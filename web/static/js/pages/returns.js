// @ts-check
/**
 * Tokens that came back because a wish could not be carried out: said on whatever page the person is by then.
 */
import { plural, toast } from "../ui.js";

const SAY = "greenroom-say";

/** What the next page says in a toast. @param {string} words */
export function sayOnTheNextPage(words) {
  try {
    sessionStorage.setItem(SAY, words);
  } catch (error) {
    console.warn("not kept for the next page", error); // the receipt says it too
  }
}

/** @param {import("../events_client.js").EventsClient} events */
export function listenForReturns(events) {
  events.on("EXTENSION_RETURNED", (message) => {
    const words = `The call ended before the minutes could be added. ${plural(message.tokens, "token")} came back.`;
    toast(words, { kind: "warn", stay: true });
    // The call page leaves a second after its end, before anybody has read this.
    if (location.pathname.startsWith("/call/")) sayOnTheNextPage(words);
  });
  events.on("PRIVATE_UNLOCK_RETURNED", (message) => {
    toast(`It could not start at once: ${plural(message.tokens, "token")} came back. Your request waits for an answer as usual.`, { kind: "info", stay: true });
  });
}
