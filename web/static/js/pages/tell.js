// @ts-check
/**
 * "Tell me": remembers in this browser whom a person waits for, and says so on any page when that creator is live.
 * The memory is the browser's own (localStorage), so that nobody else learns who waits for whom.
 */
import { api } from "../api.js";
import { toast } from "../ui.js";

const KEY = "greenroom-tell";

/** @returns {string[]} handles */
export function waitingFor() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

/** @param {string[]} handles */
function remember(handles) {
  try {
    localStorage.setItem(KEY, JSON.stringify(handles));
  } catch (error) {
    console.warn("cannot remember", error);
  }
}

/** @param {string} handle */
export function stopWaitingFor(handle) {
  remember(waitingFor().filter((other) => other !== handle));
}

/** @param {string} handle @returns {boolean} whether it is waited for now */
function toggle(handle) {
  const list = waitingFor();
  if (list.includes(handle)) {
    stopWaitingFor(handle);
    return false;
  }
  remember([...list, handle].slice(-50));
  // Asking is only polite after a press; without permission the message appears on the page alone.
  if ("Notification" in window && Notification.permission === "default") Notification.requestPermission();
  return true;
}

/** Wire the buttons with data-tell="<handle>". @param {ParentNode} within */
export function wireTellButtons(within) {
  const list = waitingFor();
  for (const button of within.querySelectorAll("[data-tell]")) {
    const handle = button.getAttribute("data-tell") ?? "";
    button.setAttribute("aria-pressed", String(list.includes(handle)));
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(toggle(handle))));
  }
}

/** Look whether one of those waited for is live now, and say so once. */
async function look() {
  if (!waitingFor().length) return;
  const { streams } = await api.get("/api/streaming/streams");
  for (const stream of streams) {
    // Read again: the look before this one may have said it while we asked.
    if (stream.status !== "live" || !waitingFor().includes(stream.handle)) continue;
    stopWaitingFor(stream.handle);
    for (const button of document.querySelectorAll(`[data-tell="${CSS.escape(stream.handle)}"]`)) button.setAttribute("aria-pressed", "false");
    const name = stream.displayName ?? stream.handle;
    const href = `/models/${stream.handle}`;
    if (location.pathname !== href) toast(`${name} is live.`, { kind: "good", iconName: "bell", action: { label: "Watch", href } });
    if (document.visibilityState === "hidden" && "Notification" in window && Notification.permission === "granted") {
      const note = new Notification(`${name} is live`, { body: "The public stream is on.", tag: `live-${stream.handle}` });
      note.onclick = () => { window.focus(); location.assign(href); };
    }
  }
}

/** @param {import("../events_client.js").EventsClient} events */
export function listenForTheWaitedFor(events) {
  const quietly = () => look().catch((error) => console.warn("streams not read", error));
  for (const type of ["STREAM_STARTED", "STREAM_WENT_PUBLIC", "RESYNC"]) events.on(type, quietly);
}
