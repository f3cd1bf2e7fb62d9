/**
 * One private call from its beginning to its end: joins the room, drives the view, says how it ended.
 *
 * The same for both sides, on /call and inside the studio. Knows the seat, the camera and the view; what
 * comes after the call is the page's affair.
 */
import { ApiError, api } from "./api.js";
import { CallMeter } from "./call_meter.js";
import { CameraError } from "./camera_service.js";
import { PrivateCallClient } from "./private_call_client.js";
import { CallQuality } from "./quality.js";
import { announce, toast } from "./ui.js";

const DRAW_EVERY_MS = 250;
/** No end from the media node this long after we asked for one: then we leave by ourselves. */
const END_WITHIN_MS = 4_000;

/** @typedef {import("./call_bill.js").Session} Session */

export class CallSession {
  /** @type {(reason: string) => void} after the message is shown */
  onEnded = () => {};
  /** The session's figures were read again. */
  onRefreshed = () => {};

  #refreshing = false;
  #view;
  #camera;
  #client = null;
  #meter = null;
  #stops = [];
  #others = new Set();
  #quality = new CallQuality();
  #session;

  /**
   * @param {Session} session
   * @param {string} userId
   * @param {import("./call_view.js").CallView} view
   * @param {import("./camera_service.js").CameraService} camera
   * @param {{available: number, keepCamera?: boolean, redirect?: boolean, endWords: {camera: string, next: string, away?: string}}} options
   */
  constructor(session, userId, view, camera, options) {
    this.#session = session;
    this.#view = view;
    this.#camera = camera;
    this.#meter = new CallMeter(session);
    this.#client = new PrivateCallClient(session.roomId, userId, camera, {
      keepCamera: options.keepCamera,
      redirect: options.redirect,
      showMessage: (message) => view.end(message, options.endWords),
    });
    view.begin(session, options.available);
    view.muted(this.#client.isMuted("audio"));
    this.#wireClient();
    this.#wireView();
  }

  /** Joins; comes back when seated, or when it is over already. */
  async start() {
    this.#view.showSelf(this.#camera);
    const drawing = setInterval(() => this.#draw(), DRAW_EVERY_MS);
    this.#stops.push(() => clearInterval(drawing));
    this.#stops.push(this.#quality.watch(() => this.#client.peerConnections));
    this.#draw();
    try {
      await this.#client.joinAsParticipant({ publish: true });
    } catch (error) {
      await this.#lost(error);
    }
  }

  /** Opens the camera for a call that began without one; says on the page when that fails. */
  async openCamera() {
    try {
      await this.#camera.startCamera();
      this.#view.cameraNote("");
    } catch (error) {
      const { words, help } = CameraError.from(error);
      const without = this.#session.role === "fan" ? "You see and hear the call as usual." : "Without your picture the clock stands still.";
      this.#view.cameraNote(`${words} ${without}`, help);
    }
    this.#view.showSelf(this.#camera);
  }

  /** The room is gone and the server says why: the same end as if media had said it. @param {string} reason */
  endedElsewhere(reason) {
    this.#client.terminated(reason, "/models");
  }

  /** What the node says is paid for, in ms. */
  get paidMs() {
    return this.#meter.at(performance.now()).paidMs;
  }

  /** Minutes were added, or could not be: what is held, and what an end would cost, are other figures now. */
  async refresh() {
    if (this.#refreshing) return;
    this.#refreshing = true;
    try {
      const fresh = await api.get(`/api/streaming/private-sessions/${this.#session.sessionId}`);
      if (fresh.status === "ended" || this.#stops.length === 0) return;
      Object.assign(this.#session, fresh);
      this.#view.refreshed();
      this.#draw();
      this.onRefreshed();
    } catch (error) {
      console.warn("session_not_read", error.code); // the next clock asks again
    } finally {
      this.#refreshing = false;
    }
  }

  #draw() {
    const tracks = [...this.#client.streams.values()].flatMap((stream) => stream.getVideoTracks());
    const seen = tracks.some((track) => track.readyState === "live" && !track.muted);
    this.#view.show(this.#meter.at(performance.now()), { here: this.#others.size > 0, seen });
  }

  #wireClient() {
    const client = this.#client;
    client.attachStreamElements(this.#view.remoteVideo, this.#view.remoteAudio);
    client.onRetry = (error) => {
      // Said at the first attempt, not at the last: what keeps the fan away may cost the minimum.
      if (error.code === "NO_WEBSOCKET" && !client.joined) this.#view.notConnected(`${error.message} It is tried again by itself.`, "no-websocket");
    };
    client.onRecording = (state, elapsedMs) => this.#view.recording(state === "on", elapsedMs);
    this.#view.onStopRecording = () => client.stopRecording();
    client.onPlayBlocked = () => this.#view.soundBlocked(true);
    client.onClock = (clock) => {
      this.#meter.told(clock, performance.now());
      this.#draw();
      if (clock.paidMs !== this.#session.paidMs) void this.refresh();
    };
    client.onJoined = ({ participants }) => (this.#others = new Set(participants.map(({ userId }) => userId)));
    client.onParticipantJoined = (userId) => {
      this.#others.add(userId);
      this.#quality.told("theirs", null, performance.now());
    };
    client.onParticipantLeft = (userId) => {
      this.#others.delete(userId);
      this.#quality.told("theirs", "lost", performance.now());
    };
    client.onConnectionQuality = (userId, quality) => {
      this.#quality.told(userId === client.userId ? "own" : "theirs", quality, performance.now());
    };
    this.#quality.onChange = (side, quality) => this.#view.quality(side, quality);
    this.#quality.onNews = (side, quality) => this.#view.qualityNews(side, quality);
    client.onConnectionState = (state) => {
      if (state === "closed") return;
      this.#quality.reached(state !== "reconnecting", performance.now());
      this.#view.connection(state);
      this.#draw();
    };
    client.onTerminated = (reason) => this.#ended(reason);
    client.onLost = (error) => this.#lost(error);
    const changed = () => this.#view.showSelf(this.#camera);
    this.#camera.addEventListener("trackchange", changed);
    this.#stops.push(() => this.#camera.removeEventListener("trackchange", changed));
  }

  #wireView() {
    this.#view.onMute = (muted) => {
      this.#client.setMuted("audio", muted);
      this.#view.muted(muted);
    };
    this.#view.onSwitchCamera = async () => {
      try {
        await this.#camera.toggleCamera();
      } catch (error) {
        toast(CameraError.from(error).words, { kind: "warn" });
      }
      this.#view.showSelf(this.#camera);
    };
    this.#view.onPlay = async () => {
      this.#view.soundBlocked(false);
      await this.#client.play();
    };
    this.#view.onRetryCamera = () => this.openCamera();
    this.#view.onRetry = () => location.reload();
    this.#view.onEnd = () => this.#end();
  }

  async #end() {
    this.#view.ending(true);
    try {
      await api.post("/api/streaming/private-end", { sessionId: this.#session.sessionId });
    } catch (error) {
      if (error instanceof ApiError && error.code === "OFFLINE") {
        this.#view.ending(false);
        toast(error.message, { kind: "bad" });
        return;
      }
    }
    const leaving = setTimeout(() => {
      this.#client.leave();
      this.endedElsewhere(this.#session.role === "fan" ? "ENDED_BY_FAN" : "ENDED_BY_CREATOR");
    }, END_WITHIN_MS);
    this.#stops.push(() => clearTimeout(leaving));
  }

  /** The seat is gone for good: the session's own record says why. */
  async #lost(error) {
    if (this.#stops.length === 0) return;
    try {
      const record = await api.get(`/api/streaming/private-sessions/${this.#session.sessionId}`);
      if (record.endReason) {
        this.endedElsewhere(record.endReason);
        return;
      }
    } catch (failure) {
      console.warn("session_not_read", failure.code);
    }
    this.#view.notConnected(error.message, error.code === "NO_WEBSOCKET" ? "no-websocket" : "");
    this.#draw();
    announce(`You are not connected. ${error.message}`, "alert");
  }

  #ended(reason) {
    for (const stop of this.#stops.splice(0)) stop();
    this.onEnded(reason);
  }
}
