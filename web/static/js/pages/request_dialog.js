// @ts-check
/**
 * The dialog that asks for a private stream: the whole price and the end table before anything is held.
 * It says what is missing when tokens are short, and why the server refused. Knows nothing of pictures.
 */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, closeDialog, formatTokens, make, money, openDialog, plural, warnIn } from "../ui.js";

const MOST_MINUTES = 240;

/** @typedef {{requestId: string, status: string, minutes: number, totalCost: number, expiresAt: string, sessionId?: string}} RequestAnswer */
/** @typedef {{creatorId: string, handle: string, displayName: string, streamId: string | null, ratePerMinute: number, minMinutes: number}} Offer */

export class RequestDialog {
  /** @type {(answer: RequestAnswer) => void} */
  onRequested = () => {};
  /** The stream is not to be asked now (private, ended, disabled). @type {() => void} */
  onGone = () => {};

  /** @param {HTMLDialogElement} dialog @param {Offer} offer changed in place when the creator changes it */
  constructor(dialog, offer) {
    this.dialog = dialog;
    this.offer = offer;
    this.rate = offer.ratePerMinute;
    this.discount = 0;
    this.balance = 0;
    /** Minutes of a subscription that are left, the price of starting at once (null: not offered). */
    this.includedLeft = 0;
    /** @type {number | null} */
    this.unlockPrice = null;
    this.takesMinutes = false;
    this.termsShown = "";
    this.sending = false;
    /** A key for each total that was tried, so that pressing again after a lost answer asks the same thing. */
    this.key = new OneKey();
    this.input = /** @type {HTMLInputElement} */ (dialog.querySelector("#minutes"));
    this.confirm = /** @type {HTMLButtonElement} */ (dialog.querySelector("#confirm"));
    this.message = /** @type {HTMLElement} */ (dialog.querySelector("#ask-message"));
    this.wire();
  }

  /** @private */
  wire() {
    this.input.addEventListener("input", () => this.show());
    for (const choice of this.dialog.querySelectorAll('[name="way"], #unlock')) choice.addEventListener("change", () => this.show());
    this.dialog.querySelector("#ask-form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const step of this.dialog.querySelectorAll("[data-step]")) {
      step.addEventListener("click", () => this.set((this.minutes || this.offer.minMinutes) + Number(step.getAttribute("data-step"))));
    }
    this.dialog.querySelector("#quick")?.addEventListener("click", (event) => {
      const chip = event.target instanceof Element ? event.target.closest("[data-minutes]") : null;
      if (chip) this.set(Number(chip.getAttribute("data-minutes")));
    });
  }

  /** Whole minutes as typed, or NaN. */
  get minutes() {
    return this.input.value.trim() === "" || !Number.isInteger(Number(this.input.value)) ? NaN : Number(this.input.value);
  }

  get byMinute() {
    return this.takesMinutes && /** @type {HTMLInputElement} */ (this.dialog.querySelector("#way-minute")).checked;
  }

  get unlocks() {
    return this.unlockPrice !== null && /** @type {HTMLInputElement} */ (this.dialog.querySelector("#unlock")).checked;
  }

  /** What is paid for at once: by the minute the minimum alone. */
  get paidMinutes() {
    return this.byMinute ? this.offer.minMinutes : Math.max(this.minutes, this.offer.minMinutes);
  }

  /** Of those, what a subscription pays. */
  get included() {
    return Math.min(this.includedLeft, this.paidMinutes);
  }

  get total() {
    return this.rate * (this.paidMinutes - this.included) + (this.unlocks ? this.unlockPrice ?? 0 : 0);
  }

  get short() {
    return this.valid && this.total > this.balance;
  }

  get valid() {
    return this.byMinute || (this.minutes >= this.offer.minMinutes && this.minutes <= MOST_MINUTES);
  }

  /** @param {number} minutes */
  set(minutes) {
    this.input.value = String(Math.min(MOST_MINUTES, Math.max(this.offer.minMinutes, minutes)));
    this.show();
  }

  /** Open with figures as the server has them this instant. @param {number} [minutes] */
  async open(minutes) {
    this.say("");
    await this.refresh();
    this.set(minutes ?? Math.max(this.offer.minMinutes, this.minutes || 0));
    openDialog(this.dialog);
    this.input.select();
  }

  close() {
    closeDialog(this.dialog);
  }

  /** @param {number} available */
  setBalance(available) {
    this.balance = available;
    this.show();
  }

  /** @private Settings and quote; throws ApiError. */
  async refresh() {
    const settings = await api.get(`/api/streaming/private-settings/${encodeURIComponent(this.offer.creatorId)}`);
    const changed = settings.ratePerMinute !== this.offer.ratePerMinute || settings.minMinutes !== this.offer.minMinutes;
    this.offer.ratePerMinute = settings.ratePerMinute;
    this.offer.minMinutes = settings.minMinutes;
    this.rate = settings.quote?.ratePerMinute ?? settings.ratePerMinute;
    this.discount = settings.quote?.discountPercent ?? 0;
    if (settings.quote) this.balance = settings.quote.balance;
    this.includedLeft = settings.quote?.includedLeft ?? 0;
    this.unlockPrice = settings.quote?.unlockPrice ?? null;
    this.takesMinutes = settings.quote?.perMinute ?? false;
    if (changed) this.termsShown = "";
    if (!settings.enabled) throw new ApiError("PRIVATE_DISABLED", "");
    this.show();
  }

