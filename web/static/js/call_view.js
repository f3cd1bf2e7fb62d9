/**
 * The call page as people see it: figures, words, controls. Brings templates/partials/call_view.html to life.
 *
 * Knows no network: CallSession (call_session.js) tells it what happened, it tells back what was pressed.
 */
import { endNow, scaled } from "./call_bill.js";
import {
  aheadLabel, aheadWords, connectionWords, endNowWords, nextWords, overlayWords, rateWords, thirdRow, warningWords,
} from "./call_words.js";
import { BARS } from "./quality.js";
import { announce, avatar, clock, icon, setValue } from "./ui.js";

const ALL_PAUSES_MS = 120_000;
const WARNINGS_MS = [60_000, 15_000];
/** The picture may be this much larger than the stage in one direction before it is shown whole. */
const MOST_CROPPED = 1.4;

/** @typedef {import("./call_bill.js").Session} Session */
/** @typedef {ReturnType<import("./call_meter.js").CallMeter["at"]>} Reading */

export class CallView {
  onSwitchCamera = () => {};
  /** @type {(muted: boolean) => void} */
  onMute = () => {};
  onEnd = () => {};
  onPlay = () => {};
  onRetryCamera = () => {};
  onStopRecording = () => {};
  onRetry = () => {};

  #root;
  #session = null;
  #available = 0;
  #warned = new Set();
  #shown = "";
  /** What the connection itself has to say over the picture; null while it is well. */
  #connection = null;
  /** Since when, by performance.now(), the node lets this call be recorded; null while it does not. */
  #recordedSince = null;

