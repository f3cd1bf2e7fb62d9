// @ts-check
/**
 * The live feed of a signed-in person (/api/events): connects, reconnects with growing pauses, hands out messages.
 * On every (re)connect the server says RESYNC: what the page shows may be old, so it fetches again over REST.
 * Knows nothing of any page.
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** Close code (RFC 6455 §7.4.1, policy violation) with which the server ends the feed of somebody who is signed out. */
const REFUSED = 1008;

/** @typedef {{type: string, at?: string, [field: string]: any}} FeedMessage */

export class EventsClient {
  /** @param {{url?: string}} [options] */
  constructor({ url } = {}) {
    this.url = url ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/events`;
    /** @type {Map<string, Set<(message: FeedMessage) => void>>} */
    this.listeners = new Map();
    /** @type {WebSocket | null} */
    this.socket = null;
    this.pauseMs = FIRST_PAUSE_MS;
    this.timer = 0;
    this.wanted = false;
    this.connected = false;
    /** @type {FeedMessage | null} the last RESYNC of this connection: whoever begins to listen after it has missed it */
    this.resync = null;
    this.onOnline = () => this.retryNow();
    this.onVisible = () => {
      if (document.visibilityState === "visible") this.retryNow();
    };
  }

  /**
   * Listen to one type of message; "*" hears all, "RESYNC" is the call to fetch again,
   * "connected" and "disconnected" tell of the connection itself, "refused" that it will not come back: sign in again.
   * @param {string} type
   * @param {(message: FeedMessage) => void} listener
   * @returns {() => void} stops listening
   */
  on(type, listener) {
    if (!this.listeners.has(type)) this.listeners.set(type, new Set());
    this.listeners.get(type)?.add(listener);
    const missed = type === "RESYNC" ? this.resync : null;
    if (missed) queueMicrotask(() => listener(missed));
    return () => this.listeners.get(type)?.delete(listener);
  }

  /** Open the feed and keep it open until `close()`. */
  connect() {
    if (this.wanted) return;
    this.wanted = true;
    window.addEventListener("online", this.onOnline);
    document.addEventListener("visibilitychange", this.onVisible);
    this.open();
  }

  /** Close for good. */
  close() {
    this.wanted = false;
    window.clearTimeout(this.timer);
    window.removeEventListener("online", this.onOnline);
    document.removeEventListener("visibilitychange", this.onVisible);
    this.socket?.close();
    this.socket = null;
  }

  /** @private */
  open() {
    window.clearTimeout(this.timer);
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => {
      this.pauseMs = FIRST_PAUSE_MS;
      this.connected = true;
      this.emit({ type: "connected" });
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = ({ code }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (code === REFUSED) {
        this.close();
        this.emit({ type: "refused" });
      }
      if (this.connected) this.emit({ type: "disconnected" });
      this.connected = false;
      this.resync = null;
      if (this.wanted) this.retryLater();
    };
  }

  /** @private @param {string} data */
  receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      console.warn("event feed: not JSON");
      return;
    }
    if (!message || typeof message.type !== "string") return;
    if (message.type === "RESYNC") this.resync = message;
    this.emit(message);
  }

  /** @private @param {FeedMessage} message */
  emit(message) {
    for (const type of [message.type, "*"]) {
      for (const listener of this.listeners.get(type) ?? []) {
        try {
          listener(message);
        } catch (error) {
          console.error(error); // one broken listener must not silence the others
        }
      }
    }
  }

  /** @private Waits between half and all of the pause, so that many pages do not come back at the same instant. */
  retryLater() {
    const wait = this.pauseMs * (0.5 + Math.random() / 2);
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
    this.timer = window.setTimeout(() => this.open(), wait);
  }

  /** @private */
  retryNow() {
    if (this.wanted && !this.socket) this.open();
  }
}
