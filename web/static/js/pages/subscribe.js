// @ts-check
/**
 * Subscribing to a creator and cancelling it: what it costs now and each month before the press, and how it ends.
 * The card itself comes from the server (?part=subscription), before and after.
 */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, closeDialog, formatPrice, formatTokens, openDialog, plural, toast, warnIn } from "../ui.js";
import { events, localTimes, onBalance, refreshBalance } from "./common.js";

/** @typedef {{creatorId: string, handle: string, displayName: string}} Whom */
/** @typedef {{priceTokens?: number, includedMinutes?: number, discountPercent?: number, balance: number, cardPriceMinor?: number, currency?: string, renewsAt?: string, subscription?: {subscriptionId: string, periodEnd: string}}} Offer */

const day = (/** @type {Date} */ date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });

/** The server's buttons wait for their script. @param {Element | null} place */
function enable(place) {
  for (const button of place?.querySelectorAll("button") ?? []) button.disabled = false;
}

export class Subscription {
  /** @param {Whom} whom */
  constructor(whom) {
    this.whom = whom;
    /** @type {Offer} */
    this.offer = { balance: 0 };
    this.sending = false;
    this.key = new OneKey();
    /** The card's last text from the server. */
    this.shown = "";
    this.dialog = /** @type {HTMLDialogElement} */ (document.getElementById("subscribe"));
    this.ending = /** @type {HTMLDialogElement} */ (document.getElementById("unsubscribe"));
    this.confirm = /** @type {HTMLButtonElement} */ (this.one("confirm"));
  }

