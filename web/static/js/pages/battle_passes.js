// @ts-check
/**
 * 720p in a battle for who watches without a seat: the pass of any creator in it, bought on the page, and what plays
 * becomes sharper by the feed's word. Knows nothing of score and pot.
 */
import { announce, toast } from "../ui.js";
import { events } from "./common.js";
import { Pass } from "./pass.js";

/**
 * @param {import("./battle_player.js").BattlePlayer} player
 * @param {string} address of the battle's page
 * @param {boolean} signedIn
 * @returns {() => void} to be called when the battle has begun or is over
 */
export function wirePasses(player, address, signedIn) {
  const place = /** @type {HTMLElement} */ (document.getElementById("passes"));
  const pass = document.getElementById("pass") ? new Pass(place, `${address}?part=passes`) : null;
  pass?.wire();
  player.onPremium = () => {
    const ways = /** @type {HTMLElement[]} */ ([...place.querySelectorAll("[data-pass-open], a")]);
    if (ways.length === 1) ways[0].click();
    else if (ways.length) {
      place.scrollIntoView({ block: "nearest" });
      ways[0].focus();
      announce("Choose whose pass you buy.");
    } else if (!signedIn) location.assign(`/login?next=${encodeURIComponent(address)}`);
    else toast("720p is for subscribers of a creator in this battle. No creator here sells a pass.");
  };
  document.addEventListener("pass-bought", () => player.spectatorBar.wantBest());
  for (const type of ["SUBSCRIPTION_CHANGED", "PASS_CHANGED"]) events.on(type, () => player.renew());
  return () => void pass?.refresh();
}
