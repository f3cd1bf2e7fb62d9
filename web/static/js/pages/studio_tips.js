// @ts-check
/**
 * The studio's Live tab: the tips of the creator's own public stream. Those of a private call are call_tips.js's.
 */
import { api } from "../api.js";
import { events, userId } from "./common.js";
import { Tips } from "./tips.js";

const section = document.querySelector("#live-tips [data-tips]");
const tips = section instanceof HTMLElement ? new Tips(section, document.querySelector('[data-studio="live"] .tile')) : null;
let streamId = "";

async function refresh() {
  try {
    const { streams } = await api.get("/api/streaming/streams");
    streamId = streams.find((/** @type {any} */ stream) => stream.creatorId === userId)?.streamId ?? "";
    await tips?.show(streamId && `/api/streaming/streams/${encodeURIComponent(streamId)}/tips`);
  } catch (error) {
    console.warn("tips not read", error); // the next message of the feed asks again
  }
}

events.on("TIP", async (message) => {
  if (message.creatorId !== userId || message.sessionId) return;
  const tip = /** @type {any} */ (message);
  if (message.streamId === streamId) return tips?.add(tip);
  // The stream has just begun: the list brings the tip, and it is told as any other.
  await refresh();
  if (message.streamId === streamId) tips?.tell(tip);
});
events.on("STREAM_STARTED", (message) => {
  if (message.creatorId === userId) refresh();
});
events.on("RESYNC", refresh);
refresh(); // the feed may have been there before this script
