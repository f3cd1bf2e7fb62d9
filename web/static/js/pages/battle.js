// @ts-check
/**
 * A battle's page: its pictures, the score as it moves, tips for a side; entering, beginning and ending for creators.
 * What is shown beside the pictures comes from the server (?part=board) after each change.
 */
import { ApiError, OneKey, api } from "../api.js";
import { CameraError, CameraService } from "../camera_service.js";
import { about, announce, busy, clock, openDialog, plural, toast } from "../ui.js";
import { wirePasses } from "./battle_passes.js";
import { BattlePlayer } from "./battle_player.js";
import { events, localTimes, onBalance, refreshBalance } from "./common.js";
import { TipDialog } from "./tip_dialog.js";
import { flashTip } from "./tips.js";

const POLL_MS = 10_000;
/** Many tips in a moment are one announcement. */
const SAY_MS = 1_500;
const ACTS = {
  enter: { title: "Enter the battle?", yes: "Enter", words: "Your entry fee goes into the pot. It comes back if you leave before the battle begins, if it never begins, or if nobody tips a side. When it begins, your public stream ends; away for a minute, you are out and the fee stays in the pot. If it begins earlier than told and you never come, the fee is yours again." },
  start: { title: "Begin the battle?", yes: "Begin", words: "All who have entered go on the air together, and their public streams end. Who is not here within a minute is out. Their fee stays in the pot, but goes back to who never comes if you begin before the time that was told." },
  leave: { title: "Leave the battle?", yes: "Leave", words: "Your entry fee and all tips for you go back to who paid them. If you are the host, the battle is called off and everybody has everything back." },
  end: { title: "End the battle now?", yes: "End it", words: "The score of this moment counts, and the pot is split as it says. This cannot be taken back." },
};

const root = /** @type {HTMLElement} */ (document.getElementById("battle"));
/** @type {{battleId: string, roomId: string, status: string, userId: string, kind: string, entryFee: number, balance: number, sides: string[]}} what web/pages/battles.py's PageData holds */
const page = JSON.parse(root.dataset.page ?? "{}");
const address = `/battles/${encodeURIComponent(page.battleId)}`;
const wish = `/api/streaming${address}`;
const camera = new CameraService();
const competes = page.kind === "host" || page.kind === "side";

const board = () => /** @type {HTMLElement} */ (document.getElementById("board"));
const sides = () => /** @type {HTMLElement[]} */ ([...board().querySelectorAll("[data-side]")]);
const nameOf = (/** @type {string} */ userId) => sides().find(({ dataset }) => dataset.side === userId)?.dataset.name ?? "A creator";
const placeOf = (/** @type {string} */ userId) => sides().findIndex(({ dataset }) => dataset.side === userId);
const player = new BattlePlayer(/** @type {HTMLElement} */ (document.getElementById("player")), page.userId, nameOf, placeOf);

const passesAnew = wirePasses(player, address, page.userId !== "");

let readAt = performance.now();
let sayTimer = 0;
let unsaid = "";

// --- the board ---------------------------------------------------------------------------------------

let fetching = false;
let again = false;

/** Score, pot and terms as the server has them now; the focus stays where it was. */
async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const response = await fetch(`${address}?part=board`, { credentials: "same-origin" });
    if (response.ok) replaceBoard(await response.text());
  } catch (error) {
    console.warn("board not refreshed", error); // the next message or poll tries again
  } finally {
    fetching = false;
    if (again) {
      again = false;
      void refresh();
    }
  }
}

/** @param {string} html from our own server */
function replaceBoard(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("board");
  if (!fresh) return;
  const focused = document.activeElement instanceof HTMLElement && board().contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.dataset.tipSide ? `[data-tip-side="${focused.dataset.tipSide}"]` : focused?.dataset.act ? `[data-act="${focused.dataset.act}"]` : "";
  const before = board().dataset.status;
  board().replaceWith(fresh);
  readAt = performance.now();
  showClock();
  localTimes(fresh);
  if (key) /** @type {HTMLElement | null} */ (fresh.querySelector(key))?.focus();
  if (fresh.dataset.status !== before) changed(fresh.dataset.status ?? "");
}

/** @param {string} status it has begun, or is over */
function changed(status) {
  page.status = status;
  /** @type {HTMLElement} */ (document.getElementById("on-air")).hidden = status !== "running";
  passesAnew();
  if (status === "running") {
    announce("The battle begins.", "alert");
    watch();
  } else {
    player.stop();
    camera.stopCamera();
    player.over("offline");
    announce(`The battle is over. ${board().dataset.outcome ?? ""}`, "alert");
    refreshBalance();
  }
}

function showClock() {
  const place = board().querySelector("[data-clock]");
  if (place) place.textContent = clock(Number(board().dataset.remaining) - (performance.now() - readAt));
}

/** The score in words, politely, and not for every single tip. @param {string} words */
function say(words) {
  unsaid = words;
  if (sayTimer) return;
  sayTimer = window.setTimeout(() => {
    sayTimer = 0;
    const score = sides().map(({ dataset }) => `${dataset.name} ${dataset.score}`).join(", ");
    /** @type {HTMLElement} */ (document.getElementById("score-says")).textContent = `${unsaid} Score: ${score}.`;
  }, SAY_MS);
}

// --- the pictures ------------------------------------------------------------------------------------

