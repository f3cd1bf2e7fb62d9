// @ts-check
/**
 * Tips in a private call, seen by its two sides alone: on /call, and in the studio, where the call is in the same
 * document. Only the fan has the button.
 */
import { api } from "../api.js";
import { events, onBalance } from "./common.js";
import { TipDialog } from "./tip_dialog.js";
import { Tips } from "./tips.js";

const root = /** @type {HTMLElement} */ (document.querySelector(".call"));
const section = root.querySelector("[data-tips]");
const tips = section instanceof HTMLElement ? new Tips(section, root.querySelector('[data-call="stage"]')) : null;

/** The session of the address; the studio writes it there too, a moment after the news of the call. */
const ofAddress = () => /^\/call\/([\w-]+)$/.exec(location.pathname)?.[1] ?? "";
let sessionId = ofAddress();

async function show() {
  await tips?.show(sessionId && `/api/streaming/private-sessions/${sessionId}/tips`);
}

events.on("TIP", async (message) => {
  if (!message.sessionId) return;
  const tip = /** @type {any} */ (message);
  if (sessionId === message.sessionId) {
    tips?.add(tip);
    return;
  }
  // A person is in one call at a time: this is the one, though its beginning was missed.
  sessionId = message.sessionId;
  await show();
  tips?.tell(tip);
});
events.on("SESSION_CHANGED", (message) => {
  if (message.status !== "connecting") return;
  sessionId = message.sessionId;
  show();
});
events.on("RESYNC", () => {
  sessionId = ofAddress() || sessionId;
  show();
});
show(); // the feed may have been there before this script

const page = document.getElementById("call-page");
const element = document.getElementById("tip");
if (page && element instanceof HTMLDialogElement) {
  const { session, available } = JSON.parse(page.dataset.page ?? "{}");
  const dialog = new TipDialog(element, {
    creatorId: session.counterpart.userId,
    displayName: session.counterpart.displayName,
    sessionId: session.sessionId,
    back: `/call/${session.sessionId}`,
  });
  dialog.setBalance(available);
  onBalance((balance) => dialog.setBalance(balance.available));
  let begun = false;
  // Nobody may come yet, and a tip would not be taken: the button waits for the server's word that the call began.
  const follow = (/** @type {string} */ status) => {
    if (["settling", "ended"].includes(status)) dialog.close();
    if (begun || !["live", "paused"].includes(status)) return;
    begun = true;
    dialog.openBy(root.querySelector("[data-tip-open]"));
  };
  follow(session.status);
  events.on("SESSION_CHANGED", (message) => {
    if (message.sessionId === session.sessionId) follow(message.status);
  });
  events.on("RESYNC", async () => {
    try {
      follow((await api.get(`/api/streaming/private-sessions/${session.sessionId}`)).status);
    } catch (error) {
      console.warn("call not read", error); // the next message of the feed tells
    }
  });
}
