// @ts-check
/**
 * The public stream's picture on a creator's page: a seat in the room, or the broadcast where there is none; says
 * over the picture what is the matter. Knows nothing of money or requests.
 */
import { SFUClient } from "../sfu_client.js";
import { SpectatorPlayer } from "../spectator_player.js";
import { icon } from "../ui.js";
import { showPicture } from "./live_picture.js";
import { SpectatorBar } from "./spectator_bar.js";

const FULL_RETRY_MS = 10_000;

export class Player {
  /** The stream has become private, or has ended. @type {(reason: string) => void} */
  onGone = () => {};
  /** A seat is taken: one more is watching. @type {() => void} */
  onSeated = () => {};
  /** The quality for subscribers is wanted. @type {() => void} */
  onPremium = () => {};

  /** @param {HTMLElement} tile @param {string} userId the watcher's own id */
  constructor(tile, userId) {
    this.tile = tile;
    this.userId = userId;
    this.video = /** @type {HTMLVideoElement} */ (tile.querySelector("video"));
    this.bar = /** @type {HTMLElement} */ (tile.querySelector("#player-bar"));
    this.soundButton = /** @type {HTMLButtonElement} */ (tile.querySelector("#sound"));
    /** Publishes too, where that is wanted. @type {import("../camera_service.js").CameraService | null} */
    this.camera = null;
    /** @type {SFUClient | null} */
    this.client = null;
    this.roomId = "";
    this.seatless = false;
    this.timer = 0;
    this.spectator = new SpectatorPlayer(this.video);
    this.spectatorBar = new SpectatorBar(tile, this.spectator);
    this.wireSpectator();
    this.soundButton.addEventListener("click", () => this.setSound(this.video.muted));
    tile.querySelector("#full")?.addEventListener("click", () => this.toggleFullScreen());
    for (const button of tile.querySelectorAll("[data-retry]")) button.addEventListener("click", () => this.watch(this.roomId));
    window.addEventListener("pagehide", () => this.stop());
  }

  /** Show one overlay, or the picture alone. @param {string} name of [data-over], or "" */
  over(name) {
    for (const layer of /** @type {NodeListOf<HTMLElement>} */ (this.tile.querySelectorAll("[data-over]"))) {
      layer.hidden = layer.dataset.over !== name;
    }
    const playing = name === "" || name === "stalled";
    this.video.hidden = !playing;
    this.bar.hidden = !playing;
  }

  /** Take a seat in the room and show what comes. @param {string} roomId */
  async watch(roomId) {
    this.stop();
    this.roomId = roomId;
    this.over("joining");
    const client = new SFUClient(roomId, this.userId, this.camera);
    this.client = client;
    client.onRemoteStream = (stream, userId) => this.show(stream, userId);
    client.onRemoteStreamRemoved = (userId) => this.gone(userId);
    client.onActiveSpeaker = (userId) => client === this.client && this.speaks(userId);
    client.onTrackState = (_userId, kind, state, cause) => {
      // Left out for now because others speak: what is shown beside it goes on.
      if (cause) return;
      if (kind === "video" && client === this.client && this.video.srcObject) this.over(state === "on" ? "" : "stalled");
    };
    client.onTerminated = (reason) => this.terminated(client, reason);
    client.onLost = (error) => this.failed(client, error);
    client.onRetry = (error) => {
      if (client === this.client && error.code === "NO_WEBSOCKET" && !client.joined) this.lost(error.message);
    };
    client.onJoined = () => this.onSeated();
    client.onConnectionState = (state) => {
      if (client === this.client && state === "reconnecting") this.over("stalled");
    };
    try {
      await client.joinAsParticipant({ publish: this.camera !== null });
    } catch (error) {
      this.failed(client, /** @type {any} */ (error));
    }
  }

  /** Somebody speaks, or spoke last: of one picture there is nothing to say. @param {string} _userId */
  speaks(_userId) {}

