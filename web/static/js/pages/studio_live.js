/**
 * The creator's way through the studio: off, on the air, in a private call, and back; one document, one camera.
 *
 * Decides what is shown by what the server says (`reconcile`); media and REST are asked by the classes it owns.
 */
import { ApiError, api } from "../api.js";
import { CallSession } from "../call_session.js";
import { CallView } from "../call_view.js";
import { CameraError, CameraService } from "../camera_service.js";
import { Lobby } from "../lobby.js";
import { REASON_WORDS, endMessage } from "../protocol.js";
import { SFUClient } from "../sfu_client.js";
import { announce, busy, clock, formatTokens, icon, make, money, plural, toast } from "../ui.js";

const MESSAGE_MS = 1_000;
const SETTLE_TRIES = 24;
const SETTLE_EVERY_MS = 500;
const SPECTATORS_MS = 10_000;

/** @typedef {{streamId: string, roomId: string, title: string, status: string}} Stream */
/** @typedef {{userId: string, stream: Stream|null, sessionId: string|null, offer: any}} StudioState */

export class StudioLive {
  #userId;
  #requests;
  #camera = new CameraService();
  #lobby = new Lobby(document.getElementById("lobby"), { camera: this.#camera });
  #view = new CallView(document.getElementById("call"));
  #client = null;
  #call = null;
  #callId = "";
  #stream = null;
  #airSince = 0;
  #peak = 0;
  #others = new Set();
  /** Those who watch without a seat; the room does not know them. */
  #spectators = 0;
  /** Of an encoder's picture: "on_air" or "away"; empty while a browser sends it. */
  #encoder = "";