  /** @param {HTMLElement} root the element with class "call" */
  constructor(root) {
    this.#root = root;
    this.remoteVideo = root.querySelector("#remote-video");
    this.remoteAudio = root.querySelector("#remote-audio");
    this.#one("switch").addEventListener("click", () => this.onSwitchCamera());
    this.#one("mute").addEventListener("click", () => this.onMute(this.#one("mute").getAttribute("aria-pressed") !== "true"));
    this.#one("hangup").addEventListener("click", () => this.#one("hangup").getAttribute("aria-busy") !== "true" && this.onEnd());
    this.#one("sound").addEventListener("click", () => this.onPlay());
    this.#one("camera-retry").addEventListener("click", () => this.onRetryCamera());
    this.#one("over-retry").addEventListener("click", () => this.onRetry());
    root.addEventListener("call:stop-recording", () => this.onStopRecording());
    for (const type of ["loadedmetadata", "resize"]) this.remoteVideo.addEventListener(type, () => this.#fit());
    new ResizeObserver(() => this.#fit()).observe(this.remoteVideo);
  }

  /**
   * Shows a call from its beginning.
   * @param {Session} session
   * @param {number} available tokens in the viewer's wallet
   */
  begin(session, available) {
    this.#session = session;
    this.#available = available;
    this.#warned.clear();
    this.#shown = "";
    this.#root.hidden = false;
    const { counterpart } = session;
    this.#put("name", counterpart.displayName);
    this.#put("rate", rateWords(session));
    this.setAvailable(available);
    this.refreshed();
    this.#one("avatar").replaceChildren(avatar(counterpart.displayName, counterpart.handle, counterpart.avatarUrl));
    for (const name of ["end", "away", "note", "sound", "camera-note", "quality", "quality-own", "quality-theirs"]) this.#one(name).hidden = true;
    for (const name of ["top", "self", "switch", "mute", "hangup", "third-row", "terms", "meter"]) this.#one(name).hidden = false;
    this.recording(false);
    this.ending(false);
    this.muted(false);
    this.#root.querySelector(".call__mini").hidden = false;
  }

  /**
   * The red mark, by the node's word: on before the first frame is recorded, off after the last one.
   * @param {boolean} on
   * @param {number} [elapsedMs]
   */
  recording(on, elapsedMs = 0) {
    const was = this.#recordedSince !== null;
    this.#recordedSince = on ? performance.now() - elapsedMs : null;
    this.#one("rec").hidden = !on;
    this.#showRecorded();
    if (was === on) return;
    announce(on ? "Recording. Picture and sound of both of you." : "Recording has stopped.");
    this.#root.dispatchEvent(new CustomEvent("call:recording", { detail: { on } }));
  }

  #showRecorded() {
    if (this.#recordedSince !== null) this.#put("rec-time", clock(performance.now() - this.#recordedSince));
  }

  /** The session's own figures changed: minutes were added, or could not be. */
  refreshed() {
    const session = this.#session;
    this.#put("ahead-label", aheadLabel(session));
    this.#put("ahead", aheadWords(session));
    this.setAvailable(this.#available);
  }

  /** @param {number} available */
  setAvailable(available) {
    this.#available = available;
    const next = nextWords(this.#session, available);
    this.#one("next-row").hidden = !next;
    this.#put("next", next);
    const third = thirdRow(this.#session, available);
    this.#put("third-label", third.label);
    this.#put("third", third.value);
  }

  /**
   * Draws the clock and all that follows from it.
   * @param {Reading} reading
   * @param {{here: boolean, seen: boolean}} other whether the other side is in the room, and shows a picture
   */
  show(reading, other) {
    const now = endNow(this.#session, reading);
    const words = endNowWords(this.#session, now, reading);
    this.#showClock(reading);
    this.#showRecorded();
    this.#put("now-label", words.label);
    this.#put("now-title", words.title);
    this.#put("now-words", words.words);
    this.#put("now-short", words.short);
    this.#put("uncounted", clock(reading.uncountedMs));
    const left = Math.max(0, scaled(ALL_PAUSES_MS, this.#session.minuteMs) - reading.uncountedMs);
    const long = { ...reading, pausedForMs: Infinity };
    const pause = { leftMs: left, end: endNow(this.#session, long) };
    const over = this.#connection ?? overlayWords(this.#session, reading, pause, other);
    this.#showOver(over, this.#connection ? "reconnecting" : reading.state);
    this.#warn(reading);
  }

  /** @param {import("./sfu_client.js").ConnectionState} state */
  connection(state) {
    this.#connection = connectionWords(this.#session, state);
  }

  /** The seat could not be taken though the call goes on. @param {string} words @param {string} help */
  notConnected(words, help) {
    this.#connection = { mark: "warn", title: "You are not connected", words, help };
  }

  /** The own picture, or that there is none. @param {import("./camera_service.js").CameraService} camera */
  showSelf(camera) {
    const video = this.#root.querySelector("#self-video");
    if (video.srcObject !== camera.stream) video.srcObject = camera.stream;
    this.#one("self").classList.toggle("tile--mirror", camera.mirrored);
    this.#one("self-off").hidden = Boolean(camera.videoTrack);
    this.#one("switch").disabled = !camera.videoTrack;
    this.#one("mute").disabled = !camera.audioTrack;
  }

  /** Why the other side sees nothing. @param {string} words "" takes it away @param {string} [help] @param {string} [press] */
  cameraNote(words, help = "", press = "Try again") {
    this.#put("camera-retry", press);
    this.#one("camera-note").hidden = !words;
    this.#put("camera-words", words);
    this.#one("camera-help").hidden = !help;
    this.#help("camera-note", help);
  }

  /** @param {boolean} muted */
  muted(muted) {
    const button = this.#one("mute");
    button.setAttribute("aria-pressed", String(muted));
    button.firstElementChild.replaceChildren(icon(muted ? "micoff" : "mic"));
  }

  /** @param {boolean} ending */
  ending(ending) {
    this.#one("hangup").setAttribute("aria-busy", String(ending));
    this.#one("hangup").lastChild.textContent = ending ? "Ending…" : "End call";
  }

  /** @param {boolean} blocked the browser wants a press before it plays */
  soundBlocked(blocked) {
    this.#one("sound").hidden = !blocked;
  }

  /** @param {"own"|"theirs"} side @param {import("./protocol.js").Quality|null} quality null: not known */
  quality(side, quality) {
    const shown = this.#one(`quality-${side}`);
    shown.hidden = quality === null;
    this.#one("quality").hidden = this.#one("quality-own").hidden && this.#one("quality-theirs").hidden;
    if (quality === null) return;
    shown.dataset.level = String(BARS[quality]);
    this.#put(`quality-${side}-words`, quality);
  }

  /** For those who do not see it. @param {"own"|"theirs"} side @param {import("./protocol.js").Quality} quality */
  qualityNews(side, quality) {
    const whose = side === "own" ? "Your connection" : `The connection of ${this.#session.counterpart.displayName}`;
    announce(`${whose} is ${quality}${quality === "good" ? " again" : ""}.`);
  }

  /**
   * The end: black, the fixed message, and nothing left to press but the way out.
   * @param {string} message
   * @param {{camera: string, next: string, away?: string}} words
   */
  end(message, { camera, next, away = "" }) {
    this.#root.dataset.state = "ended";
    const end = this.#one("end");
    const lines = [["h2", message], ["p", camera], ["p", next]].map(([tag, text]) => {
      const line = document.createElement(tag);
      line.textContent = text;
      return line;
    });
    end.replaceChildren(...lines);
    end.hidden = false;
    this.recording(false);
    for (const name of ["top", "self", "note", "sound", "camera-note", "over", "switch", "mute", "hangup", "extend"]) {
      if (this.#one(name)) this.#one(name).hidden = true;
    }
    for (const name of ["third-row", "terms", "meter"]) this.#one(name).hidden = true;
    this.#root.querySelector(".call__mini").hidden = true;
    this.#put("now-label", "The bill");
    this.#put("now-title", "Is being written");
    this.#put("now-words", "The receipt says what it comes to and why.");
    this.#one("away").hidden = !away;
    if (away) this.#one("away").href = away;
  }

  #one(name) {
    return this.#root.querySelector(`[data-call="${name}"]`);
  }

  #help(within, help) {
    for (const text of this.#one(within).querySelectorAll("[data-help]")) text.hidden = text.dataset.help !== help;
  }

  /** Fills the stage where that costs little of the picture, else shows all of it. */
  #fit() {
    const { videoWidth, videoHeight, clientWidth, clientHeight } = this.remoteVideo;
    const ratio = (videoWidth * clientHeight) / (videoHeight * clientWidth);
    this.remoteVideo.classList.toggle("is-whole", Math.max(ratio, 1 / ratio) > MOST_CROPPED);
  }

  #put(name, text) {
    for (const place of this.#root.querySelectorAll(`[data-call="${name}"]`)) {
      if (place.textContent !== text) place.textContent = text;
    }
  }

  #showClock(reading) {
    // Rounded up, so that 0:00 is the moment at which the picture stops.
    this.#put("left", clock(reading.leftMs + 999));
    this.#put("left-label", reading.state === "paused" ? "Clock stopped" : "Time left");
    this.#put("delivered", clock(reading.deliveredMs));
    this.#put("paid", clock(reading.paidMs));
    const percent = Math.min(100, (100 * reading.deliveredMs) / Math.max(1, reading.paidMs));
    const low = reading.state === "running" && reading.leftMs <= this.#limits()[0];
    for (const place of this.#root.querySelectorAll('[data-call="left"]')) {
      place.classList.toggle("clock--warn", low);
      place.classList.toggle("clock--paused", reading.state !== "running");
    }
    for (const bar of this.#root.querySelectorAll('[data-call="progress"]')) {
      bar.setAttribute("aria-valuenow", String(Math.round(percent)));
      bar.classList.toggle("progress--warn", low);
      setValue(bar.firstElementChild, `${percent.toFixed(2)}%`);
    }
  }

  #showOver(over, state) {
    this.#root.dataset.state = state;
    this.#one("over").hidden = !over;
    if (over) {
      this.#put("over-title", over.title);
      this.#put("over-words", over.words);
      this.#one("over-help").hidden = !over.help;
      this.#one("over-retry").hidden = over.help === undefined;
      this.#help("over-help", over.help ?? "");
      if (this.#one("over-mark").dataset.icon !== over.mark) {
        this.#one("over-mark").dataset.icon = over.mark;
        this.#one("over-mark").replaceChildren(icon(over.mark));
      }
    }
    const said = over?.title ?? (state === "running" ? "The picture is running." : "");
    if (said && said !== this.#shown) {
      if (this.#shown || over) announce(said);
      this.#shown = said;
    }
  }

  /** By the minute the next one is on its way until shortly before the end: only then is there something to say. */
  #limits() {
    const { paymentMode, holdRefused, nextMinuteMs, minuteMs } = this.#session;
    const limits = WARNINGS_MS.map((limit) => scaled(limit, minuteMs));
    if (paymentMode === "prepaid") return limits;
    return holdRefused ? [nextMinuteMs, limits[1]] : [limits[1]];
  }

  /** Each threshold once; none that was already passed at the beginning of a short call. */
  #warn(reading) {
    if (reading.state !== "running") {
      this.#one("note").hidden = true;
      return;
    }
    const limits = this.#limits().filter((limit) => reading.paidMs > limit);
    const passed = limits.filter((limit) => reading.leftMs <= limit);
    // More time was added: these come again.
    for (const limit of this.#warned) if (reading.leftMs > limit) this.#warned.delete(limit);
    this.#one("note").hidden = passed.length === 0;
    const tightest = Math.min(...passed);
    if (passed.length === 0 || this.#warned.has(tightest)) return;
    this.#warned.add(tightest);
    const { title, words } = warningWords(this.#session, tightest, tightest === scaled(WARNINGS_MS[1], this.#session.minuteMs));
    this.#put("note-title", title);
    this.#put("note-words", words);
    announce(`${title} ${words}`);
  }
}
