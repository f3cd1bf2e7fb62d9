// @ts-check
/**
 * While the fan waits: for the answer, in the queue, or to confirm again when it is their turn; and what came of it.
 * Knows nothing of prices; the call page takes over once the request is accepted.
 */
import { api } from "../api.js";
import { announce, busy, clock, formatTokens, about, plural, setValue, toast } from "../ui.js";
import { claimCall } from "./common.js";

const TICK_MS = 250;
const ASK_AGAIN_MS = 1_500;
/** Without the live feed too the answer is known in time: who comes too late to a call pays the minimum. */
const LOOK_EVERY_MS = 4_000;

const WAIT_MINUTES = 30;

/** @typedef {"pending" | "queued" | "turn"} Mode */
/** @typedef {{requestId: string, minutes: number, totalCost: number, remainingMs: number, includedMinutes?: number, status?: string, position?: number | null, turn?: boolean}} OpenRequest */

/** What is held, tokens and minutes of a subscription, and what becomes of it. @param {OpenRequest} request @param {string} one @param {string} many */
function heldWords({ totalCost, includedMinutes = 0 }, one, many) {
  const parts = [totalCost && plural(totalCost, "token"), includedMinutes && plural(includedMinutes, "included minute")].filter(Boolean);
  if (!parts.length) return "";
  return `${parts.join(" and ")} ${parts.length === 1 && (totalCost || includedMinutes) === 1 ? one : many}.`;
}

export class Waiting {
  /** It is over without a call here. @type {(words: string, kind: "good" | "info", callHref?: string) => void} */
  onOver = () => {};

  /** @param {HTMLElement} section @param {string} name the creator's @param {number} answerMs how long an answer may take @param {number} turnMs and a confirmation */
  constructor(section, name, answerMs, turnMs) {
    this.section = section;
    this.name = name;
    this.answerMs = answerMs;
    this.turnMs = turnMs;
    /** @type {Mode | ""} */
    this.mode = "";
    this.place = 0;
    this.title = document.title;
    /** @type {OpenRequest | null} */
    this.request = null;
    this.deadline = 0;
    this.timer = 0;
    this.asking = false;
    this.lookedAt = 0;
    this.cancelButton = /** @type {HTMLButtonElement} */ (section.querySelector("#cancel"));
    this.cancelButton.addEventListener("click", () => this.cancel());
    this.reconfirmButton = /** @type {HTMLButtonElement} */ (section.querySelector("#reconfirm"));
    this.reconfirmButton.addEventListener("click", () => this.reconfirm());
  }

  /** @param {OpenRequest} request */
  start(request) {
    this.request = request;
    this.lookedAt = performance.now();
    this.mode = "";
    this.put("minutes", plural(request.minutes, "minute"));
    this.showHeld();
    window.clearInterval(this.timer);
    this.timer = window.setInterval(() => this.tick(), TICK_MS);
    this.follow(request);
    announce(`${this.section.querySelector("#wait-h")?.textContent}. ${heldWords(request, "is held, not spent", "are held, not spent")}`);
  }

  /** @private */
  showHeld() {
    if (!this.request) return;
    const { totalCost, includedMinutes = 0 } = this.request;
    this.put("total", formatTokens(totalCost));
    this.put("unit", totalCost === 1 ? "token" : "tokens");
    this.put("money", about(totalCost));
    this.put("included", plural(includedMinutes, "minute"));
    this.row("total", totalCost > 0 || !includedMinutes);
    this.row("included", includedMinutes > 0);
  }

  /** It could not start at once: the server knows what is still held. @param {string} requestId */
  async unlockReturned(requestId) {
    if (this.request?.requestId !== requestId) return;
    this.asking = false;
    await this.look();
  }

  /** Ask the server what became of the request; called on messages that may concern it. */
  async look() {
    if (!this.request || this.asking) return;
    this.asking = true;
    try {
      const view = await api.get(`/api/streaming/private-requests/${encodeURIComponent(this.request.requestId)}`);
      this.settle(view.status, view.sessionId, view.closeReason);
      this.follow(view);
    } catch (error) {
      console.warn("request not read", error); // the next message or tick asks again
    } finally {
      window.setTimeout(() => { this.asking = false; }, ASK_AGAIN_MS);
    }
  }

  /**
   * What the request waits for now. `remainingMs` is the server's, for clocks differ.
   * @param {{status?: string, position?: number | null, turn?: boolean, remainingMs: number, totalCost?: number}} view
   */
  follow(view) {
    if (!this.request) return;
    if (view.totalCost !== undefined && view.totalCost !== this.request.totalCost) {
      this.request.totalCost = view.totalCost;
      this.showHeld();
    }
    /** @type {Mode} */
    const mode = view.status !== "queued" ? "pending" : view.turn ? "turn" : "queued";
    this.deadline = performance.now() + view.remainingMs;
    const place = view.position ?? 0;
    if (mode !== this.mode || place !== this.place) {
      const came = mode === "turn" && this.mode !== "turn";
      [this.mode, this.place] = [mode, place];
      this.show();
      if (came) this.call();
    }
    this.tick();
  }

  /** It is their turn: said aloud, and in the tab's title for who looks elsewhere. @private */
  call() {
    announce(`It is your turn. Confirm within ${Math.round(this.turnMs / 1000)} seconds.`, "alert");
    document.title = `Your turn · ${this.title}`;
    this.reconfirmButton.focus();
    if (document.visibilityState !== "hidden" || !("Notification" in window) || Notification.permission !== "granted") return;
    const note = new Notification(`It is your turn with ${this.name}`, { body: "Confirm in this minute.", tag: this.request?.requestId });
    note.onclick = () => window.focus();
  }