  /** @param {string} userId @param {import("./studio_requests.js").RequestsPanel} requests */
  constructor(userId, requests) {
    this.#userId = userId;
    this.#requests = requests;
    requests.onAccepted = ({ sessionId }) => void this.enterCall(sessionId);
    this.#lobby.onChange = () => this.#showReady();
    this.#wire();
    setInterval(() => this.#showElapsed(), 500);
    setInterval(() => void this.#countSpectators(), SPECTATORS_MS);
  }

  /** The lobby says whether the live feed is there. @param {import("../events_client.js").EventsClient} events */
  watchConnection(events) {
    this.#lobby.watchConnection(events);
  }

  /** Says again how a call ended that was on a page of its own. @param {URLSearchParams} query */
  sayEnded(query) {
    const [reason, sessionId] = [query.get("ended") ?? "", query.get("session") ?? ""];
    if (reason in REASON_WORDS && sessionId) this.#showEnded(reason, sessionId);
  }

  /** Brings the page to where the server says that the creator is. @param {StudioState} state */
  async reconcile({ stream, sessionId, encoder = "" }) {
    if (this.#call) return;
    this.#stream = stream;
    this.#encoder = stream?.status === "live" && (this.#client?.state ?? "closed") === "closed" ? encoder : "";
    if (sessionId) await this.enterCall(sessionId);
    else if (this.#encoder) this.#showEncoder();
    else if (stream?.status === "live") await this.#goOnAir(stream);
    else if (stream) this.#showAfter();
    else await this.#showOff();
  }

  /** Asks the server where the creator is, after a gap in the feed. */
  async refresh() {
    try {
      await this.reconcile(await api.get("/studio?part=state"));
    } catch (error) {
      console.warn("studio_not_read", error.code);
    }
    await this.#requests.refresh();
  }

  /** The feed says that a stream of ours began: this page's, or an encoder's. */
  async streamStarted() {
    try {
      const state = await api.get("/studio?part=state");
      if (state.encoder) await this.reconcile(state);
    } catch (error) {
      console.warn("studio_not_read", error.code);
    }
  }

  /** An encoder is seen by viewers, and this page does not take its seat unless told to. */
  #showEncoder() {
    if (this.#client) this.#leaveAir();
    this.#show("live");
    this.#lobby.pause();
    this.#camera.stopCamera();
    this.#showSelf();
    one("connection").hidden = true;
    one("on-air").hidden = this.#encoder !== "on_air";
    if (this.#encoder === "on_air") this.#cover("Your encoder is on the air", "Viewers see its picture. Stop it before you use this camera, or it comes back by itself.", "Use this camera");
    else this.#cover("Your encoder is away", "It may come back by itself. Without a picture the stream ends soon.", "Use this camera");
    void this.#requests.refresh();
  }

  /** Somebody took our seat: our encoder, or another tab. */
  async #replaced() {
    let state = { encoder: "" };
    try {
      state = await api.get("/studio?part=state");
    } catch (error) {
      console.warn("studio_not_read", error.code);
    }
    if (state.encoder) await this.reconcile(state);
    else this.#cover("You are live in another tab", "One camera a stream. This tab can take it over.");
  }

  /** The feed says that the session changed. @param {{sessionId: string, status: string, reason?: string}} message */
  sessionChanged(message) {
    if (message.status === "connecting") void this.enterCall(message.sessionId);
    else if (message.sessionId !== this.#callId) return;
    else if (message.status === "ended") this.#call?.endedElsewhere(message.reason);
    else void this.#call?.refresh();
  }

  /** From the stream to the call: same document, same camera, another room. @param {string} sessionId */
  async enterCall(sessionId) {
    if (this.#callId === sessionId) return;
    this.#callId = sessionId;
    this.#leaveAir();
    this.#requests.clear();
    let session;
    try {
      session = await api.get(`/api/streaming/private-sessions/${encodeURIComponent(sessionId)}`);
    } catch (error) {
      this.#callId = "";
      toast(error.message, { kind: "bad", action: { label: "Open the call", href: `/call/${sessionId}` } });
      return;
    }
    if (session.endReason || session.status === "settling") {
      this.#callEnded(session.endReason ?? "");
      return;
    }
    document.body.classList.add("in-call");
    history.pushState({ call: sessionId }, "", `/call/${sessionId}`);
    document.title = `Private stream with ${session.counterpart.displayName} · Greenroom`;
    this.#call = new CallSession(session, this.#userId, this.#view, this.#camera, {
      available: 0,
      keepCamera: true,
      redirect: false,
      endWords: { camera: "Your camera stays on for your stream. Nobody sees it now.", next: "Going to the studio in 1 s" },
    });
    this.#call.onEnded = (reason) => setTimeout(() => this.#callEnded(reason), MESSAGE_MS);
    announce(`Private stream with ${session.counterpart.displayName} begins.`);
    document.getElementById("call").focus();
    const seated = this.#call.start();
    if (!this.#camera.active) await this.#call.openCamera();
    await seated;
  }

  #wire() {
    const form = document.getElementById("go-live");
    const button = document.getElementById("go-live-button");
    button.disabled = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (button.getAttribute("aria-busy") === "true") return;
      void busy(button, "Going live…", () => this.#goLive());
    });
    for (const end of all("end")) end.addEventListener("click", () => busy(end, "Ending…", () => this.#endStream()));
    one("resume").addEventListener("click", () => busy(one("resume"), "Going back…", () => this.#resume()));
    one("again").addEventListener("click", () => {
      this.#client?.close();
      this.#encoder = "";
      if (this.#stream) void this.#goOnAir(this.#stream);
    });
    one("switch").addEventListener("click", () => this.#switchCamera());
    one("mute").addEventListener("click", () => this.#mute(one("mute").getAttribute("aria-pressed") !== "true"));
    this.#camera.addEventListener("trackchange", () => this.#showSelf());
    window.addEventListener("popstate", () => {
      // "Back" must not leave a running call unseen: the call is ended with its own button.
      if (this.#call) history.pushState({ call: this.#callId }, "", `/call/${this.#callId}`);
    });
  }

  async #goLive() {
    if (!this.#camera.active) await this.#lobby.start();
    if (!this.#camera.active) {
      toast(this.#lobby.error?.words ?? "The camera is off.", { kind: "bad" });
      return;
    }
    const title = document.getElementById("stream-title").value.trim();
    try {
      this.#stream = await api.post("/api/streaming/streams", title ? { title } : {});
    } catch (error) {
      if (error instanceof ApiError && error.code === "ALREADY_LIVE") await this.refresh();
      else toast(error.message, { kind: "bad" });
      return;
    }
    await this.#goOnAir(this.#stream);
  }

  /** Takes the seat from which the room is fed; also again, after a loss or in another tab. */
  async #goOnAir(stream) {
    if (this.#client?.roomId === stream.roomId && this.#client.state !== "closed") return;
    this.#leaveAir();
    this.#stream = stream;
    this.#show("live");
    this.#cover("");
    try {
      await this.#camera.startCamera();
    } catch (error) {
      this.#cover("Nobody sees you", CameraError.from(error).words);
      return;
    }
    this.#lobby.pause();
    this.#showSelf();
    const client = new SFUClient(stream.roomId, this.#userId, this.#camera);
    this.#client = client;
    this.#wireClient(client);
    one("mute").setAttribute("aria-pressed", String(client.isMuted("audio")));
    await this.#requests.refresh();
    try {
      await client.joinAsParticipant({ publish: true });
    } catch (error) {
      if (this.#client === client) this.#cover("Nobody sees you", error.message);
    }
  }

  #wireClient(client) {
    client.onConnectionState = (state) => this.#showConnection(state);
    client.onJoined = ({ participants }) => {
      this.#others = new Set(participants.map(({ userId }) => userId));
      this.#airSince ||= performance.now();
      this.#showViewers();
      announce("You are live.");
    };
    client.onParticipantJoined = (userId) => this.#showViewers(this.#others.add(userId));
    client.onParticipantLeft = (userId) => this.#showViewers(this.#others.delete(userId));
    client.onLost = (error) => this.#cover("Nobody sees you", error.message);
    client.onRetry = (error) => {
      if (error.code === "NO_WEBSOCKET" && !client.joined) this.#cover("Nobody sees you", error.message);
    };
    client.onTerminated = (reason) => {
      if (this.#client !== client || reason === "STREAM_PRIVATE") return; // the call is on its way by the feed
      if (reason === "REPLACED") void this.#replaced();
      else if (reason === "STREAM_ENDED") void this.#showOff();
      else {
        toast(`Your stream was stopped: ${reason.replaceAll("_", " ").toLowerCase()}.`, { kind: "bad" });
        void this.refresh();
      }
    };
  }

  async #endStream() {
    if (!this.#stream) return;
    try {
      await api.delete(`/api/streaming/streams/${encodeURIComponent(this.#stream.streamId)}`);
    } catch (error) {
      if (!(error instanceof ApiError) || !["STREAM_NOT_LIVE", "NOT_FOUND", "CONFLICT"].includes(error.code)) {
        toast(error.message, { kind: "bad" });
        return;
      }
    }
    announce("Your stream has ended.");
    await this.#showOff();
  }

  /** The session may be settling for a moment yet; the press waits for it. */
  async #resume() {
    for (let tries = 0; tries < SETTLE_TRIES; tries += 1) {
      try {
        const stream = await api.post(`/api/streaming/streams/${encodeURIComponent(this.#stream.streamId)}/resume`);
        document.getElementById("ended").hidden = true;
        await this.#goOnAir(stream);
        return;
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "SESSION_LIVE") {
          toast(error.message, { kind: "bad" });
          await this.refresh();
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, SETTLE_EVERY_MS));
    }
    toast("The call is still being settled. Try again in a moment.", { kind: "warn" });
  }

  async #callEnded(reason) {
    const sessionId = this.#callId;
    this.#call = null;
    this.#callId = "";
    document.body.classList.remove("in-call");
    document.getElementById("call").hidden = true;
    document.title = "Creator Studio · Greenroom";
    history.replaceState(null, "", "/studio");
    if (reason) this.#showEnded(reason, sessionId);
    this.#show("after");
    try {
      const state = await api.get("/studio?part=state");
      // The database learns of the end a moment after media has said it.
      await this.reconcile({ ...state, sessionId: state.sessionId === sessionId ? null : state.sessionId });
    } catch (error) {
      console.warn("studio_not_read", error.code);
    }
  }

  #showEnded(reason, sessionId) {
    const place = document.getElementById("ended");
    place.className = "mb-6";
    place.replaceChildren(make("div", { class: "banner" }, icon("info"),
      make("p", { class: "grow" }, make("b", {}, endMessage(reason)), make("br"), "The receipt says what you earned and why."),
      make("a", { class: "btn btn--s", href: `/history/${encodeURIComponent(sessionId)}` }, "Receipt")));
    place.hidden = false;
  }

  async #showOff() {
    this.#leaveAir();
    this.#stream = null;
    this.#requests.clear();
    this.#show("off");
    await this.#lobby.start();
  }

  #showAfter() {
    this.#leaveAir();
    this.#show("after");
    void this.#requests.refresh();
  }

  #leaveAir() {
    this.#client?.close();
    this.#client = null;
    this.#others.clear();
    this.#airSince = 0;
    this.#spectators = 0;
    this.#peak = 0;
  }

  #show(state) {
    for (const name of ["off", "live", "after"]) one(name).hidden = name !== state;
    this.#requests.showIn(state);
  }

  #cover(title, words = "", again = "Try again") {
    one("again").textContent = again;
    const said = !one("over").hidden && one("over-words").textContent === words;
    one("over").hidden = !title;
    one("over-title").textContent = title;
    one("over-words").textContent = words;
    if (title && !said) announce(`${title}. ${words}`, "alert");
  }

  #showSelf() {
    for (const video of all("self")) {
      if (video.srcObject !== this.#camera.stream) video.srcObject = this.#camera.stream;
    }
    for (const tile of all("tile")) tile.classList.toggle("tile--mirror", this.#camera.mirrored);
    one("self-off").hidden = this.#camera.videoTrack !== null;
    one("self-on").hidden = this.#camera.videoTrack === null;
  }

  #showReady() {
    const { videoTrack, audioTrack } = this.#camera;
    const item = one("ready-camera");
    const ready = videoTrack ? icon("check") : make("span", { class: "dot", "aria-hidden": "true" });
    item.firstElementChild.replaceWith(ready);
    item.lastElementChild.textContent = videoTrack
      ? `Camera${audioTrack ? " and microphone" : ""} ready${audioTrack ? "" : ", without sound"}`
      : "Camera not ready yet";
  }

  #showConnection(state) {
    const words = { connecting: "Connecting…", reconnecting: "Connection lost. Coming back…", connected: "" }[state] ?? "";
    one("connection").hidden = !words;
    one("connection").textContent = words;
    one("on-air").hidden = state !== "connected";
    if (state === "connected") this.#cover("");
    if (state === "reconnecting") announce(words);
  }

  async #countSpectators() {
    if (this.#stream?.status !== "live") return;
    try {
      const { streams } = await api.get("/api/streaming/streams");
      const ours = streams.find((stream) => stream.streamId === this.#stream?.streamId);
      this.#spectators = (this.#encoder ? ours?.viewers : ours?.spectators) ?? 0;
      if (this.#airSince || this.#encoder) this.#showViewers();
      if (this.#encoder) await this.streamStarted();
    } catch (error) {
      console.warn("spectators_not_counted", error.code); // asked again soon
    }
  }

  #showViewers() {
    const viewers = this.#others.size + this.#spectators;
    this.#peak = Math.max(this.#peak, viewers);
    for (const place of all("viewers")) place.textContent = formatTokens(viewers);
    one("peak").textContent = formatTokens(this.#peak);
    this.#requests.setViewers(viewers);
  }

  #showElapsed() {
    one("elapsed").hidden = !this.#airSince;
    if (this.#airSince) one("elapsed").textContent = clock(performance.now() - this.#airSince);
  }

  async #switchCamera() {
    try {
      await this.#camera.toggleCamera();
    } catch (error) {
      toast(CameraError.from(error).words, { kind: "warn" });
    }
    this.#showSelf();
  }

  #mute(muted) {
    this.#client?.setMuted("audio", muted);
    one("mute").setAttribute("aria-pressed", String(muted));
    one("mute").replaceChildren(icon(muted ? "micoff" : "mic"));
  }
}

/** What the Live tab says of the price, after it was saved. @param {import("./studio_settings.js").Offer} offer */
export function showOffer(offer) {
  const { enabled, ratePerMinute, minMinutes } = offer;
  one("offer").textContent = enabled ? `Private streams open, ${plural(ratePerMinute, "token")} per minute` : "Private streams closed";
  one("offer-rate").textContent = enabled ? formatTokens(ratePerMinute) : "Closed";
  one("offer-words").textContent = enabled
    ? `tokens per minute (${money(ratePerMinute)}), at least ${minMinutes}`
    : "No button is shown to fans";
}

const all = (name) => document.querySelectorAll(`[data-studio="${name}"]`);
const one = (name) => document.querySelector(`[data-studio="${name}"]`);
