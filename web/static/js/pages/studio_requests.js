/**
 * The panel of open private requests: who asks, what it earns, how long is left, and the two answers.
 *
 * Under them the queue: who waits, in which order, and whose turn it is. The order is the server's. Rows are kept while their request is open, so that a refresh moves no focus.
 */
import { ApiError, api } from "../api.js";
import { about, announce, avatar, busy, clock, formatTokens, make, plural, setValue, toast } from "../ui.js";

const TICK_MS = 250;

/**
 * @typedef {object} Request
 * @property {string} requestId
 * @property {{handle: string, avatarUrl: string|null, subscriber?: boolean, isMock?: boolean}} fan
 * @property {number} minutes
 * @property {number} totalCost held, the unlock price too, which an answer by hand sets free
 * @property {number} unlockPrice
 * @property {number} includedMinutes of the fan's subscription, which has paid for them
 * @property {string} paymentMode
 * @property {number} earnings
 * @property {string} status "pending" can be accepted; "queued" waits
 * @property {number} position
 * @property {boolean} turn a queued one that was asked to confirm
 * @property {string} createdAt
 * @property {string} expiresAt
 */

/** How long it is, what of it the subscription has paid, and whether it may go on. @param {Request} request */
function lengthWords({ minutes, includedMinutes, paymentMode }) {
  const included = includedMinutes ? `, ${formatTokens(includedMinutes)} of the subscription` : "";
  return `${plural(minutes, "minute")}${included}${paymentMode === "per_minute" ? ", then minute by minute" : ""}`;
}

export class RequestsPanel {
  /** @type {(answer: {sessionId: string}) => void} */
  onAccepted = () => {};

  /** Whether requests may wait while the creator is busy. */
  queue = false;

  /** How many watch now; for the warning. */
  viewers = 0;

  #panel = document.getElementById("requests-panel");
  #button = document.getElementById("requests-button");
  #rows = new Map();
  #timer = 0;
  #asking = null;
  #queued = 0;
  #state = "live";
  #askAgain = false;

  constructor() {
    this.#button.addEventListener("click", () => this.#open(this.#button.getAttribute("aria-expanded") !== "true"));
    if (matchMedia("(max-width: 62rem)").matches) this.#open(false, false);
  }

  /** Ask the server which requests are open. Called on every message that may concern them. */
  async refresh() {
    if (this.#asking) {
      this.#askAgain = true;
      return this.#asking;
    }
    this.#asking = this.#fetch().catch((error) => console.warn("requests_not_read", error.code));
    await this.#asking;
    this.#asking = null;
    if (this.#askAgain) {
      this.#askAgain = false;
      return this.refresh();
    }
    return undefined;
  }

  /** @param {number} viewers */
  setViewers(viewers) {
    this.viewers = viewers;
    if (this.#state === "after") {
      document.getElementById("accept-warning").textContent = "You go from one private stream to the next. Your public stream stays away.";
      return;
    }
    const moved = viewers ? `moves ${plural(viewers, "viewer")} out and ends` : "ends";
    document.getElementById("accept-warning").textContent =
      `Accepting ${moved} the public stream.${this.#rows.size > 1 ? this.#others() : ""}`;
  }

