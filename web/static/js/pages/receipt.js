// @ts-check
/**
 * /history/<id>: checks the receipt's signature in the browser, takes a complaint, gives a refund.
 */
import { ApiError, OneKey, api } from "../api.js";
import { checkReceipt } from "../receipt_check.js";
import { about, announce, busy, closeDialog, formatTokens, icon, make, openDialog, plural } from "../ui.js";
import { events } from "./common.js";

const page = /** @type {HTMLElement} */ (document.querySelector("[data-receipt]"));
const sessionId = page.dataset.receipt ?? "";
const find = (/** @type {string} */ selector) => /** @type {HTMLElement | null} */ (document.querySelector(selector));

async function check() {
  const pill = find("#signature-pill");
  const words = find("#signature-words");
  if (!pill || !words || page.dataset.signed !== "yes") return;
  try {
    const [receipt, keys] = await Promise.all([
      api.get(`/api/streaming/private-sessions/${sessionId}`),
      api.get("/.well-known/greenroom-receipt-keys.json"),
    ]);
    const found = await checkReceipt(receipt, keys);
    const label = { valid: "Signature valid", wrong: "Signature not valid", unable: "Signed, not checked here" }[found.verdict];
    pill.className = `pill ${{ valid: "pill--good", wrong: "pill--bad", unable: "" }[found.verdict]}`;
    pill.replaceChildren(icon(found.verdict === "wrong" ? "warn" : "shield"), label);
    words.textContent = found.words;
  } catch (error) {
    words.textContent = "The check did not get through. Check the connection and try again.";
    console.warn("receipt_not_checked", error);
  }
}

find("#check-again")?.addEventListener("click", async (event) => {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  await busy(button, "Checking…", check);
  announce(find("#signature-words")?.textContent ?? "");
});

/** @param {HTMLElement | null} place @param {string} text */
function sayBad(place, text) {
  if (!place) return;
  place.hidden = !text;
  place.replaceChildren();
  if (text) place.append(make("div", { class: "banner banner--bad", role: "alert" }, icon("warn"), make("p", {}, text)));
}

/** @param {Element | null} field @param {boolean} fits */
function mark(field, fits) {
  if (!(field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement)) return;
  if (fits) field.removeAttribute("aria-invalid");
  else field.setAttribute("aria-invalid", "true");
  const error = document.getElementById(`${field.id}-error`);
  if (error) error.hidden = fits;
}

for (const opener of document.querySelectorAll("[data-opens]")) {
  opener.addEventListener("click", () => {
    const dialog = document.getElementById(opener.getAttribute("data-opens") ?? "");
    if (dialog instanceof HTMLDialogElement) openDialog(dialog);
    if (dialog?.id === "refund") void quote();
  });
}

// --- a complaint -------------------------------------------------------------------------------------------

const complaint = /** @type {HTMLFormElement | null} */ (document.querySelector("#complaint form"));
complaint?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = /** @type {HTMLTextAreaElement} */ (complaint.querySelector("#complaint-reason"));
  const reason = field.value.trim();
  mark(field, reason !== "");
  if (reason === "") return field.focus();
  const button = /** @type {HTMLButtonElement} */ (complaint.querySelector("[data-send]"));
  try {
    await busy(button, "Sending…", () => api.post(`/api/receipts/${sessionId}/complaint`, { reason }));
    location.reload();
  } catch (error) {
    sayBad(complaint.querySelector("[data-message]"), error instanceof ApiError ? error.detail : "It did not get through.");
  }
});

// --- a refund ----------------------------------------------------------------------------------------------

const refund = /** @type {HTMLFormElement | null} */ (document.querySelector("#refund form"));
const amount = /** @type {HTMLInputElement | null} */ (document.getElementById("refund-tokens"));
const give = /** @type {HTMLButtonElement | null} */ (refund?.querySelector("[data-send]") ?? null);
/** A key for each refund that was tried: pressing again after a lost answer gives it once. */
const key = new OneKey();
let asked = 0;

function wanted() {
  const value = amount?.value.trim() ?? "";
  const tokens = /^\d+$/.test(value) ? Number(value) : NaN;
  return tokens >= 1 && tokens <= Number(amount?.max) ? tokens : NaN;
}

/** What it takes from whom, as the server counts it, before anything is pressed. */
async function quote() {
  if (!refund || !give) return;
  const tokens = wanted();
  const put = (/** @type {string} */ name, /** @type {string} */ text) => {
    const place = refund.querySelector(`[data-quote="${name}"]`);
    if (place) place.textContent = text;
  };
  mark(amount, Number.isInteger(tokens));
  give.disabled = !Number.isInteger(tokens);
  if (!Number.isInteger(tokens)) return;
  const mine = ++asked;
  try {
    const found = await api.get(`/api/receipts/${sessionId}/refund?tokens=${tokens}`);
    if (mine !== asked) return;
    put("earnings", `${plural(found.fromEarnings, "token")}, ${about(found.fromEarnings)}`);
    put("commission", plural(found.fromCommission, "token"));
    put("back", `${plural(found.tokens, "token")}, ${about(found.tokens)}`);
    give.textContent = `Give back ${formatTokens(found.tokens)} ${found.tokens === 1 ? "token" : "tokens"}`;
    sayBad(refund.querySelector("[data-message]"), "");
  } catch (error) {
    if (mine === asked) sayBad(refund.querySelector("[data-message]"), error instanceof ApiError ? error.detail : "It did not get through.");
  }
}

amount?.addEventListener("input", () => void quote());
refund?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = /** @type {HTMLTextAreaElement} */ (refund.querySelector("#refund-reason"));
  const reason = field.value.trim();
  const tokens = wanted();
  mark(field, reason !== "");
  if (reason === "" || !give || !Number.isInteger(tokens)) return field.focus();
  const body = { tokens, reason };
  try {
    await busy(give, "Giving back…", () => api.post(`/api/receipts/${sessionId}/refund`, body, { idempotencyKey: key.for(body) }));
    const dialog = refund.closest("dialog");
    if (dialog) closeDialog(dialog);
    location.reload();
  } catch (error) {
    sayBad(refund.querySelector("[data-message]"), error instanceof ApiError ? error.detail : "It did not get through.");
  }
});

// The clock signs soon after the end, and the other side may act meanwhile.
for (const type of ["RECEIPT_ISSUED", "REFUND_GIVEN", "COMPLAINT_CHANGED"]) {
  events.on(type, (message) => {
    if (message.sessionId === sessionId && !document.querySelector("dialog[open]")) location.reload();
  });
}
// The message may have come while the page was on its way.
if (document.querySelector("[data-unsigned]")) {
  window.setTimeout(() => { if (!document.querySelector("dialog[open]")) location.reload(); }, 3_000);
}
void check();
