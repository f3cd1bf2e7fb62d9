// @ts-check
/**
 * The pictures of a battle: a seat shows each creator's own, side by side; who has none watches the broadcast, which
 * has them in one. What a seat, a loss and a full room mean is `Player`'s; this only lays the pictures out.
 */
import { icon, make } from "../ui.js";
import { Player } from "./player.js";

export class BattlePlayer extends Player {
  /** @param {HTMLElement} tile @param {string} userId @param {(userId: string) => string} nameOf @param {(userId: string) => number} placeOf among the sides */
  constructor(tile, userId, nameOf, placeOf) {
    super(tile, userId);
    this.nameOf = nameOf;
    this.placeOf = placeOf;
    this.grid = /** @type {HTMLElement} */ (tile.querySelector("#grid"));
    this.speaker = "";
  }

  /** @override @param {string} name */
  over(name) {
    super.over(name);
    const seated = this.client !== null;
    if (seated) this.video.hidden = true;
    this.grid.hidden = !seated || (name !== "" && name !== "stalled");
  }

  /** @override */
  stop() {
    super.stop();
    this.grid?.replaceChildren();
  }

  /** @override @param {string} roomId */
  async watch(roomId) {
    const seated = super.watch(roomId);
    this.showSelf();
    await seated;
  }

  /** @override @param {MediaStream} stream @param {string} userId */
  async show(stream, userId) {
    const video = this.pictureOf(userId);
    if (video.srcObject !== stream) video.srcObject = stream;
    this.over("");
    video.muted = userId === this.userId || this.video.muted;
    try {
      await video.play();
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "NotAllowedError") return;
      this.setSound(false);
      await video.play().catch(() => this.over("lost"));
    }
    this.setSound(!this.video.muted);
  }

  /** @override @param {string} userId */
  gone(userId) {
    this.grid.querySelector(`[data-user="${CSS.escape(userId)}"]`)?.remove();
  }

  /** @override @param {boolean} on */
  setSound(on) {
    super.setSound(on);
    for (const video of /** @type {NodeListOf<HTMLVideoElement>} */ (this.grid?.querySelectorAll("figure:not(.is-self) video") ?? [])) video.muted = !on;
  }

  /** A frame and a sign for the eye, a word for who does not see it; nobody is interrupted by it. @override @param {string} userId */
  speaks(userId) {
    this.speaker = userId;
    for (const figure of /** @type {NodeListOf<HTMLElement>} */ (this.grid.querySelectorAll("figure"))) {
      const speaks = figure.dataset.user === userId;
      figure.classList.toggle("is-speaking", speaks);
      /** @type {HTMLElement} */ (figure.querySelector("[data-speaks]")).hidden = !speaks;
    }
  }

  /** One's own picture among the others, silent. */
  showSelf() {
    if (!this.camera?.stream) return;
    const video = this.pictureOf(this.userId);
    video.parentElement?.classList.add("is-self");
    video.srcObject = this.camera.stream;
    video.muted = true;
    video.play().catch((error) => console.warn("own picture", error));
    this.over("");
  }

  /** @private @param {string} userId @returns {HTMLVideoElement} */
  pictureOf(userId) {
    const before = this.grid.querySelector(`[data-user="${CSS.escape(userId)}"] video`);
    if (before instanceof HTMLVideoElement) return before;
    const name = this.nameOf(userId);
    const video = /** @type {HTMLVideoElement} */ (make("video", { playsinline: "", "aria-label": `${name}’s live picture` }));
    const speaks = make("span", { "data-speaks": "", hidden: "" }, icon("sound"), make("span", { class: "sr" }, "speaks"));
    const figure = make("figure", { "data-user": userId }, video, make("figcaption", {}, name, speaks));
    // In the order of the score, whoever's picture came first; moved in the document, it would stop.
    figure.style.setProperty("order", String(this.placeOf(userId)));
    this.grid.append(figure);
    if (this.speaker) this.speaks(this.speaker);
    return video;
  }
}