  #others() {
    return this.queue ? " The others asking wait in your queue." : " The others asking get their tokens back.";
  }

  /** Forgets everything; the stream is over. */
  clear() {
    this.#show([]);
    this.#showQueue([]);
  }

  async #fetch() {
    const { requests } = await api.get("/api/streaming/private-requests");
    this.#show(requests.filter((request) => request.status === "pending"));
    this.#showQueue(requests.filter((request) => request.status === "queued"));
  }

  /** @param {Request[]} requests */
  #show(requests) {
    const open = new Set(requests.map((request) => request.requestId));
    for (const [requestId, row] of this.#rows) {
      if (open.has(requestId)) continue;
      row.element.remove();
      this.#rows.delete(requestId);
    }
    const list = document.getElementById("requests-list");
    requests.forEach((request, at) => {
      let row = this.#rows.get(request.requestId);
      if (!row) {
        row = this.#row(request);
        this.#rows.set(request.requestId, row);
        announce(`${request.fan.handle} asks for ${plural(request.minutes, "minute")}.`);
      }
      if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at] ?? null);
      row.accept.classList.toggle("btn--primary", at === 0);
      row.accept.classList.toggle("btn--quiet", at > 0);
    });
    this.#count(requests.length);
    clearInterval(this.#timer);
    if (requests.length) this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  /** The panel goes where the creator looks: beside the picture, or beside the way back to public. @param {string} state */
  showIn(state) {
    const place = document.querySelector(`[data-requests-in="${state}"]`);
    if (place && this.#panel.parentElement !== place) place.append(this.#panel);
    if (state === "after") this.#panel.hidden = false;
    this.#state = state;
    this.#count(this.#rows.size);
  }

  /** @param {Request[]} queued */
  #showQueue(queued) {
    this.#queued = queued.length;
    const list = document.getElementById("queue-list");
    const held = list.contains(document.activeElement);
    list.replaceChildren(...queued.map((request) => this.#queueRow(request)));
    document.getElementById("requests-queue").hidden = !queued.length;
    document.getElementById("queue-count").textContent = String(queued.length);
    this.#count(this.#rows.size);
    if (held) document.getElementById("queue-h").focus();
  }

  /** @param {Request} request */
  #queueRow(request) {
    const { fan } = request;
    const id = `queued-${request.requestId}`;
    const decline = make("button", { class: "btn btn--s btn--bare", type: "button", "aria-describedby": id }, "Decline");
    decline.addEventListener("click", () => this.#answer(request, decline, "decline"));
    return make("li", { class: "slot" }, make("span", { class: "num muted" }, String(request.position)), avatar(fan.handle, fan.handle, fan.avatarUrl, "s"),
      make("div", { class: "grow" },
        make("p", { id }, make("b", {}, fan.handle), " ", fan.subscriber && make("span", { class: "pill pill--good" }, "Subscriber"), fan.isMock && make("span", { class: "pill pill--info" }, "Demo")),
        make("p", { class: "small muted" }, request.turn ? "Asked to confirm now" : `${plural(request.minutes, "minute")}, you earn ${formatTokens(request.earnings)}`)), decline);
  }

  #count(count) {
    const badge = document.getElementById("requests-count");
    badge.textContent = String(count);
    badge.classList.toggle("badge--quiet", count === 0);
    document.getElementById("requests-waiting").textContent = count ? `${count} waiting` : this.#queued ? "None to answer" : "None waiting";
    document.getElementById("requests-none").hidden = count > 0 || this.#queued > 0;
    document.getElementById("requests-warning").hidden = count === 0;
    // One main action a view: answering comes before going back.
    const back = document.querySelector('[data-studio="resume"]');
    back.classList.toggle("btn--primary", count === 0);
    this.setViewers(this.viewers);
  }

  /** @param {Request} request */
  #row(request) {
    const { fan } = request;
    const id = `fan-${request.requestId}`;
    const figure = make("span", { class: "num" });
    const ring = make("span", { class: "ring ring--s", role: "timer", "aria-label": "Time left to answer" }, figure);
    const accept = make("button", { class: "btn grow", type: "button", "aria-describedby": id }, "Accept");
    const decline = make("button", { class: "btn grow", type: "button", "aria-describedby": id }, "Decline");
    accept.addEventListener("click", () => this.#answer(request, accept, "accept"));
    decline.addEventListener("click", () => this.#answer(request, decline, "decline"));
    const pays = request.totalCost - request.unlockPrice;
    const share = pays ? Math.round((100 * request.earnings) / pays) : 0;
    const element = make("li", { class: "request" },
      make("div", { class: "row row--top" }, avatar(fan.handle, fan.handle, fan.avatarUrl),
        make("div", { class: "grow" },
          make("h3", { class: "text-m", id }, fan.handle, " ",
            fan.subscriber && make("span", { class: "pill pill--good" }, "Subscriber"),
            fan.isMock && make("span", { class: "pill pill--info" }, "Demo")),
          make("p", { class: "small muted" }, lengthWords(request))), ring),
      make("p", { class: "request__earn" }, "You earn ",
        make("span", { class: "amount" }, make("b", {}, formatTokens(request.earnings)), request.earnings === 1 ? " token " : " tokens ",
          pays && make("span", { class: "amount__money" }, about(request.earnings))), make("br"),
        make("span", { class: "small faint" }, pays
          ? `if ${request.minutes === 1 ? "the whole minute is" : `all ${request.minutes} minutes are`} used · ${share}% of ${formatTokens(pays)}`
          : "the subscription has paid for it")),
      make("div", { class: "row gap-2" }, accept, decline));
    // Our clock may be wrong: what counts is how long the request has, from when we first saw it new.
    const whole = Date.parse(request.expiresAt) - Date.parse(request.createdAt);
    const left = Math.min(whole, Math.max(0, Date.parse(request.expiresAt) - Date.now()));
    return { element, accept, ring, figure, whole, until: performance.now() + left };
  }

  #tick() {
    for (const row of this.#rows.values()) {
      const left = Math.max(0, row.until - performance.now());
      const text = clock(left + 999);
      if (row.figure.textContent !== text) row.figure.textContent = text;
      setValue(row.ring, `${((100 * left) / row.whole).toFixed(1)}%`);
      row.ring.classList.toggle("ring--warn", left < row.whole / 4);
      if (left === 0 && !row.asked) {
        row.asked = true;
        void this.refresh();
      }
    }
  }

  /** @param {Request} request @param {HTMLButtonElement} button @param {"accept"|"decline"} answer */
  async #answer(request, button, answer) {
    try {
      const said = await busy(button, answer === "accept" ? "Accepting…" : "Declining…", () =>
        api.post(`/api/streaming/private-${answer}`, { requestId: request.requestId }));
      if (answer === "accept") this.onAccepted(said);
      else announce(`Declined. The tokens of ${request.fan.handle} are free again.`);
    } catch (error) {
      const gone = error instanceof ApiError && ["REQUEST_NOT_PENDING", "NOT_FOUND"].includes(error.code);
      toast(gone ? `The request of ${request.fan.handle} is not open any more.` : error.message, { kind: gone ? "info" : "bad" });
    }
    await this.refresh();
  }

  /** @param {boolean} open @param {boolean} [look] bring it into view */
  #open(open, look = true) {
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    if (open && look) this.#panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }
}
