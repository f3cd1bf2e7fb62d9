/**
 * The studio's Settings tab: what a private stream costs, checked while typing, saved over REST.
 */
import { api } from "../api.js";
import { about, announce, busy, money, plural, toast } from "../ui.js";
import { OptionsFields } from "./studio_options.js";

/** @typedef {{enabled: boolean, ratePerMinute: number, minMinutes: number, autoAccept: string}} Offer */

export class SettingsForm {
  /** @type {(offer: Offer) => void} */
  onSaved = () => {};

  #form;
  #options;
  #commissionPercent;

  /** @param {HTMLFormElement} form @param {number} commissionPercent */
  constructor(form, commissionPercent) {
    this.#form = form;
    this.#options = new OptionsFields(form);
    this.#commissionPercent = commissionPercent;
    this.save = form.querySelector("#save-settings");
    this.save.disabled = false;
    form.addEventListener("input", () => this.#look());
    form.addEventListener("reset", () => setTimeout(() => this.#look()));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#look();
  }

  /** @returns {Offer} as the fields say, right or wrong */
  #offer() {
    const value = (id) => this.#form.querySelector(`#${id}`);
    return {
      enabled: value("enabled").checked,
      ratePerMinute: whole(value("rate").value),
      minMinutes: whole(value("minimum").value),
      autoAccept: value("auto").value,
    };
  }

  #look() {
    const offer = this.#offer();
    const rateFits = this.#mark("rate", 1, 100_000);
    const minimumFits = this.#mark("minimum", 1, 60);
    const optionsFit = this.#options.look(offer.ratePerMinute);
    this.#form.querySelector("#settings-state").textContent = "";
    if (!rateFits || !minimumFits) return false;
    const pays = offer.ratePerMinute * offer.minMinutes;
    const commission = Math.floor((pays * this.#commissionPercent) / 100);
    const earns = pays - commission;
    put("rate", plural(offer.ratePerMinute, "token"));
    put("rate-is", offer.ratePerMinute === 1 ? "is" : "are");
    put("rate-money", about(offer.ratePerMinute));
    put("minimum", `${offer.minMinutes} min`);
    put("pays", plural(pays, "token"));
    put("pays-money", money(pays));
    put("commission", plural(commission, "token"));
    put("earns", plural(earns, "token"));
    put("earns-money", money(earns));
    const price = `${plural(offer.ratePerMinute, "token")} per minute (${money(offer.ratePerMinute)}), at least ${plural(offer.minMinutes, "minute")}.`;
    put("fans-see", offer.enabled ? price : "No button. Your price stays hidden.");
    document.querySelector('[data-sum="button"]').hidden = !offer.enabled;
    return optionsFit;
  }

  #mark(id, least, most) {
    const input = this.#form.querySelector(`#${id}`);
    const value = whole(input.value);
    const fits = value >= least && value <= most;
    if (fits) input.removeAttribute("aria-invalid");
    else input.setAttribute("aria-invalid", "true");
    this.#form.querySelector(`#${id}-error`).hidden = fits;
    return fits;
  }

  async #submit() {
    if (!this.#look()) {
      const wrong = this.#form.querySelector("[aria-invalid]");
      wrong.focus();
      announce(this.#form.querySelector(`#${wrong.id}-error`).textContent.trim(), "alert");
      return;
    }
    try {
      const saved = await busy(this.save, "Saving…", async () => {
        await api.put("/api/streaming/creator-options", this.#options.read());
        return api.put("/api/streaming/private-settings", this.#offer());
      });
      for (const input of this.#form.querySelectorAll("input")) keep(input);
      for (const option of this.#form.querySelectorAll("option")) option.defaultSelected = option.selected;
      this.#form.querySelector("#settings-state").textContent = "Saved. The next request has this price.";
      this.onSaved(saved);
    } catch (error) {
      toast(error.message, { kind: "bad" });
    }
  }
}

/** What was saved is what "Undo" comes back to. */
function keep(input) {
  input.defaultValue = input.value;
  input.defaultChecked = input.checked;
}

function put(name, text) {
  for (const place of document.querySelectorAll(`[data-sum="${name}"]`)) place.textContent = text;
}

/** A whole number, or NaN for anything else. */
const whole = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : NaN);