  /** @private The end table in the words of this very wish; fetched where they would be others. */
  async showTerms() {
    const wish = new URLSearchParams({ part: "terms", minutes: String(this.valid ? this.paidMinutes : this.offer.minMinutes) });
    if (this.byMinute) wish.set("way", "per_minute");
    if (this.unlocks) wish.set("unlock", "1");
    const words = `${this.byMinute} ${this.unlocks} ${this.included} ${this.rate} ${this.offer.minMinutes}`;
    if (words === this.termsShown) return;
    this.termsShown = words;
    const response = await fetch(`/models/${this.offer.handle}?${wish}`, { credentials: "same-origin" });
    if (!response.ok || words !== this.termsShown) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector(".ends");
    if (fresh && words === this.termsShown) this.dialog.querySelector("#terms")?.replaceChildren(fresh);
  }

  /** @private */
  show() {
    const { minMinutes } = this.offer;
    const minutes = Number.isNaN(this.minutes) ? 0 : this.minutes;
    this.input.min = String(minMinutes);
    this.put("rate", plural(this.rate, "token"));
    this.put("rate-money", money(this.rate));
    this.put("minimum", String(minMinutes));
    this.put("minimum-cost", `${plural(minMinutes, "minute")}, ${plural(minMinutes * this.rate, "token")} (${money(minMinutes * this.rate)})`);
    this.put("discount", String(this.discount));
    this.hide("#discount-row", !this.discount);
    this.showWays();
    this.put("minutes", plural(this.byMinute ? minMinutes : minutes, "minute"));
    this.put("total", this.valid ? formatTokens(this.total) : "");
    this.put("unit", this.valid ? (this.total === 1 ? "token" : "tokens") : "–");
    this.put("money", this.valid && this.total ? about(this.total) : "\u00a0");
    this.put("balance", plural(this.balance, "token"));
    this.put("left", this.valid ? plural(this.balance - this.total, "token") : "–");
    this.put("missing", this.short ? `${plural(this.total - this.balance, "token")}, ${about(this.total - this.balance)}` : "");
    this.showQuick(minMinutes, minutes);
    this.showError();
    this.showShort();
    this.showTerms().catch((error) => console.warn("terms not read", error));
  }

  /** @private Ahead or by the minute, included minutes, starting at once. */
  showWays() {
    const [byMinute, unlocks, rate] = [this.byMinute, this.unlocks, this.rate];
    this.hide("#ways", !this.takesMinutes);
    this.hide("#minutes-row", byMinute);
    this.hide("#unlock-row", this.unlockPrice === null);
    this.put("unlock-cost", this.unlockPrice === null ? "" : `${plural(this.unlockPrice, "token")}, ${about(this.unlockPrice)}`);
    this.hide("#unlock-cost-row", !unlocks);
    this.hide("#included-row", !this.included);
    const rest = this.includedLeft - this.included;
    this.put("included", this.included ? `${plural(this.included, "minute")}${rest ? `, ${formatTokens(rest)} more left` : ""}` : "");
    this.hide("#next-row", !byMinute);
    this.put("next", `${plural(rate, "token")}, ${about(rate)}`);
    this.put("total-label", byMinute ? "Held first, for" : "Total for");
    this.put("holds", byMinute
      ? "Confirming holds this first part. Each next minute is held shortly before it begins; one that never begins comes back. All is paid only as the table says."
      : "Confirming holds the total. It is paid only as the table says.");
  }

  /** @private @param {number} least @param {number} minutes */
  showQuick(least, minutes) {
    const choices = [...new Set([least, Math.max(10, least), Math.max(20, least * 2)])].filter((choice) => choice <= MOST_MINUTES);
    const quick = this.dialog.querySelector("#quick");
    const known = [...(quick?.children ?? [])].map((chip) => Number(chip.getAttribute("data-minutes")));
    if (String(known) !== String(choices)) {
      quick?.replaceChildren(...choices.map((choice) => make("button", { class: "chip", type: "button", "data-minutes": choice }, String(choice))));
    }
    for (const chip of quick?.children ?? []) chip.setAttribute("aria-pressed", String(Number(chip.getAttribute("data-minutes")) === minutes));
    const [less, more] = this.dialog.querySelectorAll("[data-step]");
    /** @type {HTMLButtonElement} */ (less).disabled = minutes <= least;
    /** @type {HTMLButtonElement} */ (more).disabled = minutes >= MOST_MINUTES;
  }

