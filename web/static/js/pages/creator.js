// @ts-check
/**
 * /models/<handle>: joins the parts of a creator's page (picture, dialog, waiting) and keeps them true by the live feed.
 */
import { ApiError, api } from "../api.js";
import { announce, busy, formatTokens, icon, make, money, plural, toast } from "../ui.js";
import { events, onBalance, refreshBalance, userId } from "./common.js";
import { showPicture } from "./live_picture.js";
import { Player } from "./player.js";
import { RequestDialog } from "./request_dialog.js";
import { stopWaitingFor, wireTellButtons } from "./tell.js";
import { Waiting } from "./waiting.js";

const POLL_MS = 15_000;
const SEATED_LOOKS_MS = [1_000, 3_000];

const root = /** @type {HTMLElement} */ (document.getElementById("creator"));
/** @type {any} what web/pages/creator.py's PageData holds */
const page = JSON.parse(root.dataset.page ?? "{}");
const player = new Player(/** @type {HTMLElement} */ (document.getElementById("player")), userId);
const askButton = /** @type {HTMLButtonElement | null} */ (document.getElementById("ask-button"));
const watches = page.kind === "fan" || page.kind === "other";
/** @type {RequestDialog | null} */
let dialog = null;
/** @type {Waiting | null} */
let waiting = null;
/** @type {import("../lobby.js").Lobby | null} */
let lobby = null;

/** Show what belongs to a state: live, private, offline or waiting. @param {string} state */
function show(state) {
  page.state = state;
  if (state === "private" || state === "offline") showPicture(player.tile, "");
  for (const part of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-show]"))) {
    part.hidden = !part.dataset.show?.split(" ").includes(state);
  }
}

/** Words at the head of the page: the answer to a request. @param {string} words @param {"good" | "info"} kind @param {string} [callHref] where the call is */
function say(words, kind, callHref) {
  const place = document.getElementById("answer");
  const close = make("button", { class: "btn btn--bare btn--icon btn--s", type: "button", "aria-label": "Dismiss", "data-dismiss": true }, icon("x"));
  place?.replaceChildren(make("div", { class: `banner${kind === "good" ? " banner--good" : ""}`, role: "status" }, icon("info"), make("p", { class: "grow" }, words, callHref && " ", callHref && make("a", { href: callHref }, "Go to the call")), close));
  if (place) place.hidden = false;
  window.scrollTo({ top: 0 });
  announce(words);
}

/** @param {{status: string, streamId: string, roomId: string, title?: string, viewers?: number} | undefined} stream */
function streamIs(stream) {
  const status = stream && ["live", "private"].includes(stream.status) ? stream.status : "offline";
  const sameRoom = stream?.roomId === page.roomId;
  page.streamId = stream?.streamId ?? null;
  page.roomId = stream?.roomId ?? null;
  const title = root.querySelector("[data-title]");
  if (title) title.textContent = (status === "live" && stream?.title) || page.handle;
  const viewers = root.querySelector("[data-viewers]");
  if (viewers) viewers.textContent = formatTokens(stream?.viewers ?? 0);
  if (page.state === "waiting") {
    waiting?.look();
    return;
  }
  const before = page.state;
  show(status);
  if (status === "live") {
    if (watches && (before !== "live" || !sameRoom || !player.roomId)) player.watch(page.roomId);
    else if (!watches) lookOn(before !== "live" || !sameRoom);
    if (before !== "live") {
      stopWaitingFor(page.handle); // they are here: nothing is left to tell
      announce(`${page.displayName} is live.`);
    }
  } else {
    player.stop();
    player.roomId = "";
    player.over(status);
    if (status !== "private" || !page.queue) dialog?.close();
    if (before === "live") announce(status === "private" ? `${page.displayName} is in a private stream.` : `The stream of ${page.displayName} has ended.`);
  }
}

/** Who has no seat sees the broadcast; its creator sees the studio. @param {boolean} anew another stream than before */
function lookOn(anew) {
  if (page.kind === "owner") player.over("owner");
  else if (anew || !player.roomId) player.spectate(page.roomId);
}

/** Ask the server how things stand. */
async function refresh() {
  try {
    const { streams } = await api.get("/api/streaming/streams");
    streamIs(streams.find((/** @type {any} */ stream) => stream.creatorId === page.creatorId));
  } catch (error) {
    console.warn("stream not read", error); // the next message or poll asks again
  }
}

/** @param {import("./waiting.js").OpenRequest} request */
async function wait(request) {
  player.stop();
  player.roomId = "";
  const place = document.getElementById("answer");
  if (place) place.hidden = true;
  show("waiting");
  waiting?.start(request);
  refreshBalance();
  window.scrollTo({ top: 0 });
  try {
    const module = await import("../lobby.js");
    if (!lobby) {
      lobby = new module.Lobby(/** @type {HTMLElement} */ (document.getElementById("lobby")));
      lobby.watchConnection(events);
    }
    await lobby.start();
  } catch (error) {
    console.warn("no lobby", error); // waiting works without a preview; the call page asks for the camera itself
  }
}

