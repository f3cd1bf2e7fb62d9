// @ts-check
/**
 * The studio's Earnings tab: pays out once however often the button is pressed, leads to the provider's form,
 * and follows by itself when earnings clear or a payout arrives.
 */
import { ApiError, OneKey, api } from "../api.js";
import { announce, busy, formatPrice, icon, make, toast } from "../ui.js";
import { events, localTimes } from "./common.js";

const panel = /** @type {HTMLElement | null} */ (document.getElementById("p-earnings"));
/** The same key until there was an answer, so that a lost answer never pays twice. */
const key = new OneKey();

const find = (/** @type {string} */ selector) => panel?.querySelector(selector) ?? null;

/** What the creator is typing, and where: a fresh tab must not take it away. */
function typed() {
  const field = /** @type {HTMLInputElement | null} */ (find("#payout-tokens"));
  const focused = panel?.contains(document.activeElement) ? document.activeElement?.id : "";
  return { value: field && field.value !== field.defaultValue ? field.value : null, focused };
}

/** The tab, from the server once more. */
async function refresh() {
  try {
    const answer = await fetch("/studio?part=earnings", { credentials: "same-origin" });
    if (!answer.ok || !panel) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const { value, focused } = typed();
    panel.replaceChildren(...fresh.body.childNodes);
    const field = /** @type {HTMLInputElement | null} */ (find("#payout-tokens"));
    if (field && value !== null) field.value = value;
    if (focused) document.getElementById(focused)?.focus();
    localTimes(panel);
    wire();
  } catch (error) {
    console.warn("earnings not refreshed", error); // the next message tries again
  }
}

/** @param {string} text */
function sayBad(text) {
  const place = /** @type {HTMLElement | null} */ (find("[data-message]"));
  if (!place) return;
  place.hidden = !text;
  place.replaceChildren();
  if (text) place.append(make("div", { class: "banner banner--bad", role: "alert" }, icon("warn"), make("p", {}, text)));
}

const words = (/** @type {unknown} */ error) => (error instanceof ApiError ? error.detail : "It did not get through. Check the connection and try again.");

/** @returns {number} as typed, or NaN when it does not fit */
function wanted() {
  const field = /** @type {HTMLInputElement | null} */ (find("#payout-tokens"));
  const text = field?.value.trim() ?? "";
  const tokens = /^\d+$/.test(text) ? Number(text) : NaN;
  return field && tokens >= Number(field.min) && tokens <= Number(field.max) ? tokens : NaN;
}

/** What arrives, before the click. */
function look() {
  const field = find("#payout-tokens");
  const button = /** @type {HTMLButtonElement | null} */ (find("#payout-button"));
  const root = /** @type {HTMLElement | null} */ (find("#earnings"));
  if (!field || !button || !root) return;
  const tokens = wanted();
  const fits = Number.isInteger(tokens);
  const error = /** @type {HTMLElement | null} */ (find("#payout-tokens-error"));
  if (fits) field.removeAttribute("aria-invalid");
  else field.setAttribute("aria-invalid", "true");
  if (error) error.hidden = fits;
  button.disabled = !fits;
  if (!fits) return;
  const money = formatPrice(tokens * Number(root.dataset.minor), root.dataset.currency);
  const place = find('[data-payout="money"]');
  if (place) place.textContent = money;
  button.replaceChildren(make("span", {}, `Pay out ${money}`));
}

/** @param {Event} event */
async function payOut(event) {
  event.preventDefault();
  const button = /** @type {HTMLButtonElement | null} */ (find("#payout-button"));
  const tokens = wanted();
  if (!button || !Number.isInteger(tokens)) return;
  const body = { tokens };
  try {
    await busy(button, "Paying out…", () => api.post("/api/earnings/payouts", body, { idempotencyKey: key.for(body) }));
    key.answered();
    const field = /** @type {HTMLInputElement | null} */ (find("#payout-tokens"));
    if (field) field.value = field.defaultValue;
    await refresh();
    announce("The payout is on its way.");
  } catch (error) {
    sayBad(words(error));
  }
}

async function setUp() {
  const button = /** @type {HTMLButtonElement | null} */ (find("#payout-account-button"));
  const choice = /** @type {HTMLSelectElement | null} */ (find("#payout-account"));
  if (!button) return;
  try {
    const begun = await busy(button, "Opening…", () => api.post("/api/earnings/account", choice ? { account: choice.value } : {}));
    const url = new URL(begun.url, location.href);
    if (url.origin === location.origin) await refresh();
    else location.assign(url);
  } catch (error) {
    sayBad(words(error));
  }
}

function wire() {
  find("#payout")?.addEventListener("submit", (event) => void payOut(event));
  find("#payout-tokens")?.addEventListener("input", look);
  find("#payout-account-button")?.addEventListener("click", () => void setUp());
  look();
}

if (panel) {
  wire();
  events.on("PAYOUT_CHANGED", (message) => {
    void refresh();
    if (message.status === "paid") toast("A payout has arrived.", { kind: "good" });
    if (message.status === "failed") toast("A payout came back. The tokens are yours again.", { kind: "bad" });
  });
  for (const type of ["BALANCE_CHANGED", "COMPLAINT_CHANGED"]) {
    events.on(type, () => void refresh());
  }
  // Back from the provider's form: ask whether it is complete.
  if (new URLSearchParams(location.search).get("tab") === "earnings" && find("#earnings")?.getAttribute("data-account") === "unfinished") {
    api.post("/api/earnings/account/check").then((found) => { if (found.account === "ready") void refresh(); }, (error) => console.warn("account_not_checked", error));
  }
}
