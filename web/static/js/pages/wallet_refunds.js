// @ts-check
/**
 * /wallet: giving unspent tokens of a purchase back for money. Once however often the button is pressed; what it
 * comes to is shown before the click and is the server's to decide.
 */
import { ApiError, OneKey, api } from "../api.js";
import { announce, busy, closeDialog, formatPrice, icon, make, openDialog, plural, toast } from "../ui.js";
import { refreshBalance } from "./common.js";

const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("give-back"));
const form = /** @type {HTMLFormElement} */ (document.getElementById("give-back-form"));
const input = /** @type {HTMLInputElement} */ (document.getElementById("give-back-tokens"));
const send = /** @type {HTMLButtonElement} */ (document.getElementById("give-back-send"));
const hint = /** @type {HTMLElement} */ (document.getElementById("give-back-hint"));
const wrong = /** @type {HTMLElement} */ (document.getElementById("give-back-error"));
const message = /** @type {HTMLElement} */ (document.getElementById("give-back-message"));

/** The purchase that the dialog is about. */
let about = { purchaseId: "", bought: 0, price: 0, currency: "USD", unspent: 0 };
let sending = false;
/** The same key until the server has answered. */
const key = new OneKey();

/** @param {string} name @param {string} text */
const put = (name, text) => {
  const place = dialog.querySelector(`[data-give="${name}"]`);
  if (place) place.textContent = text;
};

/** The number that was chosen, or 0 when it does not fit. */
function chosen() {
  const tokens = Number(input.value);
  return Number.isInteger(tokens) && tokens >= 1 && tokens <= about.unspent ? tokens : 0;
}

function show() {
  const tokens = chosen();
  wrong.hidden = tokens > 0;
  input.setAttribute("aria-invalid", String(!tokens));
  const words = wrong.querySelector("span");
  if (words) words.textContent = `Choose 1 to ${about.unspent.toLocaleString("en-US")} tokens.`;
  // As the server: rounded down to a whole cent.
  const money = formatPrice(Number((BigInt(about.price) * BigInt(tokens)) / BigInt(about.bought || 1)), about.currency);
  put("paid", `${formatPrice(about.price, about.currency)} for ${plural(about.bought, "token")}`);
  put("left", plural(about.unspent - tokens, "token"));
  put("money", tokens ? money : "–");
  send.disabled = !tokens;
  send.textContent = tokens ? `Give back for ${money}` : "Give back";
}

/** @param {string} text */
function say(text) {
  message.hidden = !text;
  message.replaceChildren();
  if (text) message.append(make("div", { class: "banner banner--bad", role: "alert" }, icon("warn"), make("p", {}, text)));
}

document.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-give-back]"));
  if (!button) return;
  const { giveBack = "", bought, price, currency = "USD", unspent } = button.dataset;
  about = { purchaseId: giveBack, bought: Number(bought), price: Number(price), currency, unspent: Number(unspent) };
  input.max = String(about.unspent);
  input.value = String(about.unspent);
  hint.textContent = `${plural(about.unspent, "token")} of this purchase ${about.unspent === 1 ? "is" : "are"} unspent.`;
  say("");
  show();
  openDialog(dialog);
  input.select();
});

input.addEventListener("input", show);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const tokens = chosen();
  if (sending || !tokens) return;
  sending = true;
  say("");
  const body = { purchaseId: about.purchaseId, tokens };
  try {
    announce("Giving back…");
    const refund = await busy(send, "Giving back…", () => api.post("/api/wallet/refunds", body, { idempotencyKey: key.for(body) }));
    key.answered();
    closeDialog(dialog);
    toast(`${plural(tokens, "token")} given back. ${formatPrice(refund.amountMinor, refund.currency)} is on its way to your card.`, { kind: "good" });
    document.dispatchEvent(new Event("wallet-changed"));
    await refreshBalance();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const unknown = error.code === "OFFLINE" || error.status >= 500;
    if (!unknown) key.answered();
    say(unknown ? "Not confirmed. Press again: nothing is given back twice." : error.detail);
    if (!unknown) document.dispatchEvent(new Event("wallet-changed"));
  } finally {
    sending = false;
    show();
  }
});
