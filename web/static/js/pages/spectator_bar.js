// @ts-check
/**
 * What a spectator can do below the picture: quality, captions, back to live, picture in picture; keys as players have
 * them.
 */
import { make } from "../ui.js";
import { Captions } from "./captions.js";

/** @typedef {import("../spectator_player.js").SpectatorPlayer} SpectatorPlayer */

const LOOK_MS = 1_000;
const PREMIUM_HEIGHT = 720;
/** The value of what can be had for a subscription or a pass. */
const PREMIUM = "premium";

export class SpectatorBar {
  /** The quality for those who pay is wanted by somebody who does not. @type {() => void} */
  onPremium = () => {};

  /** @param {HTMLElement} tile @param {SpectatorPlayer} player */
  constructor(tile, player) {
    this.tile = tile;
    this.player = player;
    this.part = /** @type {HTMLElement | null} */ (tile.querySelector("[data-spectator]"));
    this.select = /** @type {HTMLSelectElement | null} */ (tile.querySelector("#quality"));
    this.liveButton = /** @type {HTMLButtonElement | null} */ (tile.querySelector("[data-go-live]"));
    this.latency = tile.querySelector("[data-latency]");
    this.pip = /** @type {HTMLButtonElement | null} */ (tile.querySelector("[data-pip]"));
    this.captions = new Captions(player.video, this.part);
    this.timer = 0;
    /** Whether the premium quality was asked for and is to be shown once it may be. */
    this.wished = false;
    player.onQualities = () => this.list();
    this.select?.addEventListener("change", () => this.chosen());
    this.liveButton?.addEventListener("click", () => player.goLive());
    this.pip?.addEventListener("click", () => this.toggleWindow());
    tile.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** The broadcast is what is shown. */
  show() {
    if (this.part) this.part.hidden = false;
    if (this.pip) this.pip.hidden = !document.pictureInPictureEnabled;
    this.tile.tabIndex = 0;
    this.list();
    this.timer = window.setInterval(() => this.look(), LOOK_MS);
  }

  /** It is not. */
  hide() {
    if (this.part) this.part.hidden = true;
    this.tile.removeAttribute("tabindex");
    window.clearInterval(this.timer);
    this.wished = false;
  }

  /** The best quality, as soon as it may be had: it was just paid for. */
  wantBest() {
    this.wished = true;
    this.list();
  }

  /** @private */
  chosen() {
    const value = this.select?.value ?? "";
    this.wished = value === PREMIUM;
    if (!this.wished) this.player.choose(Number(value));
    this.list(); // what is not had yet is not what is shown
    if (this.wished) this.onPremium();
  }

  /** @private The qualities there are. */
  list() {
    if (!this.select) return;
    const best = this.player.qualities.find(({ height }) => height === PREMIUM_HEIGHT);
    if (this.wished && best && this.player.tier === "premium") {
      this.wished = false;
      this.player.choose(best.index);
    }
    const chosen = this.player.quality;
    const shown = this.player.height;
    const options = [make("option", { value: "-1" }, shown && chosen === -1 ? `Auto (${shown}p)` : "Auto")];
    for (const { index, height } of this.player.qualities) options.push(make("option", { value: String(index) }, `${height}p`));
    if (this.player.tier === "free") options.push(make("option", { value: PREMIUM }, `${PREMIUM_HEIGHT}p ${"sellsPass" in this.tile.dataset ? "with a pass" : "for subscribers"}`));
    this.select.replaceChildren(...options);
    this.select.value = String(chosen);
  }

  /** @private How far behind the camera this is. */
  look() {
    const seconds = this.player.latency;
    const behind = this.player.behind;
    if (this.latency) this.latency.textContent = behind ? "Go to live" : seconds === null ? "Live" : `Live, ${Math.round(seconds)} s behind`;
    if (this.liveButton) this.liveButton.disabled = !behind;
  }

  /** @private */
  async toggleWindow() {
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture();
      else await this.player.video.requestPictureInPicture();
    } catch (error) {
      console.warn("no picture in picture", error);
    }
  }

  /** @private @param {KeyboardEvent} event */
  pressed(event) {
    if (!this.player.active || event.target !== this.tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const press = (/** @type {string} */ what) => /** @type {HTMLElement | null} */ (this.tile.querySelector(what))?.click();
    if (key === "m") press("#sound");
    else if (key === "f") press("#full");
    else if (key === "p") press("[data-pip]");
    else if (key === "c") this.captions.toggle();
    else if (key === "l") this.player.goLive();
    else if (key === " " || key === "k") this.player.video.paused ? this.player.goLive() : this.player.video.pause();
    else return;
    event.preventDefault();
  }
}
