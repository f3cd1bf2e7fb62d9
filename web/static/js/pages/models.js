// @ts-check
/**
 * /models: the list changes by itself, can be searched, tells when somebody starts; the end of a call gets its bill.
 */
import { api } from "../api.js";
import { announce, plural } from "../ui.js";
import { events, userId } from "./common.js";
import { keepPictures } from "./live_picture.js";
import { wireTellButtons } from "./tell.js";

const POLL_MS = 20_000;
const find = /** @type {HTMLInputElement | null} */ (document.getElementById("find"));
let filter = "all";

function applyFilter() {
  const words = (find?.value ?? "").trim().toLowerCase();
  let shown = 0;
  const cards = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("#creators .creator"));
  for (const card of cards) {
    card.hidden = (filter === "private" && card.dataset.private !== "open") || !card.dataset.name?.includes(words);
    if (!card.hidden) shown += 1;
  }
  const none = /** @type {HTMLElement | null} */ (document.querySelector(".none-found"));
  if (none) none.hidden = shown > 0;
}

/** @param {string} chosen */
function choose(chosen) {
  filter = chosen;
  for (const chip of document.querySelectorAll("[data-filter]")) {
    chip.setAttribute("aria-pressed", String(chip.getAttribute("data-filter") === chosen));
  }
  applyFilter();
}

let fetching = false;
let again = false;

/** Take the list from the server once more; the focus stays on the same creator. */
async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const response = await fetch("/models?part=list", { credentials: "same-origin" });
    if (response.ok) replaceList(await response.text());
  } catch (error) {
    console.warn("list not refreshed", error); // the next message or poll tries again
  } finally {
    fetching = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

/** @param {string} html from our own server */
function replaceList(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("creators");
  const old = document.getElementById("creators");
  if (!fresh || !old) return;
  const focused = document.activeElement?.closest("#creators a, #creators button");
  const key = focused?.getAttribute("href") ?? focused?.getAttribute("data-tell");
  const before = old.dataset.live;
  keepPictures(old, fresh);
  old.replaceWith(fresh);
  if (key) /** @type {HTMLElement | null} */ (fresh.querySelector(`[href="${CSS.escape(key)}"], [data-tell="${CSS.escape(key)}"]`))?.focus();
  wireTellButtons(fresh);
  applyFilter();
  const live = Number(fresh.dataset.live);
  const words = live ? `${live} live now` : "Nobody is live right now";
  const count = document.getElementById("live-count");
  if (count) count.textContent = words;
  if (before !== fresh.dataset.live) announce(words);
}

/** The bill of the call that has just ended, once it is settled. @param {string} sessionId */
function followEnd(sessionId) {
  const place = document.querySelector("[data-ended-bill]");
  const fetchBill = async () => {
    const view = await api.get(`/api/streaming/private-sessions/${encodeURIComponent(sessionId)}`);
    if (!place || view.status !== "ended") return;
    const charged = view.earnings + view.commission;
    const minutes = plural(view.billedMinutes, "minute");
    const back = view.refunded ? ` ${plural(view.refunded, "token")} came back.` : "";
    if (view.creatorId === userId) place.textContent = `You earned ${plural(view.earnings, "token")} for ${minutes}.`;
    else if (charged) place.textContent = `You paid ${plural(charged, "token")} for ${minutes}${view.includedUsed ? `, ${plural(view.includedUsed, "minute")} of them from your subscription` : ""}.${back}`;
    else place.textContent = `${view.includedUsed ? `You paid no tokens: ${plural(view.includedUsed, "minute")} of your subscription were used.` : "You paid nothing."}${back}`;
  };
  const quietly = () => fetchBill().catch((error) => console.warn("bill not fetched", error));
  events.on("SESSION_CHANGED", quietly);
  events.on("RESYNC", quietly);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const chip = target?.closest("[data-filter]");
  if (chip) choose(chip.getAttribute("data-filter") ?? "all");
  if (target?.closest("[data-show-all]")) {
    if (find) find.value = "";
    choose("all");
  }
});
find?.addEventListener("input", applyFilter);

const ended = document.getElementById("ended");
if (ended) announce(ended.innerText.trim(), "alert");
const session = document.querySelector("script[data-session]")?.getAttribute("data-session");
if (session) followEnd(session);

wireTellButtons(document);
if (userId) {
  for (const type of ["STREAM_STARTED", "STREAM_ENDED", "STREAM_WENT_PRIVATE", "STREAM_WENT_PUBLIC", "RESYNC"]) events.on(type, refresh);
}
window.setInterval(() => {
  // Numbers of viewers have no message of their own; and who is not signed in has no feed.
  if (document.visibilityState === "visible") refresh();
}, POLL_MS);
