/**
 * One seat in one room: joins, publishes this camera, receives the others, comes back after a loss.
 *
 * Knows signaling and the two peer connections; not pages, not money. Callbacks are plain properties, all
 * optional. A lost socket or connection is repaired with a fresh grant until the server says
 * `TERMINATE_CALL`, refuses the seat, or somebody calls `leave()` or `close()`.
 */
import { defaultSignalingUrl, fetchGrant } from "./grants.js";
import { LinkWatch, settleDoubt } from "./link_watch.js";
import { SignalingError, TERMINATED_CLOSE_CODE, TYPES } from "./protocol.js";
import { Publisher } from "./publisher.js";
import { SignalingSocket } from "./signaling_socket.js";
import { Subscriber } from "./subscriber.js";

const FIRST_RETRY_MS = 300;
const LONGEST_RETRY_MS = 30_000;
/** How long a room may take to open, or to come back after its node restarted. */
const PATIENCE_MS = 30_000;
const JOIN_WITHIN_MS = 10_000;
/** Another look for a way at most so often. */
const RESTART_EVERY_MS = 5_000;

/** @typedef {import("./protocol.js").Joined} Joined */
/** @typedef {import("./protocol.js").SessionClock} SessionClock */
/** @typedef {import("./camera_service.js").CameraService} CameraService */
/** @typedef {"idle"|"connecting"|"connected"|"reconnecting"|"closed"} ConnectionState */
/**
 * @typedef {object} SFUClientOptions
 * @property {string} [grant] for the first join; later ones are fetched
 * @property {(roomId: string, role: string, signal?: AbortSignal) => Promise<import("./grants.js").GrantAnswer>} [fetchGrant]
 * @property {string} [signalingUrl]
 * @property {RTCIceServer[]} [iceServers] used beside the server's
 * @property {boolean} [simulcast] send the camera in three sizes; by itself: in every room but a private call's,
 *   whose only viewer gets the best anyway
 * @property {number} [longestRetryMs] the longest wait between two attempts to come back, 30,000
 */

export class SFUClient {
  /** @type {(stream: MediaStream, userId: string) => void} */
  onRemoteStream = () => {};
  /** @type {(userId: string) => void} */
  onRemoteStreamRemoved = () => {};
  /** @type {(reason: string, redirectUrl: string) => void} */
  onTerminated = () => {};
  /** The seat is lost and will not be tried again. @type {(error: SignalingError) => void} */
  onLost = () => {};
  /** An attempt to take the seat failed; the next follows by itself. @type {(error: SignalingError) => void} */
  onRetry = () => {};
  /** @type {(joined: Joined) => void} */
  onJoined = () => {};
  /** @type {(clock: SessionClock) => void} */
  onClock = () => {};
  /** `cause` "last_n": it is on, but not sent here while others speak. @type {(userId: string, kind: "audio"|"video", state: "on"|"off"|"stalled", cause?: string) => void} */
  onTrackState = () => {};
  /** Somebody's way to the node, one's own included. @type {(userId: string, quality: import("./protocol.js").Quality) => void} */
  onConnectionQuality = () => {};
  /** Whether this private room's media may be recorded now. @type {(state: "on"|"off", elapsedMs: number) => void} */
  onRecording = () => {};
  /** @type {(userId: string, displayName: string) => void} */
  onParticipantJoined = () => {};
  /** @type {(userId: string, displayName: string) => void} */
  onParticipantLeft = () => {};
  /** @type {(userId: string) => void} */
  onActiveSpeaker = () => {};
  /** @type {(state: ConnectionState) => void} */
  onConnectionState = () => {};

  /** @type {Joined|null} the answer to the last join */
  joined = null;
  /** @type {ConnectionState} */
  state = "idle";

