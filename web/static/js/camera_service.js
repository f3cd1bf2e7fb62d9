/**
 * The camera and the microphone of this device: opened, switched, looked at, and let go of completely.
 *
 * Knows nothing of rooms, sockets or pages. Whoever publishes the tracks listens for `trackchange` and
 * puts the new track into its sender (W3C WebRTC `replaceTrack`), so that switching never renegotiates.
 */

const PICTURE = Object.freeze({ width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } });
const SOUND = Object.freeze({ echoCancellation: true, noiseSuppression: true, autoGainControl: true });

/** Every way a camera can fail, in words for people and with the anchor of its help text. */
export const CAMERA_ERRORS = Object.freeze({
  NO_HTTPS: {
    words: "Camera and microphone need a secure address. Open this site with https:// and try again.",
    help: "no-https",
  },
  CAMERA_REFUSED: {
    words: "The browser was told not to use the camera. Allow camera and microphone next to the address, then try again.",
    help: "camera-refused",
  },
  CAMERA_NOT_FOUND: { words: "No camera was found. Connect one, then try again.", help: "no-camera" },
  CAMERA_BUSY: {
    words: "Another program or tab is using the camera. Close it there, then try again.",
    help: "camera-busy",
  },
  ONE_CAMERA: { words: "This device has one camera only.", help: "no-camera" },
  CAMERA_FAILED: { words: "The camera could not be started. Try again, or choose another one.", help: "camera-busy" },
});

const CODES_BY_NAME = Object.freeze({
  NotAllowedError: "CAMERA_REFUSED",
  SecurityError: "CAMERA_REFUSED",
  NotFoundError: "CAMERA_NOT_FOUND",
  OverconstrainedError: "CAMERA_NOT_FOUND",
  NotReadableError: "CAMERA_BUSY",
  AbortError: "CAMERA_BUSY",
});

/** Why there is no camera: `code` for programs, `words` for people, `help` an anchor of the help text. */
export class CameraError extends Error {
  /**
   * @param {keyof typeof CAMERA_ERRORS} code
   * @param {unknown} [cause]
   */
  constructor(code, cause) {
    super(CAMERA_ERRORS[code].words, { cause });
    this.name = "CameraError";
    this.code = code;
    this.words = CAMERA_ERRORS[code].words;
    this.help = CAMERA_ERRORS[code].help;
  }

  /**
   * @param {unknown} error what getUserMedia threw (W3C Media Capture and Streams §10)
   * @returns {CameraError}
   */
  static from(error) {
    if (error instanceof CameraError) return error;
    const name = error instanceof Error ? error.name : "";
    return new CameraError(CODES_BY_NAME[name] ?? "CAMERA_FAILED", error);
  }
}

/** @typedef {{deviceId: string, label: string}} Device */
/** @typedef {"user"|"environment"} Facing */

/**
 * One camera and one microphone.
 *
 * `stream` stays the same object for as long as the camera is on; its tracks come and go.
 * Events: `trackchange` (`detail: {kind, track}`, track null when it went away), `devicechange`.
 */
export class CameraService extends EventTarget {
  /** Called with (kind, track) at each change; awaited, so that a published sender follows first.
   *  @type {((kind: "audio"|"video", track: MediaStreamTrack|null) => unknown)|null} */
  ontrackchange = null;

  /** @type {MediaStream|null} */
  stream = null;

  /** @type {Facing} */
  facing = "user";

  /** What the person chose, kept from the lobby to the call. */
  cameraId = "";
  microphoneId = "";

  #queue = Promise.resolve();
  #generation = 0;
  #enabled = { audio: true, video: true };
  #devices;

  /** @param {{mediaDevices?: MediaDevices}} [options] another source of devices, for integrators */
  constructor({ mediaDevices } = {}) {
    super();
    this.#devices = mediaDevices ?? globalThis.navigator?.mediaDevices;
    this.#devices?.addEventListener?.("devicechange", () => this.dispatchEvent(new Event("devicechange")));
  }

  /** @returns {MediaStreamTrack|null} */
  get videoTrack() {
    return this.stream?.getVideoTracks()[0] ?? null;
  }

  /** @returns {MediaStreamTrack|null} */
  get audioTrack() {
    return this.stream?.getAudioTracks()[0] ?? null;
  }

