// @ts-check
/**
 * The dialog that gives a tip: the sum, what it leaves, who sees it, and why the server refused.
 * Knows nothing of pictures; the same on a creator's page and in the call.
 */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, closeDialog, formatTokens, money, openDialog, plural, toast, warnIn } from "../ui.js";

const [LOWEST, HIGHEST, LONGEST_TEXT] = [5, 100_000, 200];

/**
 * @typedef {object} Whom
 * @property {string} creatorId
 * @property {string} displayName
 * @property {string} [sessionId] of a private stream of the two
 * @property {string} back where the wallet leads back to
 * @property {string} [path] where such a tip is given; else to the creator
 * @property {string} [terms] what becomes of it, where that is not the usual
 */

export class TipDialog {
  /** The creator is not there to be tipped any more. @type {() => void} */
  onGone = () => {};

  /** @param {HTMLDialogElement} dialog @param {Whom} whom */
  constructor(dialog, whom) {
    this.dialog = dialog;
    this.whom = whom;
    this.balance = 0;
    this.sending = false;
    this.key = new OneKey();
    this.input = /** @type {HTMLInputElement} */ (dialog.querySelector("#tip-amount"));
    this.text = /** @type {HTMLInputElement} */ (dialog.querySelector("#tip-text"));
    this.give = /** @type {HTMLButtonElement} */ (this.one("give"));
    this.wire();
    this.setWhom(whom);
  }

  /** Another is to get it. @param {Whom} whom */
  setWhom(whom) {
    this.whom = whom;
    this.put("name", whom.displayName);
    const alone = Boolean(whom.sessionId);
    if (whom.terms) this.put("terms", whom.terms);
    this.put("who-sees", alone ? "Only the two of you see it." : "Everybody watching sees your handle and the sum.");
    this.put("text-hint", alone ? `${whom.displayName} sees it.` : "Everybody watching sees it.");
  }

