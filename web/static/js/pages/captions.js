// @ts-check
/**
 * Captions over a broadcast: a button and, where there are several, a menu; neither is there without text tracks.
 *
 * Looks only at the video's own list of tracks, where hls.js puts what a playlist names (and CEA-608 of the picture)
 * and browsers that play HLS by themselves do, too. Knows no player.
 */
import { make } from "../ui.js";

const KINDS = ["captions", "subtitles"];
const OFF = "";

export class Captions {
  /** @param {HTMLVideoElement} video @param {HTMLElement | null} bar where the button is put, first */
  constructor(video, bar) {
    this.video = video;
    this.button = /** @type {HTMLButtonElement} */ (
      make("button", { type: "button", class: "btn btn--bare btn--s", "data-captions": "", "aria-label": "Captions", "aria-pressed": "false" }, "CC")
    );
    this.menu = /** @type {HTMLSelectElement} */ (make("select", { class: "select--bare", "data-captions-menu": "", "aria-label": "Language of captions" }));
    /** What was chosen: it is shown again when another playlist brings the same. "" for none. */
    this.wish = OFF;
    /** What the button shows when there was no choice before. */
    this.last = OFF;
    bar?.prepend(this.button, this.menu);
    this.button.addEventListener("click", () => this.toggle());
    this.menu.addEventListener("change", () => this.choose(this.menu.value));
    for (const type of ["addtrack", "removetrack", "change"]) video.textTracks.addEventListener(type, () => this.list());
    this.list();
  }

  /** Those that people read. */
  get tracks() {
    return Array.from(this.video.textTracks).filter(({ kind }) => KINDS.includes(kind));
  }

  /** Show them, or show them no more. Does nothing where there are none. */
  toggle() {
    const first = this.tracks[0];
    if (!first) return;
    this.choose(this.wish === OFF ? this.last || nameOf(first) : OFF);
  }

  /** @private @param {string} name of a track, or "" for none */
  choose(name) {
    this.wish = name;
    if (name !== OFF) this.last = name;
    this.list();
  }

  /** @private What there is, and of it what is wished for. */
  list() {
    const tracks = this.tracks;
    const shown = this.wish === OFF ? undefined : (tracks.find((track) => nameOf(track) === this.wish) ?? tracks[0]);
    for (const track of tracks) {
      const mode = track === shown ? "showing" : "disabled";
      if (track.mode !== mode) track.mode = mode;
    }
    this.button.hidden = tracks.length === 0;
    this.button.setAttribute("aria-pressed", String(shown !== undefined));
    this.menu.hidden = tracks.length < 2;
    const names = [...new Set(tracks.map(nameOf))];
    this.menu.replaceChildren(make("option", { value: OFF }, "Off"), ...names.map((name) => make("option", { value: name }, name)));
    this.menu.value = shown ? nameOf(shown) : OFF;
  }
}

/** @param {TextTrack} track */
function nameOf(track) {
  return track.label || track.language || "Captions";
}