  get active() {
    return this.stream !== null;
  }

  /** Whether a preview should be mirrored: people know themselves from mirrors, not rooms. */
  get mirrored() {
    return this.videoTrack?.getSettings().facingMode !== "environment";
  }

  /**
   * Opens camera and microphone, 1280×720 at 30 frames a second where the camera can.
   * A device without that camera gives another one; one without microphone gives picture only.
   * @param {Facing} [facing]
   * @returns {Promise<MediaStream>}
   * @throws {CameraError}
   */
  startCamera(facing = this.facing) {
    return this.#inTurn((generation) => this.#start(facing, generation));
  }

  /**
   * Goes to the other camera: front to back on a phone, the next one elsewhere.
   * @returns {Promise<MediaStream>}
   * @throws {CameraError} ONE_CAMERA, and the present camera stays on
   */
  toggleCamera() {
    return this.#inTurn(async (generation) => {
      const { cameras } = await this.listDevices();
      if (cameras.length < 2) throw new CameraError("ONE_CAMERA");
      const present = this.videoTrack?.getSettings() ?? {};
      const facing = this.facing === "user" ? "environment" : "user";
      const next = cameras[(cameras.findIndex((camera) => camera.deviceId === present.deviceId) + 1) % cameras.length];
      const wishes = present.facingMode
        ? [{ facingMode: { exact: facing } }, { deviceId: { exact: next.deviceId } }]
        : [{ deviceId: { exact: next.deviceId } }];
      await this.#changePicture(wishes, generation);
      this.facing = facing;
      this.cameraId = this.videoTrack?.getSettings().deviceId ?? "";
      return this.#stream();
    });
  }

  /**
   * Uses this camera from now on, published or not.
   * @param {string} deviceId
   * @returns {Promise<MediaStream>}
   */
  chooseCamera(deviceId) {
    return this.#inTurn(async (generation) => {
      this.cameraId = deviceId;
      if (!this.stream) return this.#start(this.facing, generation);
      await this.#changePicture([{ deviceId: { exact: deviceId } }], generation);
      return this.#stream();
    });
  }

  /**
   * Uses this microphone from now on.
   * @param {string} deviceId
   * @returns {Promise<MediaStream>}
   */
  chooseMicrophone(deviceId) {
    return this.#inTurn(async (generation) => {
      this.microphoneId = deviceId;
      if (!this.stream) return this.#start(this.facing, generation);
      const fresh = await this.#open({ audio: this.#sound() }, generation);
      await this.#swap("audio", fresh.getAudioTracks()[0]);
      return this.#stream();
    });
  }

  /**
   * The present picture.
   * @returns {Promise<Blob>} image/jpeg in the camera's own size
   * @throws {CameraError} CAMERA_NOT_FOUND while the camera is off
   */
  async captureFrame() {
    const track = this.videoTrack;
    if (!track) throw new CameraError("CAMERA_NOT_FOUND");
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = new MediaStream([track]);
    try {
      await video.play();
      if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
        await new Promise((resolve) => video.addEventListener("loadeddata", resolve, { once: true }));
      }
      const canvas = document.createElement("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      return await new Promise((resolve, reject) => {
        canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new CameraError("CAMERA_FAILED"))), "image/jpeg", 0.9);
      });
    } finally {
      video.srcObject = null;
    }
  }

  /** Releases camera and microphone, also those that are only now being opened. Safe to repeat. */
  stopCamera() {
    this.#generation += 1;
    const stream = this.stream;
    this.stream = null;
    for (const track of stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
      stream.removeTrack(track);
      this.#announce(track.kind, null);
    }
  }

  /**
   * Sends silence or black without letting go of the device.
   * @param {"audio"|"video"} kind
   * @param {boolean} enabled
   */
  setEnabled(kind, enabled) {
    this.#enabled[kind] = enabled;
    const track = kind === "audio" ? this.audioTrack : this.videoTrack;
    if (track) track.enabled = enabled;
  }

  /** @param {"audio"|"video"} kind */
  isEnabled(kind) {
    return this.#enabled[kind];
  }

  /**
   * What can be chosen; labels are empty until the person has allowed a camera once.
   * @returns {Promise<{cameras: Device[], microphones: Device[]}>}
   */
  async listDevices() {
    const all = (await this.#devices?.enumerateDevices()) ?? [];
    const of = (kind, word) =>
      all
        .filter((device) => device.kind === kind && device.deviceId !== "")
        .map((device, at) => ({ deviceId: device.deviceId, label: device.label || `${word} ${at + 1}` }));
    return { cameras: of("videoinput", "Camera"), microphones: of("audioinput", "Microphone") };
  }

  /** Operations follow one another: two cameras are never opened at once. */
  #inTurn(work) {
    const generation = this.#generation;
    const turn = this.#queue.then(() => {
      if (generation !== this.#generation) throw new CameraError("CAMERA_FAILED", "stopped before its turn");
      return work(generation);
    });
    this.#queue = turn.then(() => undefined, () => undefined);
    return turn.catch((error) => {
      throw CameraError.from(error);
    });
  }

  async #start(facing, generation) {
    if (!globalThis.isSecureContext || !this.#devices?.getUserMedia) throw new CameraError("NO_HTTPS");
    if (this.stream) return this.stream;
    const wishes = [{ facingMode: { exact: facing } }, { facingMode: { ideal: facing } }, {}];
    if (this.cameraId) wishes.unshift({ deviceId: { exact: this.cameraId } });
    const opened = await this.#firstThatOpens(wishes, generation);
    this.facing = facing;
    this.stream = new MediaStream();
    for (const track of opened.getTracks()) this.#put(track.kind, track);
    for (const track of opened.getTracks()) await this.#announce(track.kind, track);
    return this.#stream();
  }

  /** The first wish that a device fulfils, with sound; without sound when there is no microphone. */
  async #firstThatOpens(wishes, generation) {
    let missing;
    for (const audio of [this.#sound(), false]) {
      for (const wish of wishes) {
        try {
          return await this.#open({ video: { ...PICTURE, ...wish }, audio }, generation);
        } catch (error) {
          if (CameraError.from(error).code !== "CAMERA_NOT_FOUND") throw error;
          missing = error;
        }
      }
    }
    throw missing;
  }

  #sound() {
    return this.microphoneId ? { ...SOUND, deviceId: { ideal: this.microphoneId } } : SOUND;
  }

  async #open(constraints, generation) {
    const stream = await this.#devices.getUserMedia(constraints);
    if (generation === this.#generation) return stream;
    for (const track of stream.getTracks()) track.stop();
    throw new CameraError("CAMERA_FAILED", "stopped while it was being opened");
  }

  /** Phones open one camera at a time: the old one is let go first, and taken back if the new one fails. */
  async #changePicture(wishes, generation) {
    const old = this.videoTrack;
    const before = old?.getSettings().deviceId;
    if (old) {
      old.onended = null;
      old.stop();
    }
    let failure;
    for (const wish of [...wishes, ...(before ? [{ deviceId: { exact: before } }] : [])]) {
      try {
        const fresh = await this.#open({ video: { ...PICTURE, ...wish } }, generation);
        await this.#swap("video", fresh.getVideoTracks()[0]);
        if (failure && wish.deviceId?.exact === before) throw failure;
        return;
      } catch (error) {
        if (error === failure || generation !== this.#generation) throw error;
        failure = error;
      }
    }
    await this.#swap("video", null);
    throw failure;
  }

  async #swap(kind, track) {
    this.#put(kind, track);
    await this.#announce(kind, track);
  }

  #put(kind, track) {
    const stream = this.#stream();
    for (const old of stream.getTracks().filter((each) => each.kind === kind)) {
      old.onended = null;
      old.stop();
      stream.removeTrack(old);
    }
    if (track) {
      track.enabled = this.#enabled[kind];
      if (kind === "video") track.contentHint = "motion";
      track.onended = () => void this.#swap(kind, null);
      stream.addTrack(track);
    }
  }

  #stream() {
    if (!this.stream) throw new CameraError("CAMERA_FAILED", "stopped");
    return this.stream;
  }

  async #announce(kind, track) {
    this.dispatchEvent(new CustomEvent("trackchange", { detail: { kind, track } }));
    await this.ontrackchange?.(kind, track);
  }
}
