// @ts-check
/**
 * Subscribing to a creator and cancelling it: what it costs now and each month before the press, and how it ends.
 * The card itself comes from the server (?part=subscription), before and after.
 */
import { api } from "../api.js";
import { about, busy, formatPrice, formatTokens, openDialog, plural, toast } from "../ui.js";
import { OfferDialog } from "./offer_dialog.js";

/** @typedef {import("./offer_dialog.js").Whom} Whom */
/** @typedef {{priceTokens?: number, includedMinutes?: number, discountPercent?: number, balance: number, cardPriceMinor?: number, currency?: string, renewsAt?: string, subscription?: {subscriptionId: string, periodEnd: string}}} Offer */

const day = (/** @type {Date} */ date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });

/** @extends {OfferDialog<Offer>} */
export class Subscription extends OfferDialog {
  /** @param {Whom} whom */
  constructor(whom) {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("subscribe"));
    super("sub", dialog, whom, document.getElementById("patron"), `/models/${whom.handle}?part=subscription`, { balance: 0 });
    this.ending = /** @type {HTMLDialogElement} */ (document.getElementById("unsubscribe"));
  }

  wire() {
    this.place?.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("button") : null;
      if (button?.hasAttribute("data-subscribe")) void this.open(button);
      if (button?.hasAttribute("data-cancel")) void this.ask(button);
      if (button?.hasAttribute("data-resume")) void this.change(button, "Keeping…", (id) => api.post(`/api/streaming/subscriptions/${id}/resume`), `Your subscription to ${this.whom.displayName} goes on.`);
    });
    this.dialog.addEventListener("change", () => this.show());
    this.ending.addEventListener("close", () => {
      const button = this.place?.querySelector("[data-cancel]");
      if (this.ending.returnValue !== "yes" || !(button instanceof HTMLButtonElement)) return;
      void this.change(button, "Cancelling…", (id) => api.delete(`/api/streaming/subscriptions/${id}`), `Your subscription to ${this.whom.displayName} is cancelled. What is paid stays yours.`);
    });
    this.follow(["SUBSCRIPTION_CHANGED"]);
    const opener = this.place?.querySelector("[data-subscribe]");
    if (opener instanceof HTMLButtonElement && this.wished("subscribe") !== null) void this.open(opener);
  }

  get withCard() {
    const chosen = this.dialog.querySelector('input[name="pay-with"]:checked');
    return this.offer.cardPriceMinor !== undefined && chosen instanceof HTMLInputElement && chosen.value === "gateway";
  }

  /** @override */
  get source() {
    return `/api/streaming/subscription-offer/${encodeURIComponent(this.whom.creatorId)}`;
  }

  /** @override */
  get refusal() {
    return this.offer.priceTokens === undefined ? `${this.whom.displayName} offers no subscription at the moment.` : "";
  }

  /** @override */
  show() {
    const { priceTokens: price = 0, includedMinutes: minutes = 0, discountPercent: discount = 0, cardPriceMinor: card, currency } = this.offer;
    const byCard = this.withCard;
    const gives = [minutes && plural(minutes, "private minute"), discount && `${discount}% off further minutes`].filter(Boolean).join(", ");
    const charge = card === undefined ? "" : formatPrice(card, currency || undefined);
    this.one("ways").hidden = card === undefined;
    this.put("card-price", charge);
    this.put("gives", gives || "no minutes: it supports them");
    this.put("price", byCard ? charge : formatTokens(price));
    this.put("unit", byCard ? "" : price === 1 ? "token" : "tokens");
    this.put("money", byCard ? `by card, for ${plural(price, "token")}` : about(price));
    this.put("next", this.offer.renewsAt ? day(new Date(this.offer.renewsAt)) : "");
    if (!this.sending) this.put("confirm", `Subscribe for ${byCard ? charge : plural(price, "token")}`);
    this.showBalance(byCard ? 0 : price, `/models/${this.whom.handle}?subscribe=1`);
    this.one("balance-row").hidden = byCard;
    if (byCard) this.one("after-row").hidden = true;
  }

  /** @override */
  get wish() {
    const { priceTokens, includedMinutes = 0 } = this.offer;
    const body = { creatorId: this.whom.creatorId, payWith: this.withCard ? "gateway" : "tokens", maxPrice: priceTokens, minMinutes: includedMinutes };
    return { path: "/api/streaming/subscriptions", body, words: "Subscribing…" };
  }

  /** @override */
  get done() {
    return `You subscribe to ${this.whom.displayName}.`;
  }

  /** @override @param {import("../api.js").ApiError} error */
  wordsFor(error) {
    switch (error.code) {
      case "PRICE_CHANGED":
        return ["The subscription has changed.", "Nothing was paid. Look again before you confirm."];
      case "CARD_DECLINED":
        return ["The card was refused.", "Nothing was charged. Pay with tokens, or save another card in the wallet."];
      case "OFFLINE":
        return ["No answer came.", "Press again: the same month is never paid twice."];
      default:
        return [];
    }
  }

  /** @private @param {HTMLButtonElement} button "Cancel subscription": first what that means */
  async ask(button) {
    try {
      await busy(button, "Looking…", () => this.look());
    } catch (error) {
      toast(/** @type {Error} */ (error).message, { kind: "bad" });
      return;
    }
    if (!this.offer.subscription) {
      await this.refresh();
      return;
    }
    const until = this.ending.querySelector('[data-sub="until"]');
    if (until) until.textContent = day(new Date(this.offer.subscription.periodEnd));
    this.ending.returnValue = "";
    openDialog(this.ending);
  }

  /** @private @param {HTMLButtonElement} button @param {string} words @param {(id: string) => Promise<unknown>} call @param {string} done */
  async change(button, words, call, done) {
    const id = document.getElementById("subscription")?.dataset.subscription ?? "";
    try {
      await busy(button, words, () => call(encodeURIComponent(id)));
      toast(done, { kind: "good" });
    } catch (error) {
      toast(/** @type {Error} */ (error).message, { kind: "bad" });
    }
    await this.refresh();
  }
}
