/**
 * The private call of two: an SFUClient that owns the other one's picture and sound, and ends them in order.
 *
 * On `TERMINATE_CALL`: picture black and sound muted at once; camera and microphone released, both peer
 * connections closed; the message, announced; after one second the redirect. The server has stopped
 * forwarding before it says so, therefore nothing here is what protects anybody: it is manners.
 */
import { endMessage } from "./protocol.js";
import { SFUClient } from "./sfu_client.js";

const REDIRECT_AFTER_MS = 1_000;

/**
 * @typedef {import("./sfu_client.js").SFUClientOptions & {
 *   keepCamera?: boolean, redirect?: boolean, showMessage?: (text: string, reason: string) => void
 * }} PrivateCallOptions keepCamera: the creator's camera stays on for the public stream; redirect false: the
 *   page goes on by itself in `onTerminated`; showMessage: instead of the message over the picture
 */

export class PrivateCallClient extends SFUClient {
  /** The browser wants a press before it plays sound; then call `play()`. */
  onPlayBlocked = () => {};

  #video = null;
  #audio = null;
  #ended = false;

  /**
   * @param {string} roomId
   * @param {string|null} userId
   * @param {import("./camera_service.js").CameraService|null} [cameraService]
   * @param {PrivateCallOptions} [options]
   */
  constructor(roomId, userId, cameraService = null, options = {}) {
    super(roomId, userId, cameraService, { longestRetryMs: 4_000, ...options });
  }

  /** The id of the session whose room this is. */
  get sessionId() {
    return this.joined?.session?.sessionId ?? this.roomId.replace(/^private-/, "");
  }

  /**
   * Where the other one is seen and heard.
   * @param {HTMLVideoElement} video
   * @param {HTMLAudioElement|null} [audio] null: the video element plays the sound too
   */
  attachStreamElements(video, audio = null) {
    this.#video = video;
    this.#audio = audio;
    video.playsInline = true;
    video.muted = audio !== null;
    for (const stream of this.streams.values()) this.#attach(stream);
  }

  /** Starts picture and sound; needed after `onPlayBlocked`, from within a press. */
  async play() {
    for (const element of [this.#video, this.#audio]) {
      if (!element?.srcObject) continue;
      try {
        await element.play();
      } catch (error) {
        if (error.name === "NotAllowedError") this.onPlayBlocked();
      }
    }
  }

  /** Leaves for good and lets the camera go, unless it is to stay on. */
  leave() {
    super.leave();
    this.#black();
    this.#releaseCamera();
  }

  /** @override @protected */
  remoteStream(stream, userId) {
    this.#attach(stream);
    super.remoteStream(stream, userId);
  }

  /** @override @protected */
  terminated(reason, redirectUrl) {
    if (this.#ended) return;
    this.#ended = true;
    this.#black();
    this.#releaseCamera();
    this.close();
    this.#say(reason);
    if (this.options.redirect !== false) {
      setTimeout(() => location.assign(this.#destination(reason, redirectUrl)), REDIRECT_AFTER_MS);
    }
    this.onTerminated(reason, redirectUrl);
  }

  #attach(stream) {
    for (const element of [this.#video, this.#audio]) {
      if (element && element.srcObject !== stream) element.srcObject = stream;
    }
    void this.play();
  }

  /** `load()` after letting go of the stream drops the decoded frame too; else the last one would stay. */
  #black() {
    for (const element of [this.#video, this.#audio]) {
      if (!element) continue;
      element.muted = true;
      element.srcObject = null;
      element.removeAttribute("poster");
      element.load();
    }
    this.#video?.style.setProperty("background-color", "#000");
  }

  #releaseCamera() {
    if (!this.options.keepCamera) this.camera?.stopCamera();
  }

  #say(reason) {
    const text = endMessage(reason);
    if (this.options.showMessage) {
      this.options.showMessage(text, reason);
      return;
    }
    const over = document.createElement("div");
    over.className = "tile__over tile__over--black";
    over.setAttribute("role", "alert");
    over.append(document.createElement("p"));
    over.firstElementChild.textContent = text;
    (this.#video?.parentElement ?? document.body).append(over);
  }

  /** Never to another site, whatever the server says. */
  #destination(reason, redirectUrl) {
    const wanted = new URL(redirectUrl || "/models", location.href);
    const url = wanted.origin === location.origin ? wanted : new URL("/models", location.href);
    url.searchParams.set("ended", reason);
    url.searchParams.set("session", this.sessionId);
    return url.href;
  }
}
