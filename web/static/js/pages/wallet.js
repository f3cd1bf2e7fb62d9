// @ts-check
/**
 * /wallet: buying tokens, once however often the button is pressed; the figures follow by themselves.
 */
import { ApiError, api, newIdempotencyKey } from "../api.js";
import { announce, busy, formatPrice, icon, make, plural, toast } from "../ui.js";
import { events, localTimes, refreshBalance } from "./common.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("top-up") ?? document.createElement("form")); // creators buy none
const pay = /** @type {HTMLButtonElement} */ (document.getElementById("pay") ?? document.createElement("button"));
const message = /** @type {HTMLElement} */ (document.getElementById("top-up-message"));
let paying = false;
/** The same key until the gateway has answered, so that a lost answer never charges twice. */
let attempt = { body: "", key: "" };

function chosen() {
  return /** @type {HTMLInputElement | null} */ (form.querySelector('[name="package"]:checked'));
}

function showPrice() {
  const pack = chosen();
  pay.disabled = !pack;
  const price = pay.querySelector("span");
  if (price) price.textContent = `Pay ${pack?.dataset.price ?? ""}`;
}

/** @param {string} text @param {"bad" | "good" | "warn"} [kind] */
function say(text, kind = "bad") {
  message.hidden = !text;
  message.replaceChildren();
  if (!text) return;
  message.append(make("div", { class: `banner banner--${kind}`, role: kind === "good" ? "status" : "alert" }, icon(kind === "good" ? "check" : "warn"), make("p", {}, text)));
}

/** Creators have no such part. */
function isFrozen() {
  return document.getElementById("frozen")?.hidden === false;
}

let asked = 0;

/** The parts of the page that show figures, from the server once more; an answer that was overtaken is not shown. */
async function refresh() {
  const mine = ++asked;
  try {
    const response = await fetch("/wallet?part=figures", { credentials: "same-origin" });
    const text = await response.text();
    if (!response.ok || mine !== asked) return;
    const wasFrozen = isFrozen();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const id of ["frozen", "figures", "purchases", "movements"]) {
      const part = fresh.getElementById(id);
      if (part) document.getElementById(id)?.replaceWith(part);
    }
    // A page that was made while nothing could be bought has no form: then it is made anew.
    if (wasFrozen && !isFrozen() && !form.isConnected) location.reload();
    form.hidden = isFrozen();
    localTimes();
  } catch (error) {
    console.warn("figures not refreshed", error); // the next message tries again
  }
}

/** @param {HTMLInputElement} pack */
async function bought(pack) {
  const words = `${plural(Number(pack.dataset.tokens), "token")} added.`;
  const next = form.dataset.next;
  if (next) {
    try {
      sessionStorage.setItem("greenroom-say", words);
    } catch (error) {
      console.warn("nothing to say later", error);
    }
    location.assign(next);
    return;
  }
  await Promise.all([refreshBalance(), refresh()]);
  say(words, "good");
  toast(words, { kind: "good" });
}

/** To the provider's page; where the buyer wanted to go is kept for when they come back. @param {string} url */
function leave(url) {
  try {
    if (form.dataset.next) sessionStorage.setItem("greenroom-next", form.dataset.next);
    else sessionStorage.removeItem("greenroom-next");
  } catch (error) {
    console.warn("where to go on is not kept", error);
  }
  announce("Going to the payment page…");
  location.assign(url);
}

/** @param {unknown} error */
function refused(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.code === "OFFLINE" || error.status >= 500) {
    say("The payment is not confirmed. Press again: you are never charged twice for it.", "warn");
    return;
  }
  attempt = { body: "", key: "" };
  if (error.status === 402) say("The card was refused. Nothing was charged. Try another card.");
  else if (error.code === "PURCHASE_LIMIT") {
    const { limitMinor = 0, spentMinor = 0 } = error.fields;
    say(`New buyers may spend ${formatPrice(limitMinor)} in 24 hours; ${formatPrice(spentMinor)} is used. This protects against stolen cards. Choose a smaller package or come back tomorrow.`, "warn");
  } else say(error.detail);
}

form.addEventListener("change", () => {
  showPrice();
  say("");
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const pack = chosen();
  if (paying || !pack) return;
  paying = true;
  say("");
  const given = new FormData(form);
  const card = given.get("card");
  const body = { packageId: pack.value, saveCard: given.has("save-card"), ...(card && { card: String(card) }) };
  const text = JSON.stringify(body);
  if (attempt.body !== text) attempt = { body: text, key: newIdempotencyKey() };
  try {
    announce("Paying…");
    const purchase = await busy(pay, "Paying…", () => api.post("/api/wallet/top-up", body, { idempotencyKey: attempt.key }));
    attempt = { body: "", key: "" };
    if (purchase.status === "pending" && purchase.checkoutUrl) leave(purchase.checkoutUrl);
    else await bought(pack);
  } catch (error) {
    refused(error);
  } finally {
    paying = false;
  }
});

for (const kind of ["BALANCE_CHANGED", "PURCHASE_CHANGED", "REFUND_CHANGED"]) events.on(kind, refresh);
document.addEventListener("wallet-changed", refresh); // by wallet_refunds.js
// The first one too: something may have happened between this page and its feed.
events.on("RESYNC", refresh);
showPrice();
