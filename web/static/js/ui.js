// @ts-check
/**
 * Small things that every page does the same way: toasts, announcements, dialogs, busy buttons, and how figures
 * are written (the twin of web/pages/wording.py). Knows no page and no API.
 */

const root = document.documentElement;
const SYMBOLS = /** @type {Record<string, string>} */ ({ USD: "$", EUR: "€", GBP: "£" });

/** @param {number} value @returns {string} 1350 → "1,350"; a minus is a real minus sign */
export const formatTokens = (value) => Math.round(value).toLocaleString("en-US").replace("-", "−");

/** @param {number} minor minor units (cents) @param {string} [currency] @returns {string} 4800 → "$48.00" */
export function formatPrice(minor, currency = root.dataset.currency ?? "USD") {
  const whole = Math.floor(minor / 100).toLocaleString("en-US");
  return `${SYMBOLS[currency] ?? `${currency} `}${whole}.${String(minor % 100).padStart(2, "0")}`;
}

/** @param {number} tokens @returns {string} at the list price of the smallest package: 100 → "$5.00" */
export function money(tokens) {
  const [size, minor] = [Number(root.dataset.priceTokens ?? 1), Number(root.dataset.priceMinor ?? 0)];
  return formatPrice(Math.floor((Math.abs(tokens) * minor * 2 + size) / (size * 2)));
}

/** @param {number} tokens @returns {string} "about $5.00": a conversion, not a charge */
export const about = (tokens) => `about ${money(tokens)}`;

/** @param {number} count @param {string} one @param {string} [many] @returns {string} "1 minute", "5 minutes" */
export const plural = (count, one, many = `${one}s`) => `${formatTokens(count)} ${count === 1 ? one : many}`;

/** @param {number} milliseconds @returns {string} "4:38", "1:02:09"; part seconds are dropped */
export function clock(milliseconds) {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
export { clock as formatClock };

/** @param {string} handle @returns {number} 1 to 6, as wording.tint */
export const tint = (handle) => (new TextEncoder().encode(handle).reduce((sum, byte) => sum + byte, 0) % 6) + 1;

/** @param {string} name @returns {string} the letter of an avatar */
export const initial = (name) => (name.split(/[\s_-]+/).filter(Boolean).pop()?.[0] ?? "?").toUpperCase();

/**
 * An element with attributes and children; text is always text, never markup.
 * @param {string} tag
 * @param {Record<string, any>} [attributes] `class`, `hidden`, any attribute; a function under `onclick` etc. listens
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** @param {string} name a symbol of partials/icons.html @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** @param {string} name @param {string} handle @param {string | null} [url] @param {string} [size] @returns {HTMLElement} */
export function avatar(name, handle, url, size = "") {
  const kind = size ? ` avatar--${size}` : "";
  if (url) return make("img", { class: `avatar${kind}`, src: url, alt: "" });
  return make("span", { class: `avatar tint-${tint(handle)}${kind}`, "aria-hidden": "true" }, initial(name));
}

/**
 * Tell a screen reader that something changed. Changes only, never ticks.
 * @param {string} text
 * @param {"status" | "alert"} [kind] "alert" for errors and for an end
 */
export function announce(text, kind = "status") {
  const region = document.getElementById(kind === "alert" ? "say-alert" : "say-status");
  if (!region) return;
  region.textContent = "";
  // The region must be seen empty first, or the same words twice would not be read twice.
  requestAnimationFrame(() => requestAnimationFrame(() => { region.textContent = text; }));
}

/**
 * A message in the corner; leaves after 7 s unless it has an action or is bad news.
 * @param {string} text
 * @param {{kind?: "good" | "bad" | "warn" | "info", iconName?: string, action?: {label: string, href?: string, run?: () => void}, stay?: boolean}} [options]
 * @returns {() => void} takes it away
 */
export function toast(text, { kind = "info", iconName, action, stay = kind === "bad" || Boolean(action) } = {}) {
  const symbol = iconName ?? { good: "check", bad: "warn", warn: "info", info: "info" }[kind];
  const box = make("div", { class: `toast toast--${kind}` }, icon(symbol), make("p", { class: "grow" }, text));
  const away = () => box.remove();
  if (action?.href) box.append(make("a", { class: "btn btn--s", href: action.href }, action.label));
  else if (action) box.append(make("button", { class: "btn btn--s", type: "button", onclick: () => { away(); action.run?.(); } }, action.label));
  box.append(make("button", { class: "btn btn--bare btn--icon btn--s", type: "button", "aria-label": "Dismiss", onclick: away }, icon("x")));
  document.getElementById("toasts")?.append(box);
  raiseToasts();
  announce(text, kind === "bad" ? "alert" : "status");
  if (!stay) window.setTimeout(away, 7_000);
  return away;
}

/** Toasts lie in the top layer, above whatever dialog is open now. */
function raiseToasts() {
  const region = document.getElementById("toasts");
  if (!region?.showPopover) return;
  if (region.matches(":popover-open")) region.hidePopover();
  if (region.childElementCount) region.showPopover();
}

/**
 * Open a modal dialog with the focus on its `autofocus` field. Esc and [data-closes] close it.
 * @param {HTMLDialogElement} dialog
 */
export function openDialog(dialog) {
  if (dialog.open) return;
  dialog.showModal();
  raiseToasts();
}

/** @param {HTMLDialogElement} dialog */
export function closeDialog(dialog) {
  if (dialog.open) dialog.close();
}

/**
 * A button while its work runs: keeps place and size, says so (`aria-busy`), takes no second press.
 * @template T
 * @param {HTMLButtonElement} button
 * @param {string} words "Confirming…"
 * @param {() => Promise<T>} work
 * @returns {Promise<T>} of the work; its error passes through
 */
export async function busy(button, words, work) {
  const children = [...button.childNodes];
  button.style.setProperty("min-width", `${button.offsetWidth}px`);
  button.setAttribute("aria-busy", "true");
  const stop = (/** @type {Event} */ event) => { event.preventDefault(); event.stopImmediatePropagation(); };
  button.addEventListener("click", stop, true);
  button.replaceChildren(words);
  try {
    return await work();
  } finally {
    button.removeEventListener("click", stop, true);
    button.replaceChildren(...children);
    button.removeAttribute("aria-busy");
    button.style.removeProperty("min-width");
  }
}
export { busy as busyButton };

/** A warning in a place of its own, usually at the head of a dialog; no title takes it away. @param {HTMLElement} place @param {string} title @param {string} [text] */
export function warnIn(place, title, text = "") {
  place.hidden = !title;
  place.replaceChildren();
  if (!title) return;
  const words = make("p", {}, make("b", {}, title), text && make("br"), text);
  place.append(make("div", { class: "banner banner--warn", role: "alert" }, icon("info"), words));
}

/** @param {Element | null} element @param {string} value sets --v: a bar, a ring ("54%", "220") */
export function setValue(element, value) {
  if (element instanceof HTMLElement) element.style.setProperty("--v", value);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const closer = target?.closest("[data-closes]");
  if (closer) closer.closest("dialog")?.close();
  const dismiss = target?.closest("[data-dismiss]");
  if (dismiss) dismiss.closest(".banner")?.remove();
});