  /** Watch the broadcast. @param {string} roomId @param {boolean} [seatless] because every seat is taken */
  spectate(roomId, seatless = false) {
    this.stop();
    this.roomId = roomId;
    this.seatless = seatless;
    this.over("joining");
    this.spectatorBar.show();
    void this.spectator.play(roomId);
  }

  /** What the watcher may see has changed: it is shown without a break of the page. */
  renew() {
    if (this.spectator.active) void this.spectator.renew();
  }

  /** @private */
  wireSpectator() {
    this.spectator.onState = (state) => {
      if (state === "playing") {
        this.over("");
        this.setSound(!this.video.muted);
      } else this.over(state === "stalled" ? "stalled" : "joining");
    };
    this.spectatorBar.onPremium = () => this.onPremium();
    this.spectator.onAddress = ({ posterUrl }) => showPicture(this.tile, posterUrl);
    this.spectator.onSilent = () => {
      this.setSound(false);
      this.video.play().catch(() => this.over("lost"));
    };
    this.spectator.onEnded = () => this.onGone("STREAM_ENDED");
    this.spectator.onRefused = (error) => {
      if (!this.seatless || error.code !== "UNAVAILABLE") return this.lost(error.message);
      // Neither a seat nor a broadcast: the next seat that is free.
      this.stop();
      this.again("full", FULL_RETRY_MS);
    };
  }

  /** Leave the seat; the page shows no picture until `watch` is called again. */
  stop() {
    window.clearTimeout(this.timer);
    const client = this.client;
    this.client = null;
    client?.leave();
    this.spectator.stop();
    this.spectatorBar.hide();
    this.video.srcObject = null;
  }

  /** @protected A publisher has left; the one picture of a stream stays until the room says more. @param {string} _userId */
  gone(_userId) {}

  /** @protected @param {MediaStream} stream @param {string} _userId whose it is */
  async show(stream, _userId) {
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    this.over("");
    try {
      await this.video.play();
    } catch (error) {
      // Sound before a press is refused by many browsers: then the picture starts silent, and the button says so.
      if (/** @type {Error} */ (error).name !== "NotAllowedError") return;
      this.setSound(false);
      await this.video.play().catch(() => this.over("lost"));
    }
    this.setSound(!this.video.muted);
  }

  /** @protected @param {boolean} on */
  setSound(on) {
    this.video.muted = !on;
    this.soundButton.replaceChildren(icon(on ? "sound" : "quiet"), document.createTextNode(`Turn sound ${on ? "off" : "on"}`));
  }

  /** @private */
  toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.tile.requestFullscreen) this.tile.requestFullscreen().catch((error) => console.warn("no full screen", error));
    else /** @type {any} */ (this.video).webkitEnterFullscreen?.(); // an iPhone puts only the video itself on the full screen
  }

  /** @private @param {SFUClient} client @param {string} reason */
  terminated(client, reason) {
    if (client !== this.client) return;
    this.client = null;
    this.video.srcObject = null;
    if (reason === "REPLACED") this.over("elsewhere");
    else if (reason === "MEDIA_FAILURE") this.again("joining", 1_000);
    else {
      this.over("joining");
      this.onGone(reason);
    }
  }

  /** @private @param {SFUClient} client @param {{code?: string, message: string}} error */
  failed(client, error) {
    if (client !== this.client) return;
    this.client = null;
    this.video.srcObject = null;
    if (error.code === "ROOM_FULL" && error.message.includes("/live/")) this.spectate(this.roomId, true);
    else if (error.code === "ROOM_FULL") this.again("full", FULL_RETRY_MS);
    else if (error.code === "ROOM_NOT_FOUND") this.onGone("STREAM_ENDED");
    else this.lost(error.message);
  }

  /** @private @param {string} message why there is no picture */
  lost(message) {
    const words = this.tile.querySelector("[data-lost-words]");
    if (words) words.textContent = message;
    this.over("lost");
  }

  /** @private Try the same room again after a while. @param {string} over @param {number} milliseconds */
  again(over, milliseconds) {
    this.over(over);
    this.timer = window.setTimeout(async () => {
      await this.watch(this.roomId);
    }, milliseconds * (1 + Math.random() / 2));
  }
}