  /** The words of the mode. @private */
  show() {
    const words = {
      pending: [`Waiting for ${this.name}`, "If there is no answer, all of it comes back by itself.", "to answer"],
      queued: [this.place === 1 ? "You are next" : `You are number ${this.place} in the queue`, `${this.name} is in a private stream or answers others first. When it is your turn you confirm again, at the same price. After ${WAIT_MINUTES} minutes all of it comes back.`, "in the queue"],
      turn: ["It is your turn", `${this.name} is free now. Confirm, or the next one has the turn and all of it comes back to you.`, "to confirm"],
    }[this.mode || "pending"];
    ["#wait-h", "#wait-words", "#answer-label"].forEach((place, at) => {
      const element = this.section.querySelector(place);
      if (element && element.textContent !== words[at]) element.textContent = words[at];
    });
    const ring = this.section.querySelector("#answer-ring");
    ring?.setAttribute("aria-label", { pending: "Time left to answer", queued: "Place in the queue", turn: "Time left to confirm" }[this.mode || "pending"]);
    if (this.mode !== "turn") document.title = this.title;
    this.reconfirmButton.hidden = this.mode !== "turn";
    const hint = this.section.querySelector("#wait-hint");
    if (hint) hint.textContent = this.mode === "queued" ? "Free while you wait. Stay on any page here to be asked." : "Free until it is accepted. The call starts here by itself.";
  }

  /** @private */
  async reconfirm() {
    if (!this.request || this.reconfirmButton.getAttribute("aria-busy")) return;
    const { requestId } = this.request;
    try {
      const view = await busy(this.reconfirmButton, "Confirming…", () => api.post("/api/streaming/private-reconfirm", { requestId }));
      announce(`Confirmed. Waiting for ${this.name}.`);
      this.follow(view);
    } catch (error) {
      this.asking = false;
      await this.look(); // most likely the time was up in the same instant
      if (this.request) toast(/** @type {Error} */ (error).message, { kind: "bad" });
    }
  }

  /** The request was accepted: go to the call, in this tab, without another press. @param {string} sessionId */
  accepted(sessionId) {
    if (!this.request) return;
    this.stop();
    announce(`${this.name} accepted. The call starts.`);
    if (claimCall(sessionId)) location.assign(`/call/${sessionId}`);
    else this.onOver(`${this.name} accepted. Your private stream has begun.`, "good", `/call/${sessionId}`);
  }

  /** @param {string | null} [reason] why, when it was not the creator's answer */
  declined(reason) {
    if (reason === "STREAM_ENDED") this.over(`The stream of ${this.name} has ended.`);
    else if (reason === "CREATOR_BUSY") this.over(`${this.name} took another request.`);
    else if (reason === "TURN_MISSED") this.over("Your turn came, and was not confirmed in time.");
    else if (reason === "WAIT_OVER") this.over(`${this.name} was not free within ${WAIT_MINUTES} minutes.`);
    else if (reason === "PAYMENT_FAILED") this.over("A payment of yours was found bad.");
    else if (reason === "FAN_BUSY") this.over("Another private stream of yours has begun.");
    else this.over(`${this.name} declined.`);
  }

  /** @param {string | null} [reason] why, when it was not that the creator did not answer */
  expired(reason) {
    if (reason) this.declined(reason);
    else this.over(`${this.name} did not answer.`);
  }

  /** @private @param {string} status @param {string} [sessionId] @param {string} [because] as the server's closeReason */
  settle(status, sessionId, because) {
    if (!this.request || status === "pending" || status === "queued") return;
    if (status === "accepted" && sessionId) this.accepted(sessionId);
    else if (status === "accepted") location.reload();
    else if (because || status === "declined") this.declined(because?.toUpperCase());
    else if (status === "expired") this.expired();
    else this.over("The request has ended.");
  }

  /** @private @param {string} what */
  over(what) {
    const back = this.request ? ` ${heldWords(this.request, "came back", "came back")}` : "";
    this.stop();
    this.onOver(`${what}${back}`, "info");
  }

  /** @private */
  stop() {
    window.clearInterval(this.timer);
    document.title = this.title;
    this.request = null;
  }

  /** @private */
  tick() {
    const left = Math.max(0, this.deadline - performance.now());
    const ring = this.section.querySelector("#answer-ring");
    const figure = this.section.querySelector("#answer-clock");
    const queued = this.mode === "queued";
    const whole = this.mode === "turn" ? this.turnMs : this.answerMs;
    const text = queued ? String(this.place || "–") : clock(left + 999);
    if (figure && figure.textContent !== text) figure.textContent = text;
    setValue(ring, queued ? "100%" : `${Math.min(100, (100 * left) / whole).toFixed(1)}%`);
    ring?.classList.toggle("ring--warn", !queued && left < whole / 4);
    if (left === 0 || performance.now() - this.lookedAt > LOOK_EVERY_MS) {
      this.lookedAt = performance.now();
      this.look();
    }
  }

  /** @private */
  async cancel() {
    if (!this.request || this.cancelButton.getAttribute("aria-busy")) return;
    const { requestId } = this.request;
    try {
      await busy(this.cancelButton, "Cancelling…", () => api.post("/api/streaming/private-cancel", { requestId }));
      this.over("You cancelled.");
    } catch (error) {
      this.asking = false;
      await this.look(); // most likely it was answered in the same instant
      if (this.request) toast(/** @type {Error} */ (error).message, { kind: "bad" });
    }
  }

  /** @private @param {string} name @param {boolean} shown */
  row(name, shown) {
    const row = /** @type {HTMLElement | null} */ (this.section.querySelector(`[data-wait-row="${name}"]`));
    if (row) row.hidden = !shown;
  }

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    const place = this.section.querySelector(`[data-wait="${name}"]`);
    if (place) place.textContent = text;
  }
}
