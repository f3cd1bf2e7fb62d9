/**
 * /studio: tabs, and who hears which message of the feed. The work is done in studio_live, _requests, _settings.
 */
import { api } from "../api.js";
import { plural } from "../ui.js";
import { events, localTimes } from "./common.js";
import { StudioLive, showOffer } from "./studio_live.js";
import { RequestsPanel } from "./studio_requests.js";
import { SettingsForm } from "./studio_settings.js";

const root = document.getElementById("studio");
const state = JSON.parse(root.dataset.page);
const requests = new RequestsPanel();
requests.queue = state.queue;
const live = new StudioLive(state.userId, requests);
const form = new SettingsForm(document.getElementById("settings"), state.commissionPercent);
const tabs = [...root.querySelectorAll('[role="tab"]')];

/** @param {HTMLElement} chosen @param {boolean} [focus] */
function choose(chosen, focus = false) {
  for (const tab of tabs) {
    const on = tab === chosen;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !on;
  }
  if (focus) chosen.focus();
  history.replaceState(history.state, "", chosen.dataset.tab === "live" ? "/studio" : `/studio?tab=${chosen.dataset.tab}`);
  if (chosen.dataset.tab === "requests") void refreshHistory();
}

async function refreshHistory() {
  try {
    const answer = await fetch("/studio?part=requests", { credentials: "same-origin" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const place = document.getElementById("request-history");
    place.replaceChildren(...fresh.body.childNodes);
    localTimes(place);
  } catch (error) {
    console.warn("history_not_read", error.name);
  }
}

// On a phone the chosen tab may lie outside of the row.
tabs.find((tab) => tab.getAttribute("aria-selected") === "true")?.scrollIntoView({ block: "nearest", inline: "nearest" });
for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1, Home: -tabs.indexOf(tab), End: tabs.length - 1 - tabs.indexOf(tab) }[event.key];
    if (way === undefined) return;
    event.preventDefault();
    choose(tabs[(tabs.indexOf(tab) + way + tabs.length) % tabs.length], true);
  });
}

form.onSaved = showOffer;
for (const type of ["PRIVATE_REQUESTED", "PRIVATE_REQUEST_CANCELLED", "PRIVATE_REQUEST_EXPIRED", "PRIVATE_QUEUE"]) {
  events.on(type, () => requests.refresh());
}
events.on("SESSION_CHANGED", (message) => {
  // A call that begins by itself is found on the Live tab when it is over.
  if (message.status === "connecting") choose(tabs[0]);
  live.sessionChanged(message);
});
events.on("SUBSCRIPTION_CHANGED", async () => {
  try {
    const { count } = await api.get("/api/streaming/subscribers");
    document.getElementById("subscriber-count").textContent = plural(count, "subscriber");
  } catch (error) {
    console.warn("subscribers_not_read", error.code);
  }
});
// An encoder goes live without this page.
events.on("STREAM_STARTED", (message) => {
  if (message.creatorId === state.userId) void live.streamStarted();
});
// The stream that was made for a booking ends with it.
events.on("STREAM_ENDED", (message) => {
  if (message.creatorId === state.userId) void live.refresh();
});
live.watchConnection(events);
live.sayEnded(new URLSearchParams(location.search));
const begun = live.reconcile(state);
// The first one too: something may have happened between this page and its feed.
events.on("RESYNC", () => void begun.then(() => live.refresh()));
await begun;
