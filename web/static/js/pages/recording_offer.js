// @ts-check
/** The studio's Settings tab: whether private streams may be recorded, who may watch, and for how much. */
import { api } from "../api.js";
import { about, announce, busy, plural, toast } from "../ui.js";

const MOST_TOKENS = 1_000_000;
const form = /** @type {HTMLFormElement | null} */ (document.querySelector("#recording-offer"));
const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form?.querySelector(`#recording-${name}`));
const say = (/** @type {string} */ name, /** @type {string} */ text) => {
  const place = form?.querySelector(`[data-offer="${name}"]`);
  if (place) place.textContent = text;
};

function look() {
  const text = field("price").value.trim();
  const price = /^\d+$/.test(text) ? Number(text) : NaN;
  const fits = price >= 0 && price <= MOST_TOKENS;
  if (fits) field("price").removeAttribute("aria-invalid");
  else field("price").setAttribute("aria-invalid", "true");
  field("price-error").hidden = fits;
  const off = !field("offered").checked;
  field("shared").disabled = off;
  field("price").disabled = off || !field("shared").checked;
  say("money", !fits ? "" : price === 0 ? "0: free of charge." : `${plural(price, "token")} ${price === 1 ? "is" : "are"} ${about(price)} for the fan.`);
  return fits ? price : null;
}

form?.addEventListener("input", () => {
  say("state", "");
  look();
});
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const price = look();
  if (price === null) {
    field("price").focus();
    announce("Choose 0 to 1,000,000 tokens.", "alert");
    return;
  }
  const body = { offered: field("offered").checked, price, shared: field("shared").checked };
  const button = /** @type {HTMLButtonElement} */ (form.querySelector(".btn--primary"));
  try {
    await busy(button, "Saving…", () => api.put("/api/streaming/recording-offer", body));
    say("state", "Saved. The next call has these terms.");
  } catch (error) {
    toast(error instanceof Error ? error.message : "It did not get through.", { kind: "bad" });
  }
});
if (form) look();