function watch() {
  if (page.status !== "running") return;
  if (competes && board().dataset.sides?.split(" ").includes(page.userId)) {
    player.over("camera");
    if (!player.tile.contains(document.activeElement)) /** @type {HTMLElement | null} */ (player.tile.querySelector("[data-seat]"))?.focus();
  } else if (page.userId) player.watch(page.roomId);
  else player.spectate(page.roomId);
}

async function takeSeat() {
  try {
    await camera.startCamera();
  } catch (error) {
    toast(CameraError.from(error).words, { kind: "bad" });
    return;
  }
  player.camera = camera;
  /** @type {HTMLElement} */ (root.querySelector("[data-own]")).hidden = false;
  await player.watch(page.roomId);
}

function wireCamera() {
  for (const seat of root.querySelectorAll("[data-seat]")) seat.addEventListener("click", () => busy(/** @type {HTMLButtonElement} */ (seat), "Starting…", takeSeat));
  const mute = root.querySelector("[data-mute]");
  mute?.addEventListener("click", () => {
    const muted = mute.getAttribute("aria-pressed") !== "true";
    player.client?.setMuted("audio", muted);
    mute.setAttribute("aria-pressed", String(muted));
  });
  root.querySelector("[data-flip]")?.addEventListener("click", () => camera.toggleCamera().catch((error) => toast(CameraError.from(error).words, { kind: "bad" })));
  camera.addEventListener("trackchange", () => player.showSelf());
}

// --- what people do ----------------------------------------------------------------------------------

function wireTips() {
  const element = document.getElementById("tip");
  if (!(element instanceof HTMLDialogElement)) return;
  const whom = (/** @type {string} */ creatorId) => ({
    creatorId,
    displayName: nameOf(creatorId),
    back: address,
    path: `${wish}/tips`,
    terms: "It goes into the pot, which is split at the end, whoever wins. It comes back only if the battle never begins, nobody stays, or this creator never comes.",
  });
  const dialog = new TipDialog(element, whom(page.sides[0] ?? ""));
  dialog.onGone = () => void refresh();
  onBalance(({ available }) => dialog.setBalance(available));
  dialog.setBalance(page.balance);
  root.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-tip-side]") : null;
    if (!(button instanceof HTMLElement)) return;
    dialog.setWhom(whom(button.dataset.tipSide ?? ""));
    dialog.open();
  });
}

function wireActs() {
  const dialog = document.getElementById("act");
  if (!(dialog instanceof HTMLDialogElement)) return;
  const key = new OneKey();
  const yes = /** @type {HTMLButtonElement} */ (document.getElementById("act-yes"));
  const put = (/** @type {string} */ what, /** @type {string} */ text) => {
    const place = dialog.querySelector(what);
    if (place) place.textContent = text;
  };
  root.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-act]") : null;
    if (!(button instanceof HTMLElement)) return;
    const act = /** @type {keyof typeof ACTS} */ (button.dataset.act);
    const pays = act === "enter" && page.entryFee > 0;
    const short = pays && page.entryFee > page.balance;
    put("#act-h", ACTS[act].title);
    put("#act-words", ACTS[act].words);
    put("[data-act-fee]", plural(page.entryFee, "token"));
    put("[data-act-money]", about(page.entryFee));
    put("[data-act-balance]", plural(page.balance, "token"));
    /** @type {HTMLElement} */ (dialog.querySelector("#act-bill")).hidden = !pays;
    /** @type {HTMLElement} */ (dialog.querySelector("#act-tokens")).hidden = !short;
    yes.hidden = short;
    yes.textContent = pays ? `Enter for ${plural(page.entryFee, "token")}` : ACTS[act].yes;
    dialog.dataset.act = act;
    dialog.returnValue = "";
    openDialog(dialog);
  });
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return;
    const act = dialog.dataset.act ?? "";
    const body = act === "enter" ? { maxEntryFee: page.entryFee } : {};
    try {
      await api.post(`${wish}/${act}`, body, { idempotencyKey: key.for([act, body]) });
      key.answered();
      if (act === "enter" || act === "leave") location.reload(); // what the page offers is another now
      else await refresh();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code !== "OFFLINE") key.answered();
      toast(error.code === "OFFLINE" ? "No answer came. Press again: nothing is paid twice." : error.detail, { kind: "bad" });
      await refresh();
    }
  });
  onBalance(({ available }) => {
    page.balance = available;
  });
}

player.onGone = (reason) => {
  if (reason === "STREAM_ENDED") player.over("offline");
  else {
    camera.stopCamera();
    player.camera = null;
    player.lost("You were removed from this battle.");
  }
  void refresh();
};
wireCamera();
wireTips();
wireActs();
events.on("BATTLE_CHANGED", (message) => {
  if (message.battleId === page.battleId) void refresh();
});
events.on("BATTLE_TIP", async (message) => {
  if (message.battleId !== page.battleId) return;
  flashTip(player.tile, { ...message, side: nameOf(message.creatorId) });
  await refresh();
  say(`${message.handle} tipped ${nameOf(message.creatorId)} ${plural(message.amount, "token")}.`);
});
events.on("RESYNC", () => void refresh());
window.setInterval(showClock, 500);
window.setInterval(() => {
  if (document.visibilityState === "visible") void refresh();
}, POLL_MS);
window.addEventListener("pagehide", () => camera.stopCamera());
watch();
