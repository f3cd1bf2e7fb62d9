// @ts-check
/**
 * The tips of one stream or one call: a list, a few words over the picture, and politely to a screen reader.
 * Knows where they come from, not how they are given.
 */
import { api } from "../api.js";
import { announce, formatTokens, icon, make, plural } from "../ui.js";

const FLASH_MS = 7_000;
const MOST_SHOWN = 20;
const RETRY_MS = 5_000;
/** Many tips in a moment are one announcement. */
const ANNOUNCE_MS = 1_500;

/** @typedef {{tipId: string, handle: string, amount: number, message?: string, side?: string}} Tip `side`: for whom, in a battle */

/** @param {Tip} tip @returns {HTMLElement[]} */
const words = ({ handle, amount, message, side }) => [
  icon("token"),
  make("span", { class: "grow" }, make("b", {}, handle), " tipped ", make("b", {}, plural(amount, "token")), side && ` for ${side}`, message && make("span", { class: "tips__words" }, message)),
];

/** For a moment over a picture; a screen reader is told by whoever calls. @param {HTMLElement} picture @param {Tip} tip */
export function flashTip(picture, tip) {
  picture.querySelector(".tip-flash")?.remove();
  const box = make("div", { class: "tip-flash", "aria-hidden": "true" }, ...words(tip));
  picture.append(box);
  window.setTimeout(() => box.remove(), FLASH_MS);
}

export class Tips {
  /** @type {string} what is shown now: an address of the API, or "" */
  source = "";

  /** @param {HTMLElement} section partials/tips.html @param {HTMLElement | null} picture the tile that tips lie over for a moment */
  constructor(section, picture) {
    this.section = section;
    this.picture = picture;
    this.list = /** @type {HTMLElement} */ (section.querySelector("[data-tips-list]"));
    this.totalPlace = /** @type {HTMLElement} */ (section.querySelector("[data-tips-total]"));
    this.total = 0;
    /** @type {Set<string>} */
    this.known = new Set();
    /** @type {Tip[]} */
    this.unsaid = [];
    /** @type {Tip[]} those that came since we asked last */
    this.meanwhile = [];
    this.timer = 0;
  }

  /** Show the tips of another stream or session; the same again brings what was missed. @param {string} source address, "" for none */
  async show(source) {
    if (source !== this.source) this.clear();
    this.source = source;
    window.clearTimeout(this.timer);
    if (!source) return;
    this.meanwhile = [];
    try {
      const { tips, total } = await api.get(source);
      if (source !== this.source) return;
      this.list.replaceChildren();
      this.known.clear();
      for (const tip of [...tips].reverse()) this.put(tip);
      this.sum(total);
      // What the feed brought while we asked may be younger than the answer.
      for (const tip of this.meanwhile.filter(({ tipId }) => !this.known.has(tipId))) this.count(tip);
    } catch (error) {
      console.warn("tips not read", error);
      this.timer = window.setTimeout(() => this.show(this.source), RETRY_MS);
    }
  }

  /** One that was given now. @param {Tip} tip */
  add(tip) {
    if (this.known.has(tip.tipId)) return;
    this.meanwhile.push(tip);
    this.count(tip);
    this.tell(tip);
  }

  /** Over the picture and to a screen reader; the list has it already. @param {Tip} tip */
  tell(tip) {
    if (this.picture) flashTip(this.picture, tip);
    this.say(tip);
  }

  clear() {
    this.source = "";
    this.list.replaceChildren();
    this.known.clear();
    this.picture?.querySelector(".tip-flash")?.remove();
    this.sum(0);
  }

  /** @private @param {Tip} tip */
  count(tip) {
    this.put(tip);
    this.sum(this.total + tip.amount);
  }

  /** @private @param {Tip} tip */
  put(tip) {
    this.known.add(tip.tipId);
    this.list.prepend(make("li", { class: "chat__tip" }, ...words(tip)));
    while (this.list.childElementCount > MOST_SHOWN) this.list.lastElementChild?.remove();
  }

  /** @private @param {number} total */
  sum(total) {
    this.total = total;
    this.section.hidden = total === 0;
    this.totalPlace.textContent = `${formatTokens(total)} ${total === 1 ? "token" : "tokens"} in all`;
  }

  /** @private @param {Tip} tip */
  say(tip) {
    this.unsaid.push(tip);
    if (this.unsaid.length > 1) return;
    window.setTimeout(() => {
      const [first, ...rest] = this.unsaid.splice(0);
      const more = rest.reduce((sum, { amount }) => sum + amount, 0);
      const others = rest.length ? `, and ${plural(rest.length, "more tip")}, ${plural(more, "token")}` : "";
      announce(`${first.handle} tipped ${plural(first.amount, "token")}${first.message ? `: ${first.message}` : ""}${others}`);
    }, ANNOUNCE_MS);
  }
}
