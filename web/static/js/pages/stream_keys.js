// @ts-check
/** The studio's Settings tab: keys for encoders, each shown once, and what to enter in OBS. */
import { api } from "../api.js";
import { announce, busy, make, plural, toast } from "../ui.js";
import { localTimes } from "./common.js";

/** @typedef {{keyId: string, name: string, createdAt: string, lastUsedAt: string | null}} StreamKey */

const card = /** @type {HTMLElement} */ (document.querySelector("#stream-keys"));
const part = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id));
/** @type {{keys: StreamKey[], most: number}} */
const first = JSON.parse(card.dataset.page ?? "");
let keys = first.keys;
/** Whose key is on the screen. */
let fresh = "";

/** @param {string} at */
const moment = (at) => make("time", { datetime: at, "data-moment": "full" }, at.slice(0, 16).replace("T", " "));

/** @param {unknown} error */
const refused = (error) => toast(error instanceof Error ? error.message : "It did not get through.", { kind: "bad" });

/** @param {StreamKey} key */
function line(key) {
  const button = /** @type {HTMLButtonElement} */ (make("button", { class: "btn btn--s btn--stop", type: "button", "aria-label": `Revoke ${key.name}` }, "Revoke"));
  button.addEventListener("click", () => void revoke(button, key));
  const used = key.lastUsedAt ? [" · last used ", moment(key.lastUsedAt)] : [" · not used yet"];
  return make("li", {}, make("div", { class: "grow" }, make("b", {}, key.name), make("p", { class: "small muted" }, "Made ", moment(key.createdAt), ...used)), button);
}

function show() {
  const list = part("stream-key-list");
  list.replaceChildren(...keys.map(line));
  list.hidden = keys.length === 0;
  localTimes(list);
  const full = keys.length >= first.most;
  part("make-stream-key").disabled = full;
  part("stream-key-state").textContent = full ? `${plural(first.most, "key")} at a time. Revoke one first.` : "";
}

/** @param {HTMLButtonElement} button @param {StreamKey} key */
async function revoke(button, key) {
  try {
    await busy(button, "Revoking…", () => api.delete(`/api/streaming/stream-keys/${encodeURIComponent(key.keyId)}`));
  } catch (error) {
    refused(error);
    return;
  }
  keys = keys.filter(({ keyId }) => keyId !== key.keyId);
  if (fresh === key.keyId) part("stream-key-fresh").hidden = true;
  show();
  announce(`${key.name} works no longer. An encoder that used it is off the air.`);
  part("stream-key-name").focus();
}

part("stream-key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = part("stream-key-name").value.trim() || "OBS";
  try {
    const button = /** @type {HTMLButtonElement} */ (/** @type {unknown} */ (part("make-stream-key")));
    const made = await busy(button, "Making…", () => api.post("/api/streaming/stream-keys", { name }));
    fresh = made.keyId;
    keys = [...keys, { keyId: made.keyId, name: made.name, createdAt: made.createdAt, lastUsedAt: null }];
    part("stream-key").value = made.key;
    part("stream-key-fresh").hidden = false;
    part("stream-key-name").value = "";
    show();
    part("stream-key").focus();
    part("stream-key").select();
    announce("Your stream key is on the screen. It is shown this once.");
  } catch (error) {
    refused(error);
  }
});

for (const button of card.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    const input = part(/** @type {HTMLElement} */ (button).dataset.copies ?? "");
    input.select();
    try {
      await navigator.clipboard.writeText(input.value);
      announce("Copied.");
      toast("Copied.");
    } catch {
      announce("Press Ctrl+C to copy.");
    }
  });
}
show();
