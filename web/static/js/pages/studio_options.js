/**
 * The studio's Settings tab: ways to pay, the queue, subscribers. Reads and checks its fields; the form saves them.
 */
import { about, money, plural } from "../ui.js";

const MOST_TOKENS = 1_000_000;

/**
 * @typedef {object} Options as GET/PUT /api/streaming/creator-options
 * @property {boolean} queue
 * @property {string} requestPriority
 * @property {boolean} perMinute
 * @property {number|null} instantUnlockPrice null: not offered
 * @property {number|null} subscriptionPrice
 * @property {number} subscriptionMinutes
 * @property {number} subscriberDiscountPercent
 * @property {number|null} passPrice
 */

export class OptionsFields {
  #form;

  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.#form = form;
  }

  /** @returns {Options} as the fields say, right or wrong */
  read() {
    return {
      queue: this.#one("queue").checked,
      requestPriority: this.#one("priority").value,
      perMinute: this.#one("per-minute").checked,
      instantUnlockPrice: offered(this.#one("unlock-price").value),
      subscriptionPrice: offered(this.#one("subscription-price").value),
      subscriptionMinutes: whole(this.#one("subscription-minutes").value),
      subscriberDiscountPercent: whole(this.#one("discount").value),
      passPrice: offered(this.#one("pass-price").value),
    };
  }

  /** Marks what does not fit and says what the figures come to. @param {number} rate @returns {boolean} whether all fit */
  look(rate) {
    const options = this.read();
    const price = (value) => value === null || (value >= 1 && value <= MOST_TOKENS);
    const fits = [
      this.#mark("unlock-price", price(options.instantUnlockPrice)),
      this.#mark("subscription-price", price(options.subscriptionPrice)),
      this.#mark("pass-price", price(options.passPrice)),
      this.#mark("subscription-minutes", options.subscriptionMinutes >= 0 && options.subscriptionMinutes <= 600),
      this.#mark("discount", options.subscriberDiscountPercent >= 0 && options.subscriberDiscountPercent <= 90),
    ];
    this.#one("priority").disabled = !options.queue;
    this.#say("unlock-price", priced(options.instantUnlockPrice, "not offered."));
    this.#say("subscription-price", priced(options.subscriptionPrice, "no subscriptions."));
    this.#say("pass-price", priced(options.passPrice, "no passes."));
    const worth = options.subscriptionMinutes * rate;
    this.#say("subscription-minutes", worth > 0 ? `Used before tokens: worth ${plural(worth, "token")} at your rate.` : "None.");
    const cut = Math.max(1, Math.ceil((rate * (100 - options.subscriberDiscountPercent)) / 100));
    this.#say("discount", Number.isNaN(cut) ? "" : `A subscriber pays ${plural(cut, "token")} (${money(cut)}) per minute.`);
    return fits.every(Boolean);
  }

  #one(id) {
    return this.#form.querySelector(`#${id}`);
  }

  #mark(id, fits) {
    if (fits) this.#one(id).removeAttribute("aria-invalid");
    else this.#one(id).setAttribute("aria-invalid", "true");
    this.#one(`${id}-error`).hidden = fits;
    return fits;
  }

  #say(name, text) {
    for (const place of this.#form.querySelectorAll(`[data-sum="${name}"]`)) place.textContent = text;
  }
}

const priced = (value, none) => (value === null ? `Empty: ${none}` : Number.isNaN(value) ? "" : `${plural(value, "token")} ${value === 1 ? "is" : "are"} ${about(value)} for the fan.`);

/** A whole number, or NaN for anything else. */
const whole = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : NaN);

/** The same; empty is null: not offered. */
const offered = (text) => (text.trim() === "" ? null : whole(text));
