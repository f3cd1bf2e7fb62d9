// @ts-check
/**
 * Buying something of a creator's in a dialog: what it costs this instant, what it leaves, and why the server refused.
 * The card that opens it comes from the server, before and after. What is sold is the matter of `Pass` and
 * `Subscription`; knows nothing of pictures.
 */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, closeDialog, openDialog, plural, toast, warnIn } from "../ui.js";
import { events, localTimes, onBalance, refreshBalance } from "./common.js";

/** @typedef {{creatorId: string, handle: string, displayName: string}} Whom */
/** @typedef {{path: string, body: object, words: string}} Wish what a press asks for, and what the button says meanwhile */

/** @template {{balance: number}} Offer */
export class OfferDialog {
  /**
   * @param {string} name of its parts in the dialog: `data-<name>`
   * @param {HTMLDialogElement} dialog
   * @param {Whom} whom
   * @param {HTMLElement | null} place of the card
   * @param {string} card where the server has it
   * @param {Offer} offer before anything was asked
   */
  constructor(name, dialog, whom, place, card, offer) {
    this.name = name;
    this.dialog = dialog;
    this.whom = whom;
    this.place = place;
    this.card = card;
    this.offer = offer;
    this.sending = false;
    this.key = new OneKey();
    /** The card's last text from the server. */
    this.shown = "";
    this.confirm = /** @type {HTMLButtonElement} */ (this.one("confirm"));
  }

  // --- what is sold says ---------------------------------------------------------------------------

  /** Where the offer is read. @returns {string} */
  get source() {
    throw new Error("of what is sold");
  }

  /** Why nothing can be bought, with what was just read; "" when it can. @returns {string} */
  get refusal() {
    return "";
  }

  /** The offer in the dialog. */
  show() {}

  /** @returns {Wish} */
  get wish() {
    throw new Error("of what is sold");
  }

  /** What is said when it is bought. @returns {string} */
  get done() {
    return "";
  }

  /** It is bought. */
  bought() {}

  /** The server's refusal in words of its own, if there are any. @param {ApiError} _error @returns {string[]} title and text */
  wordsFor(_error) {
    return [];
  }

  // --- what all have in common ---------------------------------------------------------------------

  /** @protected @param {string[]} changes messages of the feed after which the card is another */
  follow(changes) {
    this.dialog.querySelector("form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
    });
    onBalance(({ available }) => {
      this.offer.balance = available;
      if (this.dialog.open) this.show();
    });
    for (const type of changes) events.on(type, () => void this.refresh());
    this.enable();
  }

  /** @protected What the address wished (back from the wallet), once. @param {string} wish @returns {string | null} */
  wished(wish) {
    const address = new URL(location.href);
    const value = address.searchParams.get(wish);
    if (value === null) return null;
    address.searchParams.delete(wish);
    history.replaceState(null, "", address);
    return value;
  }

  /** @param {HTMLButtonElement | null} button */
  async open(button) {
    try {
      if (!(await (button ? busy(button, "Looking…", () => this.look()) : this.look()))) return;
    } catch (error) {
      toast(/** @type {Error} */ (error).message, { kind: "bad" });
      return;
    }
    if (this.refusal) {
      toast(this.refusal, { kind: "warn" });
      await this.refresh();
      return;
    }
    this.say("");
    openDialog(this.dialog);
    if (!this.confirm.hidden) this.confirm.focus();
  }

  /** @protected What is offered this instant; throws ApiError. @returns {Promise<boolean>} false: by now another's is asked for */
  async look() {
    const { source } = this;
    const offer = await api.get(source);
    if (source !== this.source) return false;
    this.offer = offer;
    this.show();
    return true;
  }

  /** @protected What the wallet has, keeps and lacks. @param {number} price tokens, 0 when the wallet does not pay @param {string} back where the wallet leads back to */
  showBalance(price, back) {
    const { balance } = this.offer;
    const missing = Math.max(0, price - balance);
    this.put("balance", plural(balance, "token"));
    this.put("after", missing ? "" : plural(balance - price, "token"));
    this.put("missing", missing ? `${plural(missing, "token")}, ${about(missing)}` : "");
    this.one("after-row").hidden = missing > 0;
    this.one("missing-row").hidden = missing === 0;
    const get = this.one("get-tokens");
    get.hidden = missing === 0;
    get.setAttribute("href", `/wallet?need=${missing}&next=${encodeURIComponent(back)}`);
    this.confirm.hidden = missing > 0;
  }

  /** @private */
  async submit() {
    if (this.sending || this.confirm.hidden) return;
    this.sending = true;
    this.say("");
    const { path, body, words } = this.wish;
    try {
      await busy(this.confirm, words, () => api.post(path, body, { idempotencyKey: this.key.for(body) }));
      this.key.answered();
      closeDialog(this.dialog);
      toast(this.done, { kind: "good" });
      this.bought();
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
    this.sending = false; // what the button says is the offer's again
    if (!(error instanceof ApiError)) throw error;
    if (!["OFFLINE", "UNAVAILABLE"].includes(error.code)) this.key.answered();
    if (error.code === "INSUFFICIENT_TOKENS") {
      this.offer.balance = error.fields.balance ?? 0;
      this.show();
      return;
    }
    if (error.code === "PRICE_CHANGED") await this.look().catch((failure) => console.warn("offer not read", failure));
    const [title, text = ""] = this.wordsFor(error);
    if (title) this.say(title, text);
    else this.say(error.detail, error.code === "UNAVAILABLE" ? "" : "Nothing was paid.");
  }

  /** The card as the server has it now; keeps the focus in it. */
  async refresh() {
    if (!this.place) return;
    const response = await fetch(this.card, { credentials: "same-origin" });
    if (!response.ok) return;
    const text = await response.text();
    if (text === this.shown) return; // the press and the feed both ask
    this.shown = text;
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    const held = this.place.contains(document.activeElement);
    this.place.replaceChildren(...fresh.childNodes);
    this.enable();
    localTimes(this.place);
    const next = held ? (this.place.querySelector("button") ?? this.place.querySelector("h2")) : null;
    if (next?.tagName === "H2") next.tabIndex = -1; // what was bought leaves nothing to press
    next?.focus();
  }

  /** @private The server's buttons wait for their script. */
  enable() {
    for (const button of this.place?.querySelectorAll("button") ?? []) button.disabled = false;
  }

  /** @protected @param {string} title @param {string} [text] */
  say(title, text = "") {
    warnIn(this.one("message"), title, text);
    if (title) announce(`${title} ${text}`, "alert");
  }

  /** @protected @param {string} name @returns {HTMLElement} */
  one(name) {
    return /** @type {HTMLElement} */ (this.dialog.querySelector(`[data-${this.name}="${name}"]`));
  }

  /** @protected @param {string} name @param {string} text */
  put(name, text) {
    this.one(name).textContent = text;
  }
}