  wire() {
    const place = document.getElementById("patron");
    place?.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("button") : null;
      if (button?.hasAttribute("data-subscribe")) this.open(button);
      if (button?.hasAttribute("data-cancel")) this.ask(button);
      if (button?.hasAttribute("data-resume")) this.change(button, "Keeping…", (id) => api.post(`/api/streaming/subscriptions/${id}/resume`), `Your subscription to ${this.whom.displayName} goes on.`);
    });
    this.dialog.querySelector("#subscribe-form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.dialog.addEventListener("change", () => this.show());
    this.ending.addEventListener("close", () => {
      const button = place?.querySelector("[data-cancel]");
      if (this.ending.returnValue !== "yes" || !(button instanceof HTMLButtonElement)) return;
      this.change(button, "Cancelling…", (id) => api.delete(`/api/streaming/subscriptions/${id}`), `Your subscription to ${this.whom.displayName} is cancelled. What is paid stays yours.`);
    });
    onBalance(({ available }) => {
      this.offer.balance = available;
      if (this.dialog.open) this.show();
    });
    events.on("SUBSCRIPTION_CHANGED", (message) => {
      if (message.creatorId === this.whom.creatorId) this.refresh();
    });
    enable(place);
    const address = new URL(location.href);
    const opener = place?.querySelector("[data-subscribe]");
    if (!address.searchParams.has("subscribe") || !(opener instanceof HTMLButtonElement)) return;
    address.searchParams.delete("subscribe"); // back from the wallet
    history.replaceState(null, "", address);
    this.open(opener);
  }

  get withCard() {
    const chosen = this.dialog.querySelector('input[name="pay-with"]:checked');
    return this.offer.cardPriceMinor !== undefined && chosen instanceof HTMLInputElement && chosen.value === "gateway";
  }

  /** @private @param {HTMLButtonElement} button */
  async open(button) {
    try {
      await busy(button, "Looking…", () => this.look());
    } catch (error) {
      toast(/** @type {Error} */ (error).message, { kind: "bad" });
      return;
    }
    if (this.offer.priceTokens === undefined) {
      toast(`${this.whom.displayName} offers no subscription at the moment.`, { kind: "warn" });
      await this.refresh();
      return;
    }
    this.say("");
    openDialog(this.dialog);
    if (!this.confirm.hidden) this.confirm.focus();
  }

  /** @private What is offered this instant; throws ApiError. */
  async look() {
    this.offer = await api.get(`/api/streaming/subscription-offer/${encodeURIComponent(this.whom.creatorId)}`);
    this.show();
  }

  /** @private */
  show() {
    const { priceTokens: price = 0, includedMinutes: minutes = 0, discountPercent: discount = 0, balance, cardPriceMinor: card, currency } = this.offer;
    const byCard = this.withCard;
    const short = !byCard && price > balance;
    const gives = [minutes && plural(minutes, "private minute"), discount && `${discount}% off further minutes`].filter(Boolean).join(", ");
    const charge = card === undefined ? "" : formatPrice(card, currency || undefined);
    this.one("ways").hidden = card === undefined;
    this.put("card-price", charge);
    this.put("gives", gives || "no minutes: it supports them");
    this.put("price", byCard ? charge : formatTokens(price));
    this.put("unit", byCard ? "" : price === 1 ? "token" : "tokens");
    this.put("money", byCard ? `by card, for ${plural(price, "token")}` : about(price));
    this.put("next", this.offer.renewsAt ? day(new Date(this.offer.renewsAt)) : "");
    this.put("balance", plural(balance, "token"));
    this.put("after", short ? "" : plural(balance - price, "token"));
    this.put("missing", short ? `${plural(price - balance, "token")}, ${about(price - balance)}` : "");
    if (!this.sending) this.put("confirm", `Subscribe for ${byCard ? charge : plural(price, "token")}`);
    this.one("balance-row").hidden = byCard;
    this.one("after-row").hidden = byCard || short;
    this.one("missing-row").hidden = !short;
    const get = this.one("get-tokens");
    get.hidden = !short;
    this.confirm.hidden = short;
    get.setAttribute("href", `/wallet?need=${Math.max(0, price - balance)}&next=${encodeURIComponent(`/models/${this.whom.handle}?subscribe=1`)}`);
  }

  /** @private */
  async submit() {
    if (this.sending || this.confirm.hidden) return;
    this.sending = true;
    this.say("");
    const { priceTokens, includedMinutes = 0 } = this.offer;
    const body = { creatorId: this.whom.creatorId, payWith: this.withCard ? "gateway" : "tokens", maxPrice: priceTokens, minMinutes: includedMinutes };
    try {
      await busy(this.confirm, "Subscribing…", () => api.post("/api/streaming/subscriptions", body, { idempotencyKey: this.key.for(body) }));
      this.key.answered();
      closeDialog(this.dialog);
      toast(`You subscribe to ${this.whom.displayName}.`, { kind: "good" });
      await this.refresh();
      refreshBalance();
    } catch (error) {
      await this.refused(error);
    } finally {
      this.sending = false;
    }
  }

  /** @private @param {unknown} error */
  async refused(error) {
    if (!(error instanceof ApiError)) throw error;
    if (!["OFFLINE", "UNAVAILABLE"].includes(error.code)) this.key.answered();
    switch (error.code) {
      case "INSUFFICIENT_TOKENS":
        this.offer.balance = error.fields.balance ?? 0;
        this.show();
        break;
      case "PRICE_CHANGED":
        await this.look().catch((failure) => console.warn("offer not read", failure));
        this.say("The subscription has changed.", "Nothing was paid. Look again before you confirm.");
        break;
      case "CARD_DECLINED":
        this.say("The card was refused.", "Nothing was charged. Pay with tokens, or save another card in the wallet.");
        break;
      case "OFFLINE":
        this.say("No answer came.", "Press again: the same month is never paid twice.");
        break;
      default:
        this.say(error.detail, error.code === "UNAVAILABLE" ? "" : "Nothing was paid.");
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

  /** @private The card as the server has it now; keeps the focus in it. */
  async refresh() {
    const place = document.getElementById("patron");
    const response = await fetch(`/models/${this.whom.handle}?part=subscription`, { credentials: "same-origin" });
    if (!place || !response.ok) return;
    const text = await response.text();
    if (text === this.shown) return; // the press and the feed both ask
    this.shown = text;
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    const held = place.contains(document.activeElement);
    place.replaceChildren(...fresh.childNodes);
    enable(place);
    localTimes(place);
    if (held) place.querySelector("button")?.focus();
  }

  /** @private @param {string} title @param {string} [text] */
  say(title, text = "") {
    warnIn(this.one("message"), title, text);
    if (title) announce(`${title} ${text}`, "alert");
  }

  /** @private @param {string} name @returns {HTMLElement} */
  one(name) {
    return /** @type {HTMLElement} */ (this.dialog.querySelector(`[data-sub="${name}"]`));
  }

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    this.one(name).textContent = text;
  }
}