  /** @private */
  wire() {
    for (const field of [this.input, this.text]) field.addEventListener("input", () => this.show());
    this.dialog.querySelector("#tip-form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.one("quick").addEventListener("click", (event) => {
      const chip = event.target instanceof Element ? event.target.closest("[data-amount]") : null;
      if (!chip) return;
      this.input.value = chip.getAttribute("data-amount") ?? "";
      this.show();
    });
  }

  /** Whole tokens as typed, or NaN. */
  get amount() {
    return this.input.value.trim() === "" || !Number.isInteger(Number(this.input.value)) ? NaN : Number(this.input.value);
  }

  get valid() {
    return this.amount >= LOWEST && this.amount <= HIGHEST;
  }

  get short() {
    return this.valid && this.amount > this.balance;
  }

  /** From here on a press opens the dialog. @param {Element | null} button disabled by the server until its script is there */
  openBy(button) {
    if (!(button instanceof HTMLButtonElement)) return;
    button.addEventListener("click", () => this.open());
    button.disabled = false;
  }

  open() {
    this.say("");
    this.show();
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

  /** @private */
  show() {
    const { valid, short, amount } = this;
    this.put("amount", valid ? formatTokens(amount) : "–");
    this.put("unit", valid ? "tokens" : "");
    this.put("money", valid ? about(amount) : "\u00a0");
    if (!this.sending) this.put("give", valid ? `Give ${plural(amount, "token")}` : "Give");
    this.put("balance", plural(this.balance, "token"));
    this.put("after", valid && !short ? plural(this.balance - amount, "token") : "–");
    this.put("missing", short ? `${plural(amount - this.balance, "token")}, ${about(amount - this.balance)}` : "");
    this.put("left-to-write", this.text.value ? `${LONGEST_TEXT - this.text.value.length} left.` : "Up to 200 characters.");
    this.one("after-row").hidden = short;
    this.one("missing-row").hidden = !short;
    const get = this.one("get-tokens");
    get.hidden = !short;
    const need = short ? amount - this.balance : 0;
    // Who leaves the call for the wallet is absent from a call that costs: there it is another tab.
    if (this.whom.sessionId) get.setAttribute("target", "_blank");
    get.setAttribute("href", this.whom.sessionId ? `/wallet?need=${need}` : `/wallet?need=${need}&next=${encodeURIComponent(this.whom.back)}`);
    this.give.hidden = short;
    for (const chip of this.one("quick").children) chip.setAttribute("aria-pressed", String(Number(chip.getAttribute("data-amount")) === amount));
    this.showError();
  }

  /** @private */
  showError() {
    const error = /** @type {HTMLElement} */ (this.dialog.querySelector("#tip-amount-error"));
    error.hidden = this.valid;
    if (this.valid) this.input.removeAttribute("aria-invalid");
    else this.input.setAttribute("aria-invalid", "true");
    this.input.setAttribute("aria-describedby", this.valid ? "tip-amount-hint" : "tip-amount-error");
  }

  /** @private @param {string} title @param {string} [text] */
  say(title, text = "") {
    warnIn(this.one("message-place"), title, text);
  }

  /** @private */
  async submit() {
    if (this.sending || this.give.hidden) return;
    if (!this.valid) {
      this.input.focus();
      announce("Choose 5 to 100,000 tokens.", "alert");
      return;
    }
    this.sending = true;
    this.say("");
    const { creatorId, sessionId, displayName } = this.whom;
    const body = { creatorId, amount: this.amount, message: this.text.value, sessionId };
    try {
      const answer = await busy(this.give, "Giving…", () => api.post(this.whom.path ?? "/api/streaming/tips", body, { idempotencyKey: this.key.for(body) }));
      this.key.answered();
      this.text.value = "";
      this.setBalance(answer.balance);
      this.close();
      toast(`You tipped ${displayName} ${plural(answer.amount, "token")}.`, { kind: "good", iconName: "token" });
    } catch (error) {
      this.refused(error);
    } finally {
      this.sending = false;
    }
  }

  /** @private @param {unknown} error */
  refused(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "OFFLINE") this.key.answered();
    const name = this.whom.displayName;
    switch (error.code) {
      case "INSUFFICIENT_TOKENS":
        this.setBalance(error.fields.balance ?? 0);
        break;
      case "BATTLE_CLOSED":
        this.say("This battle takes no tips any more.", "Nothing was paid.");
        this.onGone();
        break;
      case "SIDE_GONE":
        this.say(`${name} has left the battle.`, "Nothing was paid.");
        this.onGone();
        break;
      case "STREAM_NOT_LIVE":
      case "SESSION_NOT_LIVE":
        if (error.fields.connecting) {
          this.say("The call has not begun yet.", "Nothing was paid. Tip once you see each other.");
          break;
        }
        this.say(`${name} is not there any more.`, "Nothing was paid.");
        this.onGone();
        break;
      case "SPENDING_CAP":
        this.say(`That is over your own limit of ${plural(error.fields.cap, "token")} a day.`, `You have spent ${formatTokens(error.fields.spent)} today (${money(error.fields.spent)}). Nothing was paid.`);
        break;
      case "RATE_LIMITED":
        this.say("That were many tips in a minute.", "Nothing was paid. Try again in a moment.");
        break;
      case "BLOCKED":
        this.say(`You cannot tip ${name}.`, "Nothing was paid.");
        break;
      case "OFFLINE":
        this.say("No answer came.", "Press again: the same tip is never given twice.");
        break;
      default:
        this.say(error.detail, "Nothing was paid.");
    }
  }

  /** @private @param {string} name @returns {HTMLElement} */
  one(name) {
    return /** @type {HTMLElement} */ (this.dialog.querySelector(`[data-tip="${name}"]`));
  }

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    const place = this.one(name);
    if (place.textContent !== text) place.textContent = text;
  }
}