  /** @private */
  showError() {
    const error = /** @type {HTMLElement} */ (this.dialog.querySelector("#min-error"));
    const words = /** @type {HTMLElement} */ (error.querySelector("span"));
    if (this.valid) this.input.removeAttribute("aria-invalid");
    else this.input.setAttribute("aria-invalid", "true");
    this.input.setAttribute("aria-describedby", this.valid ? "min-hint" : "min-hint min-error");
    words.textContent = this.valid ? "" : `Choose ${this.offer.minMinutes} to ${MOST_MINUTES} minutes.`;
    error.hidden = this.valid;
  }

  /** @private Short of tokens: the same dialog says how many, and leads to them and back. */
  showShort() {
    const short = this.short;
    this.hide("#left-row", short);
    this.hide("#missing-row", !short);
    this.hide("#hold-hint", short);
    this.hide("#short-hint", !short);
    this.hide("#get-tokens", !short);
    this.confirm.hidden = short;
    if (short) {
      const missing = this.total - this.balance;
      const which = this.paidMinutes === this.offer.minMinutes ? ", the minimum here," : "";
      const cost = `${plural(this.paidMinutes, "minute")}${which} cost ${plural(this.total, "token")} (${money(this.total)}). Nothing was held.`;
      this.say(`You are ${plural(missing, "token")} short.`, cost, "short");
      const back = `/models/${this.offer.handle}?private=${this.paidMinutes}`;
      this.dialog.querySelector("#get-tokens")?.setAttribute("href", `/wallet?need=${missing}&next=${encodeURIComponent(back)}`);
    } else if (this.message.dataset.about === "short") this.say("");
  }

  /** @private A banner at the head of the dialog. @param {string} title @param {string} [text] @param {string} [subject] */
  say(title, text = "", subject = "refusal") {
    if (title + text === this.message.dataset.said) return;
    this.message.dataset.said = title + text;
    this.message.dataset.about = subject;
    warnIn(this.message, title, text);
  }

  /** @private */
  async submit() {
    if (this.sending || this.confirm.hidden) return;
    if (!this.valid) {
      this.input.focus();
      announce(`Choose ${this.offer.minMinutes} to ${MOST_MINUTES} minutes.`, "alert");
      return;
    }
    this.sending = true;
    this.say("");
    const body = {
      creatorId: this.offer.creatorId,
      streamId: this.offer.streamId,
      minutes: this.paidMinutes,
      maxTotalCost: this.total,
      paymentMode: this.byMinute ? "per_minute" : "prepaid",
      instantUnlock: this.unlocks,
    };
    try {
      const answer = await busy(this.confirm, "Confirming…", () => api.post("/api/streaming/private-request", body, { idempotencyKey: this.key.for(body) }));
      this.key.answered();
      this.close();
      this.onRequested(answer);
    } catch (error) {
      await this.refused(error);
    } finally {
      this.sending = false;
    }
  }

  /** @private What the server said, in words that say what happened and what to do. @param {unknown} error */
  async refused(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "OFFLINE") this.key.answered();
    const name = this.offer.displayName;
    switch (error.code) {
      case "INSUFFICIENT_TOKENS":
        this.setBalance(error.fields.balance ?? 0);
        break;
      case "PRICE_CHANGED":
        await this.refresh().catch(() => this.onGone());
        this.say(`The price is now ${plural(this.rate, "token")} per minute (${money(this.rate)}).`, "Nothing was held. Look again before you confirm.");
        break;
      case "CREATOR_BUSY":
        this.say(`${name} is in a private stream.`, "Nothing was held. We can tell you when it’s over.");
        this.onGone();
        break;
      case "NOT_OFFERED":
        await this.refresh().catch(() => this.onGone());
        this.say(`${name} does not offer this way to pay any more.`, "Nothing was held. Look again before you confirm.");
        break;
      case "CREATOR_UNAVAILABLE":
        this.say(`${name} has a booking too soon for this.`, "Nothing was held. Fewer minutes may fit before it.");
        break;
      case "FAN_BOOKED":
        this.say("You have booked a call too soon for this.", "Nothing was held. Fewer minutes may fit before it.");
        break;
      case "REQUEST_PENDING":
        this.say(`You already have a request open with ${name}.`);
        this.onGone();
        break;
      case "STREAM_NOT_LIVE":
        this.say(`${name} is not live any more.`, "Nothing was held.");
        this.onGone();
        break;
      case "PRIVATE_DISABLED":
        this.say(`${name} takes no private requests at the moment.`, "Nothing was held.");
        break;
      case "BLOCKED":
        this.say(`You cannot ask ${name} for a private stream.`, "Nothing was held.");
        break;
      case "OFFLINE":
        this.say("No answer came.", "Press again: the same request is never made twice.");
        break;
      default:
        this.say(error.detail, "Nothing was held.");
    }
  }

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    for (const place of this.dialog.querySelectorAll(`[data-out="${name}"]`)) {
      if (place.textContent !== text) place.textContent = text;
    }
  }

  /** @private @param {string} selector @param {boolean} hidden */
  hide(selector, hidden) {
    const element = /** @type {HTMLElement | null} */ (this.dialog.querySelector(selector));
    if (element) element.hidden = hidden;
  }
}
