// @ts-check
/**
 * /wallet/purchases/<id>: after paying on the provider's page. Asks until the truth is known, and says so; where the
 * buyer wanted to go before paying is where the page leads on to.
 */
import { ApiError, api } from "../api.js";
import { announce, formatTokens } from "../ui.js";
import { events } from "./common.js";

const card = /** @type {HTMLElement} */ (document.getElementById("purchase"));
const { purchase: purchaseId = "", status = "" } = card.dataset;
const WAITING = ["created", "pending"];
/** Seconds between questions: often at first, because the buyer is looking; then as long as the page is open. */
const PAUSES = [0, 1, 2, 2, 3, 5, 5, 10];
let asked = 0;
let known = !WAITING.includes(status);
/** @type {ReturnType<typeof setTimeout> | undefined} */
let next;

async function ask() {
  clearTimeout(next);
  if (known) return;
  try {
    const purchase = await api.post(`/api/wallet/purchases/${encodeURIComponent(purchaseId)}/refresh`);
    if (!WAITING.includes(purchase.status)) {
      await show();
      return;
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    console.warn("not asked", error.code); // the next question may be answered
  }
  asked += 1;
  next = setTimeout(ask, 1000 * PAUSES[Math.min(asked, PAUSES.length - 1)]);
}

/** The page's card from the server once more: the words of each state are written in one place. */
async function show() {
  known = true;
  try {
    const response = await fetch(location.pathname, { credentials: "same-origin" });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const part = fresh.getElementById("purchase");
    if (!response.ok || !part) throw new Error(`HTTP ${response.status}`);
    card.replaceChildren(...part.childNodes);
    document.title = fresh.title;
    announce(`${card.querySelector("h1")?.textContent}. ${document.getElementById("purchase-words")?.textContent}`);
    lead();
  } catch (error) {
    console.warn("the page is not fresh", error);
    known = false;
    next = setTimeout(ask, 5000);
  }
}

/** Once it is paid: back to what the tokens were wanted for. */
function lead() {
  const on = /** @type {HTMLAnchorElement | null} */ (document.getElementById("go-on"));
  if (!on) return;
  try {
    const wanted = sessionStorage.getItem("greenroom-next") ?? "";
    sessionStorage.removeItem("greenroom-next");
    // Our own paths alone: "//host" would be somebody else's.
    if (!/^\/(?![/\\])/.test(wanted)) return;
    on.href = wanted;
    on.textContent = "Go on";
    sessionStorage.setItem("greenroom-say", `${formatTokens(Number(card.querySelector("dd")?.textContent?.replace(/\D/g, "")))} tokens added.`);
  } catch (error) {
    console.warn("where to go on is not known", error);
  }
}

events.on("PURCHASE_CHANGED", (message) => {
  if (message.purchaseId === purchaseId) show();
});
if (known) lead();
else ask();
