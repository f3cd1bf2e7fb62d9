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

events.on("TIP", (message) => {
  if (message.creatorId !== userId || message.sessionId) return;
  if (message.streamId === streamId) tips?.add(/** @type {any} */ (message));
  else refresh();
});
events.on("STREAM_STARTED", (message) => {
  if (message.creatorId === userId) refresh();
});
events.on("RESYNC", refresh);
refresh(); // the feed may have been there before this script
