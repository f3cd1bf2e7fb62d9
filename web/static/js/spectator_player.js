// @ts-check
/**
 * SpectatorPlayer: a public room's broadcast in a video element, by hls.js or by the browser itself.
 *
 * Asks for a signed address, renews it while it plays, comes back from stalls and restarts by itself, and says
 * when the broadcast is over. Knows nothing of pages, money or requests.
 */
import { ApiError, api } from "./api.js";
import { loadPolicies } from "./spectator_patience.js";

/** @typedef {"loading" | "playing" | "stalled"} SpectatorState */
/** @typedef {{streamUrl: string, posterUrl: string, broadcastId: string, tier: "free" | "premium", ready: boolean, lowLatency: boolean, expiresAt: string}} Address */
/** @typedef {{index: number, height: number}} Quality index -1: chosen by itself */

const HLS = new URL("../vendor/hls/hls.mjs", import.meta.url).href;
const HLS_WORKER = new URL("../vendor/hls/hls.worker.js", import.meta.url).href;
const NOT_READY_MS = 1_000;
const STALLED_MS = 1_500;
/** hls.js catches up in its low-latency mode alone: so late after a stall, and it is made good this much faster. */
const LATE_SECONDS = 2;
const IN_TIME_SECONDS = 0.5;
const CATCH_UP_RATE = 1.05;
/** With less than this ahead, being fast would only be the next stall. */
const AHEAD_SECONDS = 3;
/** After a stall segments come just when they are needed: with so little ahead, slower, until there is enough again. */
const SHORT_SECONDS = 0.8;
const SLOW_RATE = 0.85;
/** So many times without a picture within this time, and low latency is too much for this connection. */
const MOST_WAITS = 3;
const WAITS_MS = 30_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 8_000;
/** Whoever says nothing for 90 seconds counts no more as watching. */
const LONGEST_SILENCE_MS = 55_000;
/** More than this behind the live edge, and there is something to go back to. */
const BEHIND_SECONDS = 8;
/** /live/room/broadcast/signature/… */
const SIGNED = /^(.*\/live\/[^/]+\/[^/]+\/)[^/]+\//;

export class SpectatorPlayer {
  /** @type {(state: SpectatorState) => void} */
  onState = () => {};
  /** There is an address, and with it a picture to wait with. @type {(address: Address) => void} */
  onAddress = () => {};
  /** The playlists have ended: the stream is over, or private. @type {() => void} */
  onEnded = () => {};
  /** There is no way to watch now. @type {(error: ApiError) => void} */
  onRefused = () => {};
  /** The qualities to choose from changed. @type {() => void} */
  onQualities = () => {};
  /** The browser wants a press before there is sound. @type {() => void} */
  onSilent = () => {};