  #socket = null;
  #publisher = null;
  #subscriber = null;
  #publish = true;
  #over = false;
  #muted = { audio: false, video: false };
  #wake = () => {};
  #failJoin = () => {};
  #firstGrant;
  #watch = new LinkWatch(() => this.peerConnections);
  #doubting = false;
  #restartedAt = -Infinity;
  #trackListener = (event) => this.#onTrackChange(event.detail);
  #onlineListener = () => {
    this.#wake();
    this.restartIce();
    this.#doubt();
  };
  #networkType = globalThis.navigator?.connection?.type;
  #networkListener = () => {
    const type = globalThis.navigator.connection.type;
    if (type !== this.#networkType) {
      this.restartIce();
      this.#doubt();
    }
    this.#networkType = type;
  };

  /**
   * @param {string} roomId
   * @param {string|null} userId null: whoever the grant is for
   * @param {CameraService|null} [cameraService] null: receive only
   * @param {SFUClientOptions} [options]
   */
  constructor(roomId, userId, cameraService = null, options = {}) {
    this.roomId = roomId;
    this.userId = userId;
    this.camera = cameraService;
    this.options = options;
    this.#firstGrant = options.grant ?? null;
    for (const kind of ["audio", "video"]) this.#muted[kind] = cameraService?.isEnabled(kind) === false;
    cameraService?.addEventListener("trackchange", this.#trackListener);
    globalThis.addEventListener("online", this.#onlineListener);
    globalThis.navigator?.connection?.addEventListener?.("change", this.#networkListener);
    this.#watch.onSilence = () => this.#doubt();
  }

  /** Remote streams by user id. */
  get streams() {
    return this.#subscriber?.streams ?? new Map();
  }

  /** The live peer connections, for statistics. @returns {RTCPeerConnection[]} */
  get peerConnections() {
    return [this.#publisher?.pc, this.#subscriber?.pc].filter(Boolean);
  }

  /**
   * Takes a seat, waiting for a room that is only now opening.
   * @param {{publish?: boolean}} [options] false: watch and listen
   * @returns {Promise<Joined>}
   * @throws {SignalingError}
   */
  async joinAsParticipant({ publish = true } = {}) {
    this.#publish = publish;
    this.#setState("connecting");
    try {
      return await this.#enter();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Asks where the room can be watched without a seat.
   * @returns {Promise<string>} an address of HLS or DASH
   * @throws {SignalingError} UNAVAILABLE while the room has no spectators
   */
  async joinAsSpectator() {
    try {
      const { socket, grant } = await this.#openSocket("spectator");
      return await new Promise((resolve, reject) => {
        socket.onMessage = (message) => {
          if (message.type === TYPES.SPECTATOR_URL) resolve(message.streamUrl);
          if (message.type === TYPES.ERROR) reject(new SignalingError(message.code, message.message));
        };
        socket.onClose = () => reject(new SignalingError("LOST"));
        this.#socket = socket;
        this.#sendJoin(socket, grant, true);
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Declares the own microphone or camera off or on; the device stays open.
   * @param {"audio"|"video"} kind
   * @param {boolean} muted
   */
  setMuted(kind, muted) {
    this.#muted[kind] = muted;
    this.camera?.setEnabled(kind, !muted);
    this.#send({ type: TYPES.MUTE_TRACK, kind, muted });
  }

  /** @param {"audio"|"video"} kind */
  isMuted(kind) {
    return this.#muted[kind];
  }

  /** @param {string} trackId @param {"high"|"medium"|"low"|"off"} layer */
  selectLayer(trackId, layer) {
    this.#send({ type: TYPES.SELECT_LAYER, trackId, layer });
  }

  /** Withdraws at the node itself: from its receipt on not one frame of this room is recorded. */
  stopRecording() {
    this.#send({ type: TYPES.STOP_RECORDING });
  }

  /** Looks for another way to the node, as after a change from Wi-Fi to mobile; media goes on over the old one. */
  restartIce() {
    this.#restartedAt = performance.now();
    this.#publisher?.restart();
    this.#subscriber?.restart();
  }

  /** Leaves for good: the seat is free and, in a private room, the call is over. */
  leave() {
    this.#send({ type: TYPES.LEAVE_ROOM });
    this.close();
  }

  /** Lets go of sockets, peer connections and timers; the camera belongs to whoever started it. */
  close() {
    if (this.#over && this.state === "closed") return;
    this.#over = true;
    this.camera?.removeEventListener("trackchange", this.#trackListener);
    globalThis.removeEventListener("online", this.#onlineListener);
    globalThis.navigator?.connection?.removeEventListener?.("change", this.#networkListener);
    this.#wake();
    this.#watch.stop();
    this.closePeerConnections();
    this.#socket?.close();
    this.#socket = null;
    this.#failJoin(new SignalingError("CLOSED"));
    this.#setState("closed");
  }

  /** Both at once; nothing is sent or received afterwards. */
  closePeerConnections() {
    this.#publisher?.close();
    this.#subscriber?.close();
    this.#publisher = null;
    this.#subscriber = null;
  }

  /**
   * What happens when the server ends the call; a subclass that owns pictures adds to it.
   * @protected
   * @param {string} reason
   * @param {string} redirectUrl
   */
  terminated(reason, redirectUrl) {
    this.close();
    this.onTerminated(reason, redirectUrl);
  }

  /**
   * Somebody's stream appeared.
   * @protected
   * @param {MediaStream} stream
   * @param {string} userId
   */
  remoteStream(stream, userId) {
    this.onRemoteStream(stream, userId);
  }

  async #enter() {
    const patientUntil = performance.now() + PATIENCE_MS;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#join();
      } catch (error) {
        const patient = this.state === "reconnecting" && error.code !== "ROOM_NOT_FOUND";
        if (this.#over || !error.retriable) throw error;
        if (!patient && performance.now() > patientUntil) throw error;
        this.onRetry(error);
      }
      await this.#pause(attempt);
      if (this.#over) throw new SignalingError("CLOSED");
    }
  }

  /** Doubling waits with jitter, so that a restarted server is not met by everybody at once. */
  #pause(attempt) {
    const longest = this.options.longestRetryMs ?? LONGEST_RETRY_MS;
    const wait = Math.min(longest, FIRST_RETRY_MS * 2 ** attempt) * (0.75 + Math.random() / 2);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #join() {
    const { socket, grant } = await this.#openSocket("participant");
    return this.#joinOver(socket, grant);
  }

  async #joinOver(socket, grant) {
    this.#socket = socket;
    const joined = await new Promise((resolve, reject) => {
      this.#failJoin = reject;
      const deadline = setTimeout(() => reject(new SignalingError("LOST")), JOIN_WITHIN_MS);
      socket.onMessage = (message) => {
        clearTimeout(deadline);
        if (message.type === TYPES.JOINED) resolve(message);
        else if (message.type === TYPES.TERMINATE_CALL) this.#receive(message);
        else if (message.type === TYPES.ERROR) reject(new SignalingError(message.code, message.message));
        // Every seat is taken, and the room has spectators.
        else if (message.type === TYPES.SPECTATOR_URL) reject(new SignalingError("ROOM_FULL", message.streamUrl));
      };
      socket.onClose = () => reject(new SignalingError("LOST"));
      this.#sendJoin(socket, grant, false);
    }).catch((error) => {
      socket.close();
      throw error;
    });
    this.#seated(socket, joined);
    return joined;
  }

  async #openSocket(role, within = undefined) {
    const fetching = this.options.fetchGrant ?? fetchGrant;
    const signal = within && AbortSignal.timeout(within);
    const answer = this.#firstGrant ? { grant: this.#firstGrant } : await fetching(this.roomId, role, signal);
    this.#firstGrant = null;
    this.userId ??= answer.userId;
    const url = this.options.signalingUrl ?? answer.signalingUrl ?? defaultSignalingUrl();
    const socket = await SignalingSocket.open(url, within);
    if (this.#over) {
      socket.close();
      throw new SignalingError("CLOSED");
    }
    return { socket, grant: answer.grant };
  }

  /**
   * The way to the node may be gone. If signaling lives, ICE looks for another way; if it is silent too, as after a
   * change of address, the seat is taken anew over another socket, without waiting until silence is a loss.
   */
  async #doubt() {
    if (this.#doubting || this.state !== "connected") return;
    this.#doubting = true;
    const [socket, since] = [this.#socket, performance.now()];
    const isSilent = () => !this.#over && this.#socket === socket && !this.#watch.hasHeard(since);
    let [answered, spare] = [false, null];
    try {
      ({ answered, spare } = await settleDoubt(socket, isSilent, (within) => this.#openSocket("participant", within)));
    } finally {
      this.#doubting = false;
    }
    if (spare) await this.#moveTo(spare);
    else if (answered && isSilent()) {
      if (performance.now() - this.#restartedAt > RESTART_EVERY_MS) this.restartIce();
    }
  }

  /** Takes the seat anew over a socket that lives; the old connections are let go when it is taken. */
  async #moveTo({ socket, grant }) {
    this.#socket.close();
    this.#setState("reconnecting");
    try {
      await this.#joinOver(socket, grant);
    } catch {
      if (!this.#over) this.#comeBack();
    }
  }

  #sendJoin(socket, grant, isSpectator) {
    const { roomId, userId } = this;
    socket.send({ type: TYPES.JOIN_ROOM, roomId, userId, isSpectator, grant, takesTracks: true });
  }

  /** The old connections are only now let go: a short loss of signaling alone leaves the picture on. */
  #seated(socket, joined) {
    this.closePeerConnections();
    this.joined = joined;
    socket.onMessage = (message) => this.#receive(message);
    socket.onClose = (code) => this.#lost(code);
    const iceServers = [...joined.iceServers, ...(this.options.iceServers ?? [])];
    this.#subscriber = new Subscriber(iceServers, (message) => socket.send(message));
    this.#subscriber.onStream = (stream, userId) => this.remoteStream(stream, userId);
    this.#subscriber.onStreamGone = (userId) => this.onRemoteStreamRemoved(userId);
    this.#subscriber.onFailed = () => this.#lost(0);
    this.#subscriber.onDisconnected = () => this.#doubt();
    this.#startPublishing(iceServers);
    this.#setState("connected");
    this.#watch.start();
    this.onJoined(joined);
  }

  #startPublishing(iceServers) {
    const tracks = [this.camera?.audioTrack, this.camera?.videoTrack].filter(Boolean);
    if (!this.#publish || tracks.length === 0) return;
    const simulcast = this.options.simulcast ?? !this.joined.session;
    // Never another socket's: there, nobody knows this connection.
    const socket = this.#socket;
    this.#publisher = new Publisher(iceServers, (message) => socket?.send(message), { simulcast });
    this.#publisher.onFailed = () => this.#lost(0);
    this.#publisher.onDisconnected = () => this.#doubt();
    this.#run(this.#publisher.publish(tracks));
    for (const kind of ["audio", "video"]) {
      if (this.#muted[kind]) this.setMuted(kind, true);
    }
  }

  #onTrackChange({ kind, track }) {
    if (this.#publisher) this.#run(this.#publisher.replace(kind, track));
    else if (track && this.state === "connected") this.#startPublishing(this.joined.iceServers);
  }

  #receive(message) {
    if (this.#over) return;
    switch (message.type) {
      case TYPES.ANSWER:
        return this.#run(this.#publisher?.receiveAnswer(message.sdp));
      case TYPES.OFFER:
      case TYPES.TRACKS:
        this.#watch.excuse();
        return this.#run(this.#subscriber?.receiveOffer(message));
      case TYPES.ICE_CANDIDATE:
        return this.#run(this.#connectionOf(message.pc)?.receiveCandidate(message.candidate));
      case TYPES.SESSION_CLOCK:
        return this.onClock(message);
      case TYPES.TRACK_STATE:
        this.#watch.excuse();
        return this.onTrackState(message.userId, message.kind, message.state, message.cause);
      case TYPES.CONNECTION_QUALITY:
        return this.onConnectionQuality(message.userId, message.quality);
      case TYPES.RECORDING:
        return this.onRecording(message.state, message.elapsedMs ?? 0);
      case TYPES.PARTICIPANT_JOINED:
        return this.onParticipantJoined(message.userId, message.displayName);
      case TYPES.PARTICIPANT_LEFT:
        return this.onParticipantLeft(message.userId, message.displayName);
      case TYPES.ACTIVE_SPEAKER:
        return this.onActiveSpeaker(message.userId);
      case TYPES.TERMINATE_CALL:
        return this.terminated(message.reason, message.redirectUrl);
      case TYPES.ERROR:
        return console.warn("signaling_error", message.code);
      default: // A newer server may say more than we know.
    }
  }

  #connectionOf(pc) {
    return pc === "publish" ? this.#publisher : this.#subscriber;
  }

  #send(message) {
    this.#socket?.send(message);
  }

  /** A step of negotiation that fails means this connection is of no use: a new one is made. */
  #run(step) {
    step?.catch((error) => {
      if (this.#over || this.state !== "connected") return;
      console.warn("negotiation_failed", error.name);
      this.#lost(0);
    });
  }

  #lost(code) {
    if (this.#over || this.state === "reconnecting") return;
    this.#socket?.close();
    this.#socket = null;
    if (code === TERMINATED_CLOSE_CODE) {
      this.#giveUp(new SignalingError("CLOSED"));
      return;
    }
    this.#setState("reconnecting");
    this.#comeBack();
  }

  async #comeBack() {
    try {
      await this.#enter();
    } catch (error) {
      if (!this.#over) this.#giveUp(error);
    }
  }

  #giveUp(error) {
    this.close();
    this.onLost(error);
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.onConnectionState(state);
  }
}
