/**
 * The lobby: the own camera and microphone before anybody else has them.
 *
 * Brings templates/partials/lobby.html to life. Knows devices and their failures; not rooms, not requests.
 */
import { CameraError, CameraService } from "./camera_service.js";
import { loadChoice, saveChoice } from "./devices.js";
import { LevelMeter } from "./level_meter.js";
import { announce, icon } from "./ui.js";

/** A feed that is lost for less than this is not worth a word. */
const OFFLINE_AFTER_MS = 3_000;

export class Lobby {
  /** Called when the camera came, went or changed. */
  onChange = () => {};

  /** @type {CameraError|null} why there is no camera */
  error = null;

  #root;
  #parts = new Map();
  #meter;
  #wanted = false;
  #offline = 0;
  #connected = true;

  /**
   * @param {HTMLElement} root
   * @param {{camera?: CameraService}} [options] a camera that outlives the lobby
   */
  constructor(root, { camera = new CameraService() } = {}) {
    this.#root = root;
    this.camera = camera;
    for (const part of root.querySelectorAll("[data-lobby]")) this.#parts.set(part.dataset.lobby, part);
    this.#meter = new LevelMeter((bars) => this.#showLevel(bars));
    const choice = loadChoice();
    camera.cameraId ||= choice.cameraId;
    camera.microphoneId ||= choice.microphoneId;
    if (this.#part("watch")) this.#part("watch").checked = choice.watchOnly;
    this.#wire();
  }

  /** Whether the person wants no camera at all. */
  get watchOnly() {
    return this.#part("watch")?.checked ?? false;
  }

  /** Opens the camera unless the person watches only; never throws, the lobby itself says what is wrong. */
  async start() {
    this.#wanted = true;
    this.error = null;
    this.#help("");
    if (this.watchOnly) {
      this.camera.stopCamera();
    } else {
      this.#cover("Starting your camera…", "Allow camera and microphone when the browser asks.");
      try {
        await this.camera.startCamera();
      } catch (error) {
        if (this.#wanted && !this.watchOnly) this.#fail(error);
      }
    }
    await this.#show();
  }

  /**
   * Says whether the live connection is there: what blocks it would keep its owner out of the call too.
   * @param {import("./events_client.js").EventsClient} events
   */
  watchConnection(events) {
    const lost = () => {
      clearTimeout(this.#offline);
      this.#offline = setTimeout(() => this.#showConnection(events.connected), OFFLINE_AFTER_MS);
    };
    events.on("connected", () => this.#showConnection(true));
    events.on("disconnected", lost);
    if (events.connected) this.#showConnection(true);
    else lost();
  }

  /** Lets camera and microphone go. */
  stop() {
    this.pause();
    this.camera.stopCamera();
  }

  /** Hides the preview and leaves the camera on, for whoever publishes it now. */
  pause() {
    this.#wanted = false;
    this.#meter.stop();
    this.#part("tile").querySelector("video").srcObject = null;
  }

  #part(name) {
    return this.#parts.get(name) ?? null;
  }

  #wire() {
    this.#part("retry").addEventListener("click", () => this.start());
    this.#part("watch")?.addEventListener("change", () => {
      this.#save();
      void this.start();
    });
    this.#part("camera").addEventListener("change", (event) => this.#choose("chooseCamera", event.target.value));
    this.#part("microphone").addEventListener("change", (event) => this.#choose("chooseMicrophone", event.target.value));
    this.camera.addEventListener("trackchange", () => this.#wanted && void this.#show());
    this.camera.addEventListener("devicechange", () => this.#wanted && void this.#listDevices());
  }

  async #choose(way, deviceId) {
    this.error = null;
    try {
      await this.camera[way](deviceId);
    } catch (error) {
      this.#fail(error);
    }
    this.#save();
    await this.#show();
  }

  #save() {
    saveChoice({
      cameraId: this.camera.cameraId, microphoneId: this.camera.microphoneId, watchOnly: this.watchOnly,
    });
  }

  #fail(error) {
    this.error = CameraError.from(error);
    announce(this.error.words, "alert");
  }

  async #show() {
    const { videoTrack, audioTrack, stream } = this.camera;
    const video = this.#part("tile").querySelector("video");
    if (video.srcObject !== stream) video.srcObject = stream;
    this.#part("tile").classList.toggle("tile--mirror", this.camera.mirrored);
    this.#part("mark").hidden = !videoTrack;
    this.#part("over").hidden = Boolean(videoTrack);
    if (this.error) this.#cover("No picture", this.error.words, this.error.help);
    else if (this.watchOnly) this.#cover("Watch and listen only", "Your camera and microphone stay off.");
    else if (videoTrack) this.#help("");
    this.#state("camera-state", Boolean(videoTrack), videoTrack ? "Camera ready" : "Camera off");
    this.#state("microphone-state", Boolean(audioTrack), audioTrack ? "Microphone" : "Microphone off");
    this.#part("level").hidden = !audioTrack;
    this.#meter.listen(audioTrack);
    await this.#listDevices();
    this.onChange();
  }

  /** Words over the picture; with `help`, the steps for it below. */
  #cover(title, words, help = "") {
    this.#part("over").hidden = false;
    this.#part("title").textContent = title;
    this.#part("words").textContent = words;
    this.#part("retry").hidden = !help;
    this.#help(help);
  }

  #showConnection(connected) {
    this.#connected = connected;
    this.#state("connection-state", connected, connected ? "Connection ready" : "No live connection");
    if (!connected) announce("No live connection.", "alert");
    this.#help(this.error?.help ?? "");
  }

  /** The steps against one trouble; the camera's come before the connection's. */
  #help(help) {
    const shown = help || (this.#connected ? "" : "no-websocket");
    this.#part("help").hidden = !shown;
    for (const text of this.#root.querySelectorAll("[data-help]")) text.hidden = text.dataset.help !== shown;
  }

  #state(name, ready, words) {
    const item = this.#part(name);
    item.querySelector(".icon, .dot").replaceWith(ready ? icon("check") : dot());
    item.querySelector("span:not(.dot)").textContent = words;
  }

  async #listDevices() {
    const { cameras, microphones } = await this.camera.listDevices();
    fill(this.#part("camera"), cameras, this.camera.videoTrack, "No camera");
    fill(this.#part("microphone"), microphones, this.camera.audioTrack, "No microphone");
  }

  #showLevel(bars) {
    [...this.#part("level").children].forEach((bar, at) => bar.classList.toggle("is-on", at < bars));
  }
}

function dot() {
  const mark = document.createElement("span");
  mark.className = "dot";
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

/** Puts devices into a select, the one in use chosen. */
function fill(select, devices, track, none) {
  const options = devices.map((device) => new Option(device.label, device.deviceId));
  select.replaceChildren(...(options.length ? options : [new Option(none, "")]));
  select.disabled = !track || options.length < 2;
  const used = track?.getSettings().deviceId;
  if (used) select.value = used;
}
