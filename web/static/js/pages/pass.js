// @ts-check
/**
 * Buying a pass for a creator's best picture: its price, and until when it is valid, before the press. On a creator's
 * page, and in a battle, where any of the creators' will do. Knows nothing of the player.
 */
import { about, closeDialog, formatTokens, plural } from "../ui.js";
import { OfferDialog } from "./offer_dialog.js";

/** @typedef {import("./offer_dialog.js").Whom} Whom */
/** @typedef {{priceTokens?: number, hours: number, balance: number, current?: {endsAt: string}}} Offer */

const when = (/** @type {Date} */ at) => at.toLocaleString("en-GB", { weekday: "long", hour: "2-digit", minute: "2-digit" });

/** @extends {OfferDialog<Offer>} */
export class Pass extends OfferDialog {
  /** @param {HTMLElement | null} place of the cards @param {string} card where the server has them */
  constructor(place, card) {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("pass"));
    super("pass", dialog, { creatorId: "", handle: "", displayName: "" }, place, card, { balance: 0, hours: 24 });
  }

  wire() {
    this.place?.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("[data-pass-open]") : null;
      if (button instanceof HTMLButtonElement) this.openBy(button);
    });
    const instead = this.dialog.querySelector("[data-subscribes]");
    const subscribe = () => /** @type {HTMLElement | null} */ (document.querySelector("#patron [data-subscribe]"));
    if (instead instanceof HTMLButtonElement) {
      instead.hidden = subscribe() === null;
      instead.addEventListener("click", () => {
        closeDialog(this.dialog);
        subscribe()?.click();
      });
    }
    this.follow(["PASS_CHANGED", "SUBSCRIPTION_CHANGED"]);
    const wish = this.wished("pass");
    if (wish === null) return;
    const openers = /** @type {HTMLButtonElement[]} */ ([...(this.place?.querySelectorAll("[data-pass-open]") ?? [])]);
    const opener = openers.find(({ dataset }) => dataset.passOpen === wish) ?? (openers.length === 1 ? openers[0] : null);
    if (opener) this.openBy(opener);
  }

  /** @private @param {HTMLButtonElement} button names whose pass it sells */
  openBy(button) {
    const { passOpen = "", handle = "", name = "" } = button.dataset;
    this.whom = { creatorId: passOpen, handle, displayName: name };
    for (const place of this.dialog.querySelectorAll('[data-pass="name"]')) place.textContent = name;
    void this.open(button);
  }

  /** @override */
  get source() {
    return `/api/streaming/pass-offer/${encodeURIComponent(this.whom.creatorId)}`;
  }

  /** @override */
  get refusal() {
    if (this.offer.current) return "You have a pass already.";
    return this.offer.priceTokens === undefined ? `${this.whom.displayName} sells no passes at the moment.` : "";
  }

  /** @override */
  show() {
    const { priceTokens: price = 0, hours } = this.offer;
    this.put("price", formatTokens(price));
    this.put("unit", price === 1 ? "token" : "tokens");
    this.put("money", about(price));
    this.put("until", `about ${when(new Date(Date.now() + hours * 3_600_000))}`);
    if (!this.sending) this.put("confirm", `Buy for ${plural(price, "token")}`);
    this.showBalance(price, `${location.pathname}?pass=${encodeURIComponent(this.whom.creatorId)}`);
  }

  /** @override */
  get wish() {
    return { path: "/api/streaming/passes", body: { creatorId: this.whom.creatorId, maxPrice: this.offer.priceTokens }, words: "Buying…" };
  }

  /** @override */
  get done() {
    return "Your pass is valid for 24 hours. The picture becomes sharper in a moment.";
  }

  /** @override The page's player shows at once what was paid for. */
  bought() {
    document.dispatchEvent(new CustomEvent("pass-bought"));
  }

  /** @override @param {import("../api.js").ApiError} error */
  wordsFor(error) {
    switch (error.code) {
      case "PRICE_CHANGED":
        return ["The price has changed.", "Nothing was paid. Look again before you confirm."];
      case "STREAM_NOT_LIVE":
        return [`${this.whom.displayName}’s picture is not broadcast now.`, "Nothing was paid. A pass is sold only while there is something to watch."];
      case "OFFLINE":
        return ["No answer came.", "Press again: the same pass is never paid twice."];
      default:
        return [];
    }
  }
}
