// @ts-check
/**
 * Acts of admins: a button says what, the dialog says the consequence and asks why, the API does it.
 * Knows no single act; everything about one is in its button's data attributes.
 */
import { ApiError, api, newIdempotencyKey } from "../api.js";
import { busy, closeDialog, openDialog, toast } from "../ui.js";

const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("act"));
const form = /** @type {HTMLFormElement} */ (document.getElementById("act-form"));
const fields = /** @type {HTMLElement} */ (document.getElementById("act-fields"));
const reason = /** @type {HTMLTextAreaElement} */ (document.getElementById("act-reason"));
const go = /** @type {HTMLButtonElement} */ (document.getElementById("act-go"));
const problem = /** @type {HTMLElement} */ (document.getElementById("act-error"));
const UNCONFIRMED = "The media node has not answered. The cut is recorded and will be carried out; it is safe to press again.";

/** @type {HTMLButtonElement | null} the button whose act the dialog is about */
let present = null;
/** One key for all tries of the same thing. */
let key = "";
/** @type {() => void} */
let afterwards = () => {};

/** @param {() => void} refresh called after each act */
export function listenForActs(refresh) {
  afterwards = refresh;
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("[data-act]") : null;
    if (target instanceof HTMLButtonElement) open(target);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!go.hasAttribute("aria-busy")) void carryOut();
  });
}

/** @returns {boolean} whether somebody is deciding: the page must not change under them */
export const deciding = () => dialog.open;

/** @returns {string[]} the letters that are chosen */
const chosen = () =>
  [...document.querySelectorAll("[data-pick]")].filter((each) => each instanceof HTMLInputElement && each.checked)
    .map((each) => /** @type {HTMLElement} */ (each).dataset.pick ?? "");

/** @param {HTMLButtonElement} button */
function open(button) {
  if (button.dataset.many && !chosen().length) {
    toast("Choose at least one.", { kind: "warn" });
    return;
  }
  present = button;
  key = newIdempotencyKey();
  text("act-h", button.dataset.title ?? "");
  text("act-consequence", button.dataset.consequence ?? "");
  go.className = `btn ${button.dataset.kind === "danger" ? "btn--danger" : "btn--primary"}`;
  go.textContent = button.dataset.go ?? "";
  const template = document.getElementById(button.dataset.fields || "none");
  fields.replaceChildren(template instanceof HTMLTemplateElement ? template.content.cloneNode(true) : "");
  reason.value = "";
  say("");
  openDialog(dialog);
}

/** @param {string} id @param {string} words */
function text(id, words) {
  const place = document.getElementById(id);
  if (place) place.textContent = words;
}

/** @param {string} words "" for none */
function say(words) {
  problem.hidden = !words;
  const place = problem.querySelector("p");
  if (place) place.textContent = words;
}

/** @returns {Record<string, any>} what the button says, what the fields say, and why */
function body() {
  /** @type {Record<string, any>} */
  const said = JSON.parse(present?.dataset.body ?? "{}");
  if (present?.dataset.many) said[present.dataset.many] = chosen();
  // The contract's call has the reason for a label; the words go into its note.
  said["reason" in said ? "note" : "reason"] = reason.value.trim();
  for (const input of fields.querySelectorAll("input")) {
    const { name, value } = input;
    if ("list" in input.dataset) said[name] = [...(said[name] ?? []), ...(input.checked ? [value] : [])];
    else if (input.type === "radio") {
      if (input.checked) said[name] = value;
    } else if ("number" in input.dataset) {
      if (value !== "") said[name] = Number(value);
    } else said[name] = value.trim();
  }
  return said;
}

/** @returns {string} what is missing, in the words of what is right */
function missing() {
  if (reason.value.trim().length < 3) return "Say why, in 3 to 500 characters.";
  for (const input of fields.querySelectorAll("input")) {
    if (!input.checkValidity() || (input.required && !input.value.trim())) {
      input.focus();
      return input.type === "number" ? `A whole number from ${input.min || 1}${input.max ? ` to ${input.max}` : ""}.` : "Fill in every field.";
    }
  }
  return "";
}

async function carryOut() {
  const button = present;
  if (!button) return;
  const lacks = missing();
  say(lacks);
  if (lacks) {
    if (lacks.startsWith("Say")) reason.focus();
    return;
  }
  const options = "key" in button.dataset ? { idempotencyKey: key } : {};
  const path = button.dataset.act ?? "";
  try {
    const call = button.dataset.method === "PUT" ? api.put : api.post;
    const answer = await busy(go, "Working…", () => call(path, body(), options));
    closeDialog(dialog);
    toast(button.dataset.done ?? "Done.", { kind: "good" });
    if (answer?.token) showOnce(answer.token);
    afterwards();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.code === "UNCONFIRMED" ? UNCONFIRMED : error.detail);
  }
}

/** @param {string} token shown this once, and gone with the dialog */
function showOnce(token) {
  const once = /** @type {HTMLDialogElement} */ (document.getElementById("once"));
  text("once-token", token);
  once.addEventListener("close", () => text("once-token", ""), { once: true });
  openDialog(once);
}
