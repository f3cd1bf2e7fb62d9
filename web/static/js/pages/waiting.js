// @ts-check
/**
 * While the fan waits for the answer: the countdown, the lobby beside it, and what came of the request.
 * Knows nothing of prices; the call page takes over once the request is accepted.
 */
import { api } from "../api.js";
import { announce, busy, clock, formatTokens, about, plural, setValue, toast } from "../ui.js";
import { claimCall } from "./common.js";

const TICK_MS = 250;
const ASK_AGAIN_MS = 1_500;
/** Without the live feed too the answer is known in time: who comes too late to a call pays the minimum. */
const LOOK_EVERY_MS = 4_000;

/** @typedef {{requestId: string, minutes: number, totalCost: number, remainingMs: number}} OpenRequest */

export class Waiting {
  /** It is over without a call here. @type {(words: string, kind: "good" | "info", callHref?: string) => void} */
  onOver = () => {};

  /** @param {HTMLElement} section @param {string} name the creator's @param {number} answerMs how long an answer may take */
  constructor(section, name, answerMs) {
    this.section = section;
    this.name = name;
    this.answerMs = answerMs;
    /** @type {OpenRequest | null} */
    this.request = null;
    this.deadline = 0;
    this.timer = 0;
    this.asking = false;
    this.lookedAt = 0;
    this.cancelButton = /** @type {HTMLButtonElement} */ (section.querySelector("#cancel"));
    this.cancelButton.addEventListener("click", () => this.cancel());
  }

  /** @param {OpenRequest} request */
  start(request) {
    this.request = request;
    this.deadline = performance.now() + request.remainingMs;
    this.lookedAt = performance.now();
    this.put("minutes", plural(request.minutes, "minute"));
    this.put("total", formatTokens(request.totalCost));
    this.put("money", about(request.totalCost));
    window.clearInterval(this.timer);
    this.timer = window.setInterval(() => this.tick(), TICK_MS);
    this.tick();
    announce(`Waiting for ${this.name}. ${plural(request.totalCost, "token")} are held, not spent.`);
  }

  /** Ask the server what became of the request; called on messages that may concern it. */
  async look() {
    if (!this.request || this.asking) return;
    this.asking = true;
    try {
      const view = await api.get(`/api/streaming/private-requests/${encodeURIComponent(this.request.requestId)}`);
      this.settle(view.status, view.sessionId, view.closeReason);
    } catch (error) {
      console.warn("request not read", error); // the next message or tick asks again
    } finally {
      window.setTimeout(() => { this.asking = false; }, ASK_AGAIN_MS);
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
    else if (reason === "FAN_BUSY") this.over("Another private stream of yours has begun.");
    else this.over(`${this.name} declined.`);
  }

  expired() {
    this.over(`${this.name} did not answer.`);
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
    const back = this.request ? ` ${plural(this.request.totalCost, "token")} came back.` : "";
    this.stop();
    this.onOver(`${what}${back}`, "info");
  }

  /** @private */
  stop() {
    window.clearInterval(this.timer);
    this.request = null;
  }

  /** @private */
  tick() {
    const left = Math.max(0, this.deadline - performance.now());
    const ring = this.section.querySelector("#answer-ring");
    const figure = this.section.querySelector("#answer-clock");
    const text = clock(left + 999);
    if (figure && figure.textContent !== text) figure.textContent = text;
    setValue(ring, `${((100 * left) / this.answerMs).toFixed(1)}%`);
    ring?.classList.toggle("ring--warn", left < this.answerMs / 4);
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

  /** @private @param {string} name @param {string} text */
  put(name, text) {
    const place = this.section.querySelector(`[data-wait="${name}"]`);
    if (place) place.textContent = text;
  }
}
