// @ts-check
/**
 * Buying a pass for a creator's best picture: its price, and until when it is valid, before the press.
 * The card itself comes from the server (?part=pass), before and after. Knows nothing of the player.
 */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, closeDialog, formatTokens, openDialog, plural, toast, warnIn } from "../ui.js";
import { events, localTimes, onBalance, refreshBalance } from "./common.js";

/** @typedef {{creatorId: string, handle: string, displayName: string, back?: string}} Whom `back`: where the wallet leads back to */
/** @typedef {{priceTokens?: number, hours: number, balance: number, current?: {endsAt: string}}} Offer */

const when = (/** @type {Date} */ at) => at.toLocaleString("en-GB", { weekday: "long", hour: "2-digit", minute: "2-digit" });

export class Pass {
  /** @param {Whom} whom @param {HTMLElement | null} place of the card; null: no card, the dialog alone */
  constructor(whom, place) {
    this.whom = whom;
    this.place = place;
    /** @type {Offer} */
    this.offer = { balance: 0, hours: 24 };
    this.sending = false;
    this.key = new OneKey();
    this.dialog = /** @type {HTMLDialogElement} */ (document.getElementById("pass"));
    this.confirm = /** @type {HTMLButtonElement} */ (this.one("confirm"));
  }

  wire() {
    this.place?.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("[data-pass-open]") : null;
      if (button instanceof HTMLButtonElement) void this.open(button);
    });
    this.dialog.querySelector("#pass-form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
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
    onBalance(({ available }) => {
      this.offer.balance = available;
      if (this.dialog.open) this.show();
    });
    for (const type of ["PASS_CHANGED", "SUBSCRIPTION_CHANGED"]) {
      events.on(type, (message) => {
        if (message.creatorId === this.whom.creatorId) void this.refresh();
      });
    }
    this.enable();
    const address = new URL(location.href);
    if (!address.searchParams.has("pass")) return;
    address.searchParams.delete("pass"); // back from the wallet
    history.replaceState(null, "", address);
    void this.open(null);
  }

  /** @param {HTMLButtonElement | null} button */
  async open(button) {
    try {
      await (button ? busy(button, "Looking…", () => this.look()) : this.look());
    } catch (error) {
      toast(/** @type {Error} */ (error).message, { kind: "bad" });
      return;
    }
    if (this.offer.current || this.offer.priceTokens === undefined) {
      toast(this.offer.current ? "You have a pass already." : `${this.whom.displayName} sells no passes at the moment.`, { kind: "warn" });
      await this.refresh();
      return;
    }
    this.say("");
    openDialog(this.dialog);
    if (!this.confirm.hidden) this.confirm.focus();
  }

  /** @private What is offered this instant; throws ApiError. */
  async look() {
    this.offer = await api.get(`/api/streaming/pass-offer/${encodeURIComponent(this.whom.creatorId)}`);
    this.show();
  }

  /** @private */
  show() {
    const { priceTokens: price = 0, balance, hours } = this.offer;
    const short = price > balance;
    this.put("price", formatTokens(price));
    this.put("unit", price === 1 ? "token" : "tokens");
    this.put("money", about(price));
    this.put("until", `about ${when(new Date(Date.now() + hours * 3_600_000))}`);
    this.put("balance", plural(balance, "token"));
    this.put("after", short ? "" : plural(balance - price, "token"));
    this.put("missing", short ? `${plural(price - balance, "token")}, ${about(price - balance)}` : "");
    this.one("after-row").hidden = short;
    this.one("missing-row").hidden = !short;
    if (!this.sending) this.put("confirm", `Buy for ${plural(price, "token")}`);
    const get = this.one("get-tokens");
    get.hidden = !short;
    this.confirm.hidden = short;
    const back = this.whom.back ?? `/models/${this.whom.handle}?pass=1`;
    get.setAttribute("href", `/wallet?need=${Math.max(0, price - balance)}&next=${encodeURIComponent(back)}`);
  }

  /** @private */
  async submit() {
    if (this.sending || this.confirm.hidden) return;
    this.sending = true;
    this.say("");
    const body = { creatorId: this.whom.creatorId, maxPrice: this.offer.priceTokens };
    try {
      await busy(this.confirm, "Buying…", () => api.post("/api/streaming/passes", body, { idempotencyKey: this.key.for(body) }));
      this.key.answered();
      closeDialog(this.dialog);
      toast("Your pass is valid for 24 hours. The picture becomes sharper in a moment.", { kind: "good" });
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
        this.say("The price has changed.", "Nothing was paid. Look again before you confirm.");
        break;
      case "STREAM_NOT_LIVE":
        this.say(`${this.whom.displayName}’s picture is not broadcast now.`, "Nothing was paid. A pass is sold only while there is something to watch.");
        break;
      case "OFFLINE":
        this.say("No answer came.", "Press again: the same pass is never paid twice.");
        break;
      default:
        this.say(error.detail, error.code === "UNAVAILABLE" ? "" : "Nothing was paid.");
    }
  }

  /** @private The card as the server has it now; keeps the focus in it. */
  async refresh() {
    if (!this.place) return;
    const response = await fetch(`/models/${this.whom.handle}?part=pass`, { credentials: "same-origin" });
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").body;
    const held = this.place.contains(document.activeElement);
    this.place.replaceChildren(...fresh.childNodes);
    this.enable();
    localTimes(this.place);
    if (held) this.place.querySelector("button")?.focus();
  }

  /** @private The server's buttons wait for their script. */
  enable() {
    for (const button of this.place?.querySelectorAll("button") ?? []) button.disabled = false;
  }

  /** @private @param {string} title @param {string} [text] */
  say(title, text = "") {
    warnIn(this.one("message"), title, text);
    if (title) announce(`${title} ${text}`, "alert");
  }

  /** @private @param {string} name @returns {HTMLElement} */
  one(name) {
    return /** @type {HTMLElement} */ (this.dialog.querySelector(`[data-pass="${name}"]`));
  }

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    this.one(name).textContent = text;
  }
}