  /** @type {any} */
  #hls = null;
  /** @type {Address | null} */
  #address = null;
  /** The address by which the player has its playlists. @type {Address | null} */
  #loaded = null;
  #roomId = "";
  #generation = 0;
  #renewTimer = 0;
  #retryTimer = 0;
  #stallTimer = 0;
  #retryMs = FIRST_RETRY_MS;
  /** Whether hls.js was told to go on after it had given up, and nothing has come of it yet. */
  #resumed = false;
  /** Whether low latency did not go well here. */
  #cautious = false;
  /** @type {number[]} when the picture waited for data */
  #waits = [];

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.video = video;
    video.addEventListener("playing", () => this.#isPlaying());
    video.addEventListener("waiting", () => this.#waited());
    video.addEventListener("timeupdate", () => this.#pace());
    for (const type of ["waiting", "stalled"]) video.addEventListener(type, () => this.#mayStall());
    video.addEventListener("ended", () => this.#over());
  }

  /** Whether it has been told to play. */
  get active() {
    return this.#roomId !== "";
  }

  /** @returns {Quality[]} best first; empty where the browser chooses */
  get qualities() {
    const levels = this.#hls?.levels ?? [];
    const found = levels.map((/** @type {any} */ level, /** @type {number} */ index) => ({ index, height: level.height }));
    return found.sort((/** @type {Quality} */ a, /** @type {Quality} */ b) => b.height - a.height);
  }

  /** The chosen quality's index; -1: by itself. */
  get quality() {
    return this.#hls && !this.#hls.autoLevelEnabled ? this.#hls.manualLevel : -1;
  }

  /** The height that is shown now, in lines; 0 when unknown. */
  get height() {
    return this.#hls?.levels?.[this.#hls.currentLevel]?.height ?? this.video.videoHeight ?? 0;
  }

  /** The viewer's tier, once there is an address. */
  get tier() {
    return this.#address?.tier ?? null;
  }

  /** Seconds behind the camera, as far as it can be told; null before. */
  get latency() {
    const at = this.#hls?.playingDate?.getTime();
    return at ? Math.max(0, (Date.now() - at) / 1000) : null;
  }

  /** Whether what is shown is so old that going to live would skip something. */
  get behind() {
    const edge = this.#hls ? this.#hls.liveSyncPosition : this.#nativeEdge();
    return edge !== null && edge - this.video.currentTime > BEHIND_SECONDS;
  }

  /** @param {number} index of `qualities`, or -1 */
  choose(index) {
    if (this.#hls) this.#hls.nextLevel = index;
  }

  /** Skip to the newest that can be played. */
  goLive() {
    const edge = this.#hls ? this.#hls.liveSyncPosition : this.#nativeEdge();
    if (edge !== null) this.video.currentTime = edge;
    this.video.play().catch(() => this.onSilent());
  }

  /**
   * Play the room's broadcast as soon as it has something to show.
   * @param {string} roomId
   */
  async play(roomId) {
    this.stop();
    this.#roomId = roomId;
    this.onState("loading");
    await this.#begin(this.#generation);
  }

  /** Show nothing more, and ask for nothing more. */
  stop() {
    this.#generation += 1;
    this.#roomId = "";
    this.#address = this.#loaded = null;
    for (const timer of [this.#renewTimer, this.#retryTimer, this.#stallTimer]) window.clearTimeout(timer);
    this.#hls?.destroy();
    this.#hls = null;
    this.video.playbackRate = 1;
    if (this.video.src) {
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  /** Ask again now: what the viewer may watch has changed. */
  async renew() {
    const generation = this.#generation;
    try {
      const address = await this.#ask();
      if (generation !== this.#generation) return;
      this.#address = address;
      this.#renewLater();
      if (!this.#loaded || same(this.#loaded, address)) return;
      // Another broadcast, or another tier with other qualities: from the top, at the live edge.
      if (address.ready) await this.#load(generation);
      else this.#retry(NOT_READY_MS);
    } catch (error) {
      if (generation !== this.#generation) return;
      // No answer is no reason to stop what plays: the old address is good for a while.
      if (this.#hls && (isPassing(error) || (this.#plays && isUnavailable(error)))) this.#renewLater(this.#pause());
      else this.#failed(error);
    }
  }

  /** @param {number} generation */
  async #begin(generation) {
    try {
      const address = await this.#ask();
      if (generation !== this.#generation) return;
      this.#address = address;
      if (!address.ready) {
        this.#retry(NOT_READY_MS);
        return;
      }
      this.#renewLater();
      this.onAddress(address);
      if (this.#loaded && same(this.#loaded, address) && this.#resume()) {
        // What never stopped does not begin: the page would wait for ever to hear of it.
        if (this.#plays) this.#isPlaying();
        return;
      }
      await this.#load(generation);
    } catch (error) {
      if (generation === this.#generation) this.#failed(error);
    }
  }

  /** @returns {Promise<Address>} */
  #ask() {
    return api.post("/api/streaming/spectate", { roomId: this.#roomId });
  }

  /** @param {number} generation */
  async #load(generation) {
    const { default: Hls } = await import(HLS);
    if (generation !== this.#generation || !this.#address) return;
    this.#loaded = this.#address;
    this.#hls?.destroy();
    this.#hls = null;
    if (!Hls.isSupported()) {
      this.video.src = this.#address.streamUrl;
      this.#start();
      return;
    }
    const lowLatency = this.#address.lowLatency && !this.#cautious;
    this.#waits = [];
    this.#resumed = false;
    const hls = new Hls({
      workerPath: HLS_WORKER,
      lowLatencyMode: lowLatency,
      // In low latency the playlist says how far to stay behind.
      liveSyncDuration: lowLatency ? undefined : 3,
      liveMaxLatencyDuration: lowLatency ? undefined : 10,
      maxLiveSyncPlaybackRate: CATCH_UP_RATE,
      backBufferLength: 10,
      capLevelToPlayerSize: true,
      ...loadPolicies(Hls.DefaultConfig),
      xhrSetup: (/** @type {XMLHttpRequest} */ xhr, /** @type {string} */ url) => {
        const fresh = this.#fresh(url);
        if (fresh !== url) xhr.open("GET", fresh, true);
      },
    });
    this.#hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      this.onQualities();
      this.#start();
    });
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.onQualities());
    hls.on(Hls.Events.FRAG_BUFFERED, () => {
      this.#retryMs = FIRST_RETRY_MS;
      this.#resumed = false;
    });
    hls.on(Hls.Events.ERROR, (/** @type {string} */ _name, /** @type {any} */ data) => {
      if (hls === this.#hls && data.fatal) this.#fatal(Hls, data);
    });
    hls.loadSource(this.#address.streamUrl);
    hls.attachMedia(this.video);
  }

  #start() {
    this.video.play().catch((error) => {
      if (error.name === "NotAllowedError") this.onSilent();
    });
  }

  /** The same file by the newest address. @param {string} url */
  #fresh(url) {
    const newest = SIGNED.exec(this.#address?.streamUrl ?? "");
    const asked = SIGNED.exec(url);
    if (!newest || !asked || new URL(newest[1], location.href).href !== new URL(asked[1], location.href).href) return url;
    return new URL(newest[0], location.href).href + url.slice(asked[0].length);
  }

  /** @param {number} [milliseconds] unless the address says when */
  #renewLater(milliseconds) {
    window.clearTimeout(this.#renewTimer);
    const left = new Date(this.#address?.expiresAt ?? 0).getTime() - Date.now();
    // The browser's clock may be wrong; half of any sane life is early enough.
    const pause = milliseconds ?? Math.min(Math.max(left / 2, 10_000), LONGEST_SILENCE_MS);
    this.#renewTimer = window.setTimeout(() => void this.renew(), pause);
  }

  /** @param {any} Hls @param {any} data */
  #fatal(Hls, data) {
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR) {
      this.#hls.recoverMediaError();
      return;
    }
    // What is buffered plays on; that it stands still says the video itself.
    this.#retry();
  }

  /** Go on with what is loaded, once; false when there is nothing to go on with, or that did not help. */
  #resume() {
    if (!this.#hls?.levels?.length || this.#resumed) return false;
    this.#resumed = true;
    this.#hls.startLoad();
    return true;
  }

  /** Whether the picture moves, with something left to play. */
  get #plays() {
    return !this.video.paused && this.video.readyState > HTMLMediaElement.HAVE_CURRENT_DATA;
  }

  /** @param {unknown} error */
  #failed(error) {
    if (error instanceof ApiError && ["STREAM_NOT_LIVE", "ROOM_NOT_FOUND"].includes(error.code)) this.#over();
    else if (error instanceof ApiError && ["BLOCKED", "BARRED"].includes(error.code)) this.#refused(error);
    else {
      // While something is left to play, the page has nothing to say yet.
      if (error instanceof ApiError && isUnavailable(error) && !this.#plays) this.onRefused(error);
      this.#retry();
    }
  }

  /** @param {number} [milliseconds] unless it is to be longer each time */
  #retry(milliseconds) {
    const generation = this.#generation;
    window.clearTimeout(this.#retryTimer);
    this.#retryTimer = window.setTimeout(() => void this.#begin(generation), milliseconds ?? this.#pause());
  }

  /** Milliseconds until the next try, longer each time. */
  #pause() {
    const pause = this.#retryMs * (1 + Math.random() / 2);
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
    return pause;
  }

  /** @param {ApiError} error */
  #refused(error) {
    this.stop();
    this.onRefused(error);
  }

  #over() {
    if (!this.active) return;
    this.stop();
    this.onEnded();
  }

  #isPlaying() {
    window.clearTimeout(this.#stallTimer);
    if (this.active) this.onState("playing");
  }

  #mayStall() {
    window.clearTimeout(this.#stallTimer);
    if (this.active) this.#stallTimer = window.setTimeout(() => this.onState("stalled"), STALLED_MS);
  }

  /** In low latency: too often, and from here on whole segments and their longer buffer. */
  #waited() {
    if (!this.active || !this.#hls) return;
    if (!this.#hls.lowLatencyMode) {
      // What comes next comes just in time: slower, and the one stall is not followed by more.
      if (this.video.played.length && !this.video.seeking) this.video.playbackRate = SLOW_RATE;
      return;
    }
    const now = performance.now();
    this.#waits = [...this.#waits.filter((at) => now - at < WAITS_MS), now];
    if (this.#waits.length < MOST_WAITS) return;
    this.#cautious = true;
    void this.#load(this.#generation);
  }

  /** What a stall cost is played a little faster, not kept for good; who has hardly anything left plays slower. */
  #pace() {
    const hls = this.#hls;
    if (!hls || hls.lowLatencyMode || hls.targetLatency === null) return;
    const late = hls.latency - hls.targetLatency;
    const ahead = hls.mainForwardBufferInfo?.len ?? 0;
    const rate = this.video.playbackRate;
    if (ahead < SHORT_SECONDS) this.video.playbackRate = SLOW_RATE;
    else if (late > LATE_SECONDS && ahead > AHEAD_SECONDS) this.video.playbackRate = CATCH_UP_RATE;
    else if (rate > 1 && (late < IN_TIME_SECONDS || ahead < AHEAD_SECONDS / 2)) this.video.playbackRate = 1;
    else if (rate < 1 && ahead > AHEAD_SECONDS) this.video.playbackRate = 1;
  }

  #nativeEdge() {
    const ranges = this.video.seekable;
    return ranges.length ? ranges.end(ranges.length - 1) - 3 : null;
  }
}

/** Whether both lead to the same files. @param {Address} one @param {Address} other */
function same(one, other) {
  return one.broadcastId === other.broadcastId && one.tier === other.tier;
}

/** Whether nobody answered, or with nothing that says anything about the viewer. @param {unknown} error */
function isPassing(error) {
  if (!(error instanceof ApiError)) return false;
  return [0, 429].includes(error.status) || (error.status >= 500 && !isUnavailable(error));
}

/** There is no broadcast, or the house itself lacks something, such as its database. @param {unknown} error */
function isUnavailable(error) {
  return error instanceof ApiError && error.code === "UNAVAILABLE";
}