/** @param {number} [minutes] */
async function ask(minutes) {
  if (!dialog || !askButton) return;
  const opening = dialog;
  try {
    await busy(askButton, "Looking…", () => opening.open(minutes));
  } catch (error) {
    const disabled = error instanceof ApiError && error.code === "PRIVATE_DISABLED";
    toast(disabled ? `${page.displayName} takes no private requests at the moment.` : /** @type {Error} */ (error).message, { kind: "bad" });
  }
}

/** The card beside the picture follows the settings that the dialog has just read. */
function showOffer() {
  const put = (/** @type {string} */ name, /** @type {string} */ text) => {
    const place = root.querySelector(`[data-offer="${name}"]`);
    if (place) place.textContent = text;
  };
  // Said at the price that the page came with; the dialog has the fan's own at any time.
  if (root.querySelector('[data-offer="rate"]')?.textContent !== plural(page.ratePerMinute, "token")) root.querySelector('[data-offer="own"]')?.remove();
  put("rate", plural(page.ratePerMinute, "token"));
  put("rate-money", money(page.ratePerMinute));
  put("minimum", `${plural(page.minMinutes, "minute")}, ${plural(page.minMinutes * page.ratePerMinute, "token")}`);
  put("minimum-money", money(page.minMinutes * page.ratePerMinute));
}

function wireAsking() {
  const element = document.getElementById("ask");
  const section = document.getElementById("waiting");
  if (!(element instanceof HTMLDialogElement) || !section) return;
  dialog = new RequestDialog(element, page);
  element.addEventListener("close", showOffer);
  waiting = new Waiting(section, page.displayName, page.answerMs, page.turnMs);
  dialog.onRequested = wait;
  dialog.onGone = refresh;
  waiting.onOver = (words, kind, callHref) => {
    lobby?.stop();
    refreshBalance();
    say(words, kind, callHref);
    page.state = "offline"; // neither: `refresh` finds out which
    refresh();
  };
  onBalance(({ available }) => dialog?.setBalance(available));
  askButton?.addEventListener("click", () => ask());
  events.on("PRIVATE_ACCEPTED", (message) => {
    // Another creator may have accepted: then the call is there, and common.js goes to it.
    if (!message.requestId || message.requestId === waiting?.request?.requestId) waiting?.accepted(message.sessionId);
  });
  events.on("PRIVATE_DECLINED", (message) => {
    if (message.requestId === waiting?.request?.requestId) waiting?.declined(message.reason);
  });
  events.on("PRIVATE_REQUEST_EXPIRED", (message) => {
    if (message.requestId === waiting?.request?.requestId) waiting?.expired(message.reason);
  });
  for (const type of ["PRIVATE_TURN", "PRIVATE_QUEUE"]) {
    events.on(type, (message) => {
      if (message.requestId !== waiting?.request?.requestId) return;
      waiting?.follow({ status: "queued", position: 1, turn: type === "PRIVATE_TURN", ...message });
    });
  }
  events.on("BALANCE_CHANGED", () => waiting?.look());
  events.on("PRIVATE_UNLOCK_RETURNED", (message) => waiting?.unlockReturned(message.requestId));
  if (page.request) wait(page.request);
  else if (page.state === "live") openFromAddress();
}

/** Back from the wallet (?private=10): the dialog opens as it was left. */
function openFromAddress() {
  const address = new URL(location.href);
  const minutes = Number(address.searchParams.get("private"));
  if (!minutes || !askButton) return;
  address.searchParams.delete("private");
  history.replaceState(null, "", address);
  ask(minutes);
}

player.onGone = (/** @type {string} */ reason) => {
  if (reason === "STREAM_PRIVATE") streamIs({ status: "private", streamId: page.streamId, roomId: page.roomId });
  else if (reason === "STREAM_ENDED") streamIs(undefined);
  else if (reason === "MODERATION") player.over("offline");
  window.setTimeout(refresh, 500); // what media says first, the database says a moment later
};

player.onSeated = () => {
  // The number of viewers holds us too, as soon as the database has heard of it.
  for (const later of SEATED_LOOKS_MS) window.setTimeout(refresh, later);
};

player.onPremium = () => {
  const selling = document.querySelector("#pass-place [data-pass-open]");
  const opener = selling ?? document.querySelector("#patron [data-subscribe]");
  const wish = document.querySelector("#pass-place section") ? "pass" : "subscribe";
  if (page.kind === "anon") location.assign(`/login?next=${encodeURIComponent(`/models/${page.handle}?${wish}=1`)}`);
  else if (opener instanceof HTMLButtonElement) opener.click();
  else toast(page.kind === "fan" ? `${page.displayName} offers no subscription at the moment.` : "Subscriptions are for fans.", { kind: "warn" });
};
document.addEventListener("pass-bought", () => player.spectatorBar.wantBest());
for (const type of ["SUBSCRIPTION_CHANGED", "PASS_CHANGED"]) {
  events.on(type, (message) => {
    if (message.creatorId === page.creatorId) player.renew();
  });
}

wireTellButtons(root);
wireAsking();
if (page.state === "live" && watches) player.watch(page.roomId);
else if (page.state === "live") lookOn(true);
for (const type of ["STREAM_STARTED", "STREAM_ENDED", "STREAM_WENT_PRIVATE", "STREAM_WENT_PUBLIC", "RESYNC"]) {
  events.on(type, () => refresh());
}
window.setInterval(() => {
  if (document.visibilityState === "visible" || page.state === "live") refresh();
}, POLL_MS);
