// @ts-check
/** /battles: the list changes by itself; a creator opens a battle, seeing first what it costs. */
import { ApiError, OneKey, api } from "../api.js";
import { about, announce, busy, formatTokens, openDialog, plural, warnIn } from "../ui.js";
import { events, localTimes, onBalance } from "./common.js";

const POLL_MS = 20_000;
const HIGHEST_FEE = 100_000;

/** Take the list from the server once more; the focus stays on the same battle. */
async function refresh() {
  const list = document.getElementById("battle-list");
  try {
    const response = await fetch("/battles?part=list", { credentials: "same-origin" });
    if (!response.ok || !list) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("battle-list");
    if (!fresh) return;
    const focused = document.activeElement instanceof HTMLAnchorElement && list.contains(document.activeElement) ? document.activeElement : null;
    list.replaceWith(fresh);
    localTimes(fresh);
    if (focused) /** @type {HTMLElement | null} */ (fresh.querySelector(`a[href="${CSS.escape(focused.getAttribute("href") ?? "")}"]`))?.focus();
  } catch (error) {
    console.warn("list not refreshed", error); // the next message or poll tries again
  }
}

class NewBattle {
  /** @param {HTMLDialogElement} dialog @param {HTMLButtonElement} opener */
  constructor(dialog, opener) {
    this.dialog = dialog;
    this.form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    this.balance = Number(this.form.dataset.balance);
    this.key = new OneKey();
    this.confirm = /** @type {HTMLButtonElement} */ (this.place("confirm"));
    opener.disabled = false;
    opener.addEventListener("click", () => {
      this.say("");
      this.show();
      openDialog(dialog);
    });
    this.form.addEventListener("input", () => this.show());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
    });
    onBalance(({ available }) => {
      this.balance = available;
      this.show();
    });
  }

  /** @private @param {string} name */
  value(name) {
    return /** @type {HTMLInputElement} */ (this.form.querySelector(`#battle-${name}`)).value.trim();
  }

  /** @private */
  show() {
    const fee = Number(this.value("fee"));
    const valid = Number.isInteger(fee) && fee >= 0 && fee <= HIGHEST_FEE;
    const short = valid && fee > this.balance;
    this.place("fee").textContent = valid ? formatTokens(fee) : "–";
    this.place("unit").textContent = fee === 1 ? "token" : "tokens";
    this.place("money").textContent = valid && fee ? about(fee) : "";
    this.place("balance").textContent = plural(this.balance, "token");
    const get = this.place("get-tokens");
    get.hidden = !short;
    get.setAttribute("href", `/wallet?need=${Math.max(0, fee - this.balance)}&next=/battles`);
    this.confirm.hidden = short;
    if (this.confirm.getAttribute("aria-busy") !== "true") this.confirm.textContent = valid && fee ? `Open for ${plural(fee, "token")}` : "Open the battle";
  }

  /** @private */
  async submit() {
    if (this.confirm.hidden || this.confirm.getAttribute("aria-busy") === "true") return;
    this.say("");
    const percent = this.value("split");
    const body = {
      title: this.value("title"),
      entryFee: Number(this.value("fee")),
      winnerPercent: percent ? Number(percent) : null,
      mostCreators: Number(this.value("most")),
      limitMinutes: Number(this.value("minutes")),
      beginsAt: new Date(Date.now() + Number(this.value("begins")) * 60_000).toISOString(),
    };
    // The moment is another with each press; what is meant is the same.
    const wish = { ...body, beginsAt: this.value("begins") };
    try {
      this.sent = JSON.stringify(this.sentFor) === JSON.stringify(wish) ? this.sent : body;
      this.sentFor = wish;
      const view = await busy(this.confirm, "Opening…", () => api.post("/api/streaming/battles", this.sent, { idempotencyKey: this.key.for(wish) }));
      location.assign(`/battles/${encodeURIComponent(view.battleId)}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code !== "OFFLINE") {
        this.key.answered();
        this.sentFor = undefined;
      }
      this.say(error.code === "OFFLINE" ? "No answer came. Press again: nothing is paid twice." : error.detail);
    }
  }

  /** @private @param {string} title */
  say(title) {
    warnIn(this.place("message"), title, title ? "Nothing was paid." : "");
    if (title) announce(title, "alert");
  }

  /** @private @param {string} name @returns {HTMLElement} */
  place(name) {
    return /** @type {HTMLElement} */ (this.dialog.querySelector(`[data-new="${name}"]`));
  }
}

const dialog = document.getElementById("new-battle");
const opener = document.getElementById("open-battle");
if (dialog instanceof HTMLDialogElement && opener instanceof HTMLButtonElement) new NewBattle(dialog, opener);
for (const type of ["BATTLE_CHANGED", "RESYNC"]) events.on(type, () => void refresh());
window.setInterval(() => {
  if (document.visibilityState === "visible") void refresh();
}, POLL_MS);
