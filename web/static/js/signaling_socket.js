/**
 * One WebSocket to the media node's signaling: JSON in and out, a heartbeat, one end.
 *
 * Knows nothing of rooms or media, and never reconnects: whoever owns it decides whether to make another.
 */
import { SignalingError, TYPES } from "./protocol.js";

const PING_EVERY_MS = 5_000;
const SILENT_AFTER_MS = 12_000;
const OPEN_WITHIN_MS = 10_000;

/** @typedef {import("./protocol.js").ClientMessage} ClientMessage */
/** @typedef {import("./protocol.js").ServerMessage} ServerMessage */

export class SignalingSocket {
  /** @type {(message: ServerMessage) => void} */
  onMessage = () => {};

  /** Called once, with the close code; also when the server only fell silent.
   *  @type {(code: number) => void} */
  onClose = () => {};

  #socket;
  #heartbeat = 0;
  #heardAt = 0;
  #pingedAt = 0;
  #roundTrip = 0;
  #heard = () => {};
  #closed = false;

  /** @param {WebSocket} socket an open one */
  constructor(socket) {
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.addEventListener("message", (event) => this.#receive(event.data));
    socket.addEventListener("close", (event) => this.#end(event.code));
    this.#heartbeat = setInterval(() => this.#beat(), PING_EVERY_MS);
  }

  /**
   * @param {string} url ws: or wss:
   * @param {number} [within] milliseconds
   * @returns {Promise<SignalingSocket>}
   * @throws {SignalingError} NO_WEBSOCKET
   */
  static open(url, within = OPEN_WITHIN_MS) {
    return new Promise((resolve, reject) => {
      let socket;
      const refuse = () => {
        clearTimeout(deadline);
        socket?.close();
        reject(new SignalingError("NO_WEBSOCKET"));
      };
      const deadline = setTimeout(refuse, within);
      try {
        socket = new WebSocket(url);
      } catch {
        refuse();
        return;
      }
      socket.addEventListener("error", refuse, { once: true });
      socket.addEventListener("open", () => {
        clearTimeout(deadline);
        socket.removeEventListener("error", refuse);
        resolve(new SignalingSocket(socket));
      }, { once: true });
    });
  }

  /**
   * Sends, or quietly does not when the socket is gone: the owner learns of that by `onClose`.
   * @param {ClientMessage} message
   */
  send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** How long the last PING took to be answered, milliseconds; 0: none was yet. */
  get roundTrip() {
    return this.#roundTrip;
  }

  /** Asks whether the server is still there: settles, with true, with the next word from it. */
  ping() {
    /** @type {Promise<true>} */
    const heard = new Promise((resolve) => (this.#heard = () => resolve(true)));
    this.#ping();
    return heard;
  }

  /** Closes without telling `onClose`. */
  close() {
    this.#closed = true;
    clearInterval(this.#heartbeat);
    this.#socket.close(1000);
  }

  #receive(text) {
    this.#heardAt = performance.now();
    this.#heard();
    if (this.#closed) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return; // Not of this protocol; a later version may send other frames.
    }
    if (message?.type !== TYPES.PONG) this.onMessage(message);
    else if (this.#pingedAt) {
      this.#roundTrip = this.#heardAt - this.#pingedAt;
      this.#pingedAt = 0;
    }
  }

  #ping() {
    this.#pingedAt ||= performance.now();
    this.send({ type: TYPES.PING });
  }

  #beat() {
    if (performance.now() - this.#heardAt > SILENT_AFTER_MS) {
      this.#socket.close();
      this.#end(1006);
    } else {
      this.#ping();
    }
  }

  #end(code) {
    if (this.#closed) return;
    this.close();
    this.onClose(code);
  }
}
