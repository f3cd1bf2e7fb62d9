// @ts-check
/**
 * /admin: the part of the page that changes is asked for again every few seconds, unless updates are held, the
 * tab is hidden, or somebody is deciding or choosing. Sparklines are drawn and clocks go on in between.
 */
import { ApiError, api } from "../api.js";
import { announce, busy, formatClock, toast } from "../ui.js";
import { deciding, listenForActs } from "./admin_act.js";
import { draw } from "./admin_spark.js";
import { localTimes } from "./common.js";

const PATIENCE_MS = 10_000;
const part = /** @type {HTMLElement} */ (document.getElementById("part"));
const hold = /** @type {HTMLButtonElement} */ (document.getElementById("hold"));
const stale = /** @type {HTMLElement} */ (document.getElementById("stale"));
const everyMs = Number(part.dataset.every ?? 5) * 1000;
let asking = false;

const held = () => hold.getAttribute("aria-pressed") === "true";
const choosing = () => part.querySelector("[data-pick]:checked") !== null || part.contains(typingIn());

/** @returns {Element | null} the field that has the focus */
function typingIn() {
  const focused = document.activeElement;
  return focused instanceof HTMLInputElement && focused.type !== "checkbox" ? focused : null;
}

async function refresh() {
  if (asking) return;
  asking = true;
  const address = new URL(location.href);
  address.searchParams.set("part", "1");
  try {
    const answer = await fetch(address, { credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.redirected || answer.status === 403) return location.reload();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!deciding() && !choosing()) show(fresh);
    stale.hidden = true;
  } catch (error) {
    stale.hidden = false;
    console.warn("admin_part_not_read", error.name);
  } finally {
    asking = false;
  }
}

/** @param {Document} fresh put in place, with the focus and every table's place where they were */
function show(fresh) {
  const [focused, places] = [where(document.activeElement), new Map()];
  for (const table of part.querySelectorAll(".table-wrap")) places.set(table.id, table.scrollLeft);
  part.replaceChildren(...(fresh.getElementById("part")?.childNodes ?? []));
  for (const id of ["tabs", "books"]) swap(id, fresh.getElementById(id));
  for (const [id, left] of places) document.getElementById(id)?.scrollTo(left, 0);
  const again = focused && [...part.querySelectorAll(focused.kind)].find((each) => where(each)?.name === focused.name);
  if (again instanceof HTMLElement) again.focus({ preventScroll: true });
  const asOf = document.getElementById("as-of");
  if (asOf instanceof HTMLTimeElement) {
    asOf.dateTime = new Date().toISOString();
    localTimes(asOf.parentElement ?? document);
  }
  finish();
}

/** @param {string} id @param {HTMLElement | null} fresh replaced only when it differs, so that a focus stays */
function swap(id, fresh) {
  const old = document.getElementById(id);
  if (old && fresh && old.innerHTML !== fresh.innerHTML) {
    old.className = fresh.className;
    old.replaceChildren(...fresh.childNodes);
  }
}

/** @param {Element | null} element @returns {{kind: string, name: string} | null} how to find it again */
function where(element) {
  if (!element || !part.contains(element)) return null;
  const name = element.id || element.getAttribute("aria-label") || element.getAttribute("href") || element.textContent;
  return { kind: element.tagName, name: name ?? "" };
}

/** What the server cannot draw. */
function finish() {
  localTimes(part);
  for (const svg of part.querySelectorAll("svg[data-points]")) draw(/** @type {SVGSVGElement} */ (svg));
  const began = performance.now();
  for (const clock of part.querySelectorAll("[data-running]")) {
    /** @type {HTMLElement} */ (clock).dataset.began = String(began);
  }
}

function tick() {
  for (const clock of part.querySelectorAll("[data-running]")) {
    const { left, began } = /** @type {HTMLElement} */ (clock).dataset;
    clock.textContent = formatClock(Math.max(0, Number(left) - (performance.now() - Number(began))));
  }
}

hold.addEventListener("click", () => {
  const now = !held();
  hold.setAttribute("aria-pressed", String(now));
  announce(now ? "Updates are held." : "Updates go on.");
  if (!now) void refresh();
});

part.addEventListener("change", (event) => {
  if (!(event.target instanceof HTMLInputElement) || event.target.id !== "pick-all") return;
  for (const box of part.querySelectorAll("[data-pick]")) /** @type {HTMLInputElement} */ (box).checked = event.target.checked;
});

document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-audit]") : null;
  if (!(button instanceof HTMLButtonElement)) return;
  try {
    await busy(button, "Asking…", () => api.post("/api/admin/audits"));
    toast("The clock audits the books now.", { kind: "good" });
    void refresh();
  } catch (error) {
    if (error instanceof ApiError) toast(error.detail, { kind: "bad" });
    else throw error;
  }
});

listenForActs(() => {
  for (const box of part.querySelectorAll("[data-pick]:checked")) /** @type {HTMLInputElement} */ (box).checked = false;
  void refresh();
});
document.querySelector('#tabs [aria-current="page"]')?.scrollIntoView({ inline: "center", block: "nearest" });
finish();
window.setInterval(tick, 1000);
window.setInterval(() => {
  if (!held() && !document.hidden && !deciding() && !choosing()) void refresh();
}, everyMs);
