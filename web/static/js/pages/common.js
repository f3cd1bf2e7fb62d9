// @ts-check
/**
 * What every page does: theme, local times, the live balance, and messages that concern a person wherever they are.
 * Other page scripts import `events` from here, so that a page has one feed.
 */
import { api } from "../api.js";
import { EventsClient } from "../events_client.js";
import { announce, formatTokens, icon, money, setValue, toast } from "../ui.js";
import { listenForBattles } from "./battle_live.js";
import { dayAndHour, listenForBookings, localZones } from "./booking_live.js";
import { listenForReturns } from "./returns.js";
import { listenForTheWaitedFor } from "./tell.js";

/** The signed-in person's id, or "". */
export const userId = document.querySelector('meta[name="user-id"]')?.getAttribute("content") ?? "";

/** The page's one live feed; connected only when somebody is signed in. */
export const events = new EventsClient();

/** @type {{available: number, held: number} | null} the last balance that the server told */
let balance = null;
/** @type {Set<(balance: {available: number, held: number}) => void>} */
const balanceListeners = new Set();

/** @param {(balance: {available: number, held: number}) => void} listener called with every change */
export function onBalance(listener) {
  balanceListeners.add(listener);
  if (balance) listener(balance);
}

/** A creator's header shows what was earned; the feed's message does not carry that. */
const isCreator = document.getElementById("balance")?.dataset.kind === "earned";

/** @param {{available: number, held: number, earningsPending?: number, earnings?: number}} fresh */
function showBalance(fresh) {
  balance = fresh;
  const earned = (fresh.earningsPending ?? 0) + (fresh.earnings ?? 0);
  const main = isCreator ? earned : fresh.available;
  const put = (/** @type {string} */ name, /** @type {string} */ text) => {
    const place = document.querySelector(`#balance [data-balance="${name}"]`);
    if (place) place.textContent = text;
  };
  put("main", formatTokens(main));
  put("unit", ` ${main === 1 ? "token" : "tokens"}${!isCreator && fresh.held ? " free," : ""}`);
  if (!isCreator) put("aside", fresh.held ? `${formatTokens(fresh.held)} held` : money(fresh.available));
  for (const listener of balanceListeners) listener(fresh);
}

/** Ask for the balance; a failure leaves the old figures, the feed will bring the next. */
export async function refreshBalance() {
  try {
    showBalance(await api.get("/api/wallet"));
  } catch (error) {
    console.warn("balance not refreshed", error);
  }
}

/** Write moments in the reader's own time zone. @param {ParentNode} [within] */
export function localTimes(within = document) {
  const today = new Date().toDateString();
  const yesterday = new Date(Date.now() - 86_400_000).toDateString();
  for (const time of within.querySelectorAll("time[data-moment]")) {
    if (!(time instanceof HTMLTimeElement)) continue;
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const hour = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    if (time.dataset.moment === "time") {
      time.textContent = at.toLocaleTimeString("en-GB");
    } else if (time.dataset.moment === "day") {
      time.textContent = dayAndHour(at);
    } else if (time.dataset.moment === "day-within") {
      time.textContent = dayAndHour(at, true);
    } else if (time.dataset.moment === "short") {
      const day = at.toDateString();
      const date = at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
      time.textContent = `${day === today ? "Today" : day === yesterday ? "Yesterday" : date}, ${hour}`;
    } else {
      const date = at.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
      time.textContent = `${date}, ${hour}`;
    }
  }
}

const THEMES = ["", "light", "dark"];
const THEME_WORDS = ["like the system", "light", "dark"];
const THEME_ICONS = ["theme", "sun", "moon"];

function wireTheme() {
  const button = document.getElementById("theme");
  button?.addEventListener("click", () => {
    const next = (THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length;
    if (THEMES[next]) document.documentElement.dataset.theme = THEMES[next];
    else delete document.documentElement.dataset.theme;
    document.cookie = `theme=${THEMES[next]}; path=/; max-age=${THEMES[next] ? 31_536_000 : 0}; samesite=lax`;
    button.setAttribute("aria-label", `Theme: ${THEME_WORDS[next]}`);
    button.replaceChildren(icon(THEME_ICONS[next]));
    announce(`Theme: ${THEME_WORDS[next]}`);
  });
}

const CLAIM = (/** @type {string} */ sessionId) => `greenroom-call-${sessionId}`;

/**
 * One tab takes the call; says whether it is this one. The page where the person waits asks at once, others later.
 * @param {string} sessionId @returns {boolean}
 */
export function claimCall(sessionId) {
  try {
    if (localStorage.getItem(CLAIM(sessionId))) return false;
    localStorage.setItem(CLAIM(sessionId), "1");
  } catch {
    return true; // storage is refused: then this tab is as good as any
  }
  return true;
}

/** Wait for the page with the lobby to take the call; if none does, this page goes there itself. @param {string} sessionId */
function callStarted(sessionId) {
  if (location.pathname.startsWith("/call/")) return;
  window.setTimeout(() => {
    if (document.visibilityState === "visible" && claimCall(sessionId)) location.assign(`/call/${sessionId}`);
    else toast("Your private stream has begun.", { kind: "good", iconName: "lock", action: { label: "Join", href: `/call/${sessionId}` } });
  }, 1_000);
}

function wireFeed() {
  if (!userId) return;
  events.on("RESYNC", refreshBalance);
  events.on("BALANCE_CHANGED", (message) => {
    if (typeof message.available === "number" && !isCreator) showBalance({ available: message.available, held: message.held ?? 0 });
    else refreshBalance();
  });
  events.on("refused", () => {
    const back = encodeURIComponent(location.pathname + location.search);
    toast("You are signed out.", { kind: "warn", action: { label: "Sign in", href: `/login?next=${back}` } });
  });
  events.on("PRIVATE_ACCEPTED", (message) => callStarted(message.sessionId));
  events.on("SESSION_CHANGED", (message) => {
    // The way back to a call goes with the call.
    if (message.status !== "ended" && message.status !== "settling") return;
    document.querySelector(`[data-call-now="${CSS.escape(message.sessionId ?? "")}"]`)?.remove();
  });
  events.on("PRIVATE_REQUESTED", () => {
    if (location.pathname.startsWith("/studio") || location.pathname.startsWith("/call/")) return;
    toast("Somebody asks for a private stream.", { kind: "info", iconName: "lock", action: { label: "Look", href: "/studio" } });
  });
  events.on("PRIVATE_TURN", (message) => {
    // The page where the person waits asks there.
    const href = `/models/${encodeURIComponent(message.handle)}`;
    if (location.pathname === href) return;
    toast(`It is your turn with ${message.name}. Confirm within ${Math.round(message.remainingMs / 1000)} s.`, { kind: "good", iconName: "bell", action: { label: "Confirm", href } });
  });
  listenForReturns(events);
  listenForTheWaitedFor(events);
  listenForBookings(events, callStarted);
  listenForBattles(events);
  events.connect();
}

/** What the page before wanted to be said here. */
function sayFromBefore() {
  try {
    const words = sessionStorage.getItem("greenroom-say");
    sessionStorage.removeItem("greenroom-say");
    if (words) toast(words, { kind: "good" });
  } catch (error) {
    console.warn("nothing said", error);
  }
}

sayFromBefore();
for (const bar of document.querySelectorAll("[data-v-value]")) setValue(bar, bar.getAttribute("data-v-value") ?? "0");
localTimes();
localZones();
wireTheme();
wireFeed();
