// @ts-check
/**
 * The dialog that adds minutes to a running call: the cost before the press, and what came of it.
 * Held is not yet added: only the media node's clock says that the minutes are in the call.
 */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, clock, closeDialog, formatTokens, money, openDialog, plural, toast, warnIn } from "../ui.js";
import { sayOnTheNextPage } from "./returns.js";

const MOST_AT_ONCE = 240;
/** The node has the minutes within this, or the broker is away: then they are on their way. */
const ADDED_WITHIN_MS = 5_000;
const LOOK_EVERY_MS = 100;

/** @typedef {import("../call_bill.js").Session} Session */

export class ExtendDialog {
  /** @param {HTMLDialogElement} dialog @param {Session} session kept true by the page @param {() => number} paidMs what the node says is paid */
  constructor(dialog, session, paidMs) {
    this.dialog = dialog;
    this.session = session;
    this.paidMs = paidMs;
    this.balance = 0;
    this.over = false;
    this.key = new OneKey();
    this.input = /** @type {HTMLInputElement} */ (dialog.querySelector("#extend-minutes"));
    this.add = /** @type {HTMLButtonElement} */ (this.one("add"));
    this.input.addEventListener("input", () => this.show());
    dialog.querySelector("#extend-form")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const step of dialog.querySelectorAll("[data-step]")) {
      step.addEventListener("click", () => this.set((this.minutes || 0) + Number(step.getAttribute("data-step"))));
    }
    this.one("quick").addEventListener("click", (event) => {
      const chip = event.target instanceof Element ? event.target.closest("[data-minutes]") : null;
      if (chip) this.set(Number(chip.getAttribute("data-minutes")));
    });
  }

  /** Whole minutes as typed, or NaN. */
  get minutes() {
    return this.input.value.trim() === "" || !Number.isInteger(Number(this.input.value)) ? NaN : Number(this.input.value);
  }

  /** How many may still be added. */
  get most() {
    return Math.min(MOST_AT_ONCE, this.session.mostMinutes - this.session.paidMinutes);
  }

  get valid() {
    return this.minutes >= 1 && this.minutes <= this.most;
  }

  get total() {
    return this.minutes * this.session.ratePerMinute;
  }

  get short() {
    return this.valid && this.total > this.balance;
  }

  open() {
    if (this.over) return;
    this.say("");
    this.show();
    openDialog(this.dialog);
    this.input.select();
  }

  /** The call is over: nothing can be added any more. */
  end() {
    this.over = true;
    closeDialog(this.dialog);
  }

  /** @param {number} available */
  setBalance(available) {
    this.balance = available;
    this.show();
  }

  /** @private @param {number} minutes */
  set(minutes) {
    this.input.value = String(Math.min(this.most, Math.max(1, minutes)));
    this.show();
  }

  show() {
    const { valid, short, total, minutes, session, most } = this;
    this.input.max = String(most);
    const until = valid ? `Paid until ${clock(session.paidMs)} now, ${clock(session.paidMs + minutes * session.minuteMs)} then.` : "";
    this.put("until", until);
    const demo = session.minuteMs === 60_000 ? "" : ` In this demo a minute lasts ${Math.round(session.minuteMs / 1000)} s.`;
    this.put("hint", `1 to ${most}. A call lasts ${session.mostMinutes} minutes at most.${demo}`);
    this.put("rate", `${formatTokens(session.ratePerMinute)} tokens per minute (${money(session.ratePerMinute)})`);
    this.put("total", valid ? formatTokens(total) : "–");
    this.put("unit", valid ? (total === 1 ? "token" : "tokens") : "");
    this.put("money", valid ? about(total) : "\u00a0");
    this.put("balance", plural(this.balance, "token"));
    this.put("after", valid && !short ? plural(this.balance - total, "token") : "–");
    this.put("missing", short ? `${plural(total - this.balance, "token")}, ${about(total - this.balance)}` : "");
    this.one("after-row").hidden = short;
    this.one("missing-row").hidden = !short;
    // The call goes on meanwhile and costs: the wallet opens beside it.
    this.one("get-tokens").hidden = !short;
    this.one("get-tokens").setAttribute("href", `/wallet?need=${short ? total - this.balance : 0}`);
    this.add.hidden = short;
    if (!this.add.hasAttribute("aria-busy")) this.put("add", valid ? `Add ${plural(minutes, "minute")} for ${plural(total, "token")}` : "Add");
    for (const chip of this.one("quick").children) {
      chip.setAttribute("aria-pressed", String(Number(chip.getAttribute("data-minutes")) === minutes));
      /** @type {HTMLButtonElement} */ (chip).disabled = Number(chip.getAttribute("data-minutes")) > most;
    }
    this.showError();
  }

  /** @private */
  showError() {
    const error = /** @type {HTMLElement} */ (this.dialog.querySelector("#extend-error"));
    error.hidden = this.valid;
    /** @type {HTMLElement} */ (error.querySelector("span")).textContent = this.most > 0 ? `Choose 1 to ${this.most} minutes.` : "This call is as long as a call can be.";
    if (this.valid) this.input.removeAttribute("aria-invalid");
    else this.input.setAttribute("aria-invalid", "true");
    this.input.setAttribute("aria-describedby", this.valid ? "extend-hint" : "extend-hint extend-error");
  }

  /** @private @param {string} title @param {string} [text] */
  say(title, text = "") {
    warnIn(this.one("message"), title, text);
  }

  /** @private */
  async submit() {
    if (this.add.hasAttribute("aria-busy") || this.add.hidden) return;
    if (!this.valid) {
      this.input.focus();
      announce(`Choose 1 to ${this.most} minutes.`, "alert");
      return;
    }
    this.say("");
    const body = { sessionId: this.session.sessionId, minutes: this.minutes };
    // The paid time is part of it: the same press once more after it was added is another wish.
    const key = this.key.for([body, this.session.paidMinutes]);
    try {
      await busy(this.add, "Adding…", () => this.extend(body, key));
    } catch (error) {
      this.refused(error);
    }
    this.show();
  }

  /** @private @param {{sessionId: string, minutes: number}} body @param {string} key */
  async extend(body, key) {
    const answer = await api.post("/api/streaming/private-extend", body, { idempotencyKey: key });
    this.key.answered();
    this.balance = answer.balance;
    const wanted = answer.paidMinutes * this.session.minuteMs;
    const until = performance.now() + ADDED_WITHIN_MS;
    while (this.paidMs() < wanted && performance.now() < until && !this.over) await new Promise((done) => setTimeout(done, LOOK_EVERY_MS));
    if (this.over) return; // what came back is said by returns.js
    closeDialog(this.dialog);
    if (this.paidMs() >= wanted) toast(`${plural(body.minutes, "minute")} added. The call is paid until ${clock(wanted)}.`, { kind: "good", iconName: "extend" });
    else toast(`${plural(body.minutes, "minute")} are held and on their way. If the call ends first, their tokens come back.`, { kind: "warn" });
  }

  /** @private @param {unknown} error */
  refused(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "OFFLINE") this.key.answered();
    const name = this.session.counterpart.displayName;
    switch (error.code) {
      case "INSUFFICIENT_TOKENS":
        this.setBalance(error.fields.balance ?? 0);
        this.say("You have fewer tokens than that.", "Nothing was held.");
        break;
      case "SESSION_NOT_LIVE":
        this.end();
        toast("The call ended before the minutes could be added. Nothing was held.", { kind: "warn" });
        sayOnTheNextPage("The call ended before the minutes could be added. Nothing was held.");
        break;
      case "CREATOR_UNAVAILABLE":
        this.say(`${name} has a booking soon after this call.`, "Nothing was held. Fewer minutes may fit before it.");
        break;
      case "FAN_BOOKED":
        this.say("You have booked another call soon after this one.", "Nothing was held. Fewer minutes may fit before it.");
        break;
      case "OFFLINE":
        this.say("No answer came.", "Press again: the same minutes are never added twice.");
        break;
      default:
        this.say(error.detail, "Nothing was held.");
    }
  }

  /** @private @param {string} name @returns {HTMLElement} */
  one(name) {
    return /** @type {HTMLElement} */ (this.dialog.querySelector(`[data-extend="${name}"]`));
  }

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    const place = this.one(name);
    if (place.textContent !== text) place.textContent = text;
  }
}
