// @ts-check
/**
 * Recording a call with two keys: who asks, what is agreed to, who stops it. On /call and in the studio, where the
 * call is in the same document. The red mark itself is the call's (call_view.js), by the media node's word.
 */
import { ApiError, api } from "../api.js";
import { about, announce, busy, closeDialog, make, openDialog, plural, toast, warnIn } from "../ui.js";
import { events } from "./common.js";

/** @typedef {{sessionId: string, role: "fan"|"creator", offered: boolean, status: string, terms: {price: number, shared: boolean, keepDays: number, textVersion: number}, text: string[], mine: boolean, theirs: boolean, stopReason: string|null, stoppedByMe: boolean}} Recording as GET …/recording answers */

const root = /** @type {HTMLElement} */ (document.querySelector(".call"));
const dialog = /** @type {HTMLDialogElement} */ (root.querySelector("#record"));
const one = (/** @type {string} */ name) => /** @type {HTMLElement} */ (root.querySelector(`[data-rec="${name}"]`));
const ofAddress = () => /^\/call\/([\w-]+)$/.exec(location.pathname)?.[1] ?? "";
const BUSY = ["wanted", "running"];

let sessionId = ofAddress();
/** @type {Recording | null} */
let seen = null;
/** The node's word: media may be recorded now. */
let marked = false;
let dismissed = false;
let asked = 0;

async function look() {
  if (!sessionId) return;
  const mine = ++asked;
  try {
    const fresh = await api.get(`/api/streaming/private-sessions/${sessionId}/recording`);
    if (mine === asked) draw(fresh);
  } catch (error) {
    console.warn("recording_not_read", error);
  }
}

/** @param {Recording} fresh */
function draw(fresh) {
  const before = seen?.sessionId === fresh.sessionId ? seen.status : "";
  seen = fresh;
  const runs = marked || BUSY.includes(fresh.status);
  const askable = fresh.offered && ["none", "asked"].includes(fresh.status);
  const open = one("open");
  open.hidden = !(runs || askable);
  open.toggleAttribute("aria-haspopup", !runs);
  one("open-words").textContent = runs ? "Stop recording" : fresh.mine ? "Asked to record" : "Record";
  const asks = fresh.status === "asked" && fresh.theirs && !fresh.mine;
  if (!asks) dismissed = false;
  const note = one("note");
  if (asks && note.hidden && !dismissed) announce("You are asked whether this call may be recorded.", "alert");
  note.hidden = !asks || dismissed;
  fill(fresh);
  if (!askable && dialog.open) closeDialog(dialog);
  if (before && before !== fresh.status) tell(fresh);
}

/** @param {Recording} fresh */
function fill({ role, mine, theirs, terms, text }) {
  one("text").replaceChildren(...text.map((line) => make("li", {}, line)));
  one("price").textContent = !terms.shared ? "not shared" : terms.price ? `${plural(terms.price, "token")}, ${about(terms.price)}` : "nothing";
  one("days").textContent = plural(terms.keepDays, "day");
  one("whose").textContent = mine ? "You have agreed; it begins once the other side has, too." : theirs ? "The other side has agreed. With you it begins at once." : role === "fan" ? "It begins once both of you have agreed." : "The fan is asked, too. It begins once both of you have agreed.";
  one("agree").hidden = mine;
  one("back").hidden = !mine;
}

/** @param {Recording} fresh */
function tell({ status, stopReason, stoppedByMe }) {
  if (stopReason === "no_recorder") toast("Recording could not begin. The call goes on without.", { kind: "warn" });
  else if (stopReason === "no_space") toast("Recording has stopped: there is no room for more.", { kind: "warn" });
  else if (["finishing", "gone"].includes(status) && stopReason === "withdrawn") toast(stoppedByMe ? "You stopped the recording." : "The other side stopped the recording.", { iconName: "rec" });
}

/** @param {() => Promise<void>} wish */
async function act(wish) {
  warnIn(one("message"), "");
  try {
    await wish();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "RECORDING_TERMS_CHANGED") {
      await look();
      warnIn(one("message"), "The terms have changed.", "Read them again before you agree.");
    } else if (dialog.open) warnIn(one("message"), error.detail, "Nothing is recorded.");
    else toast(error.detail, { kind: "bad" });
  }
}

async function agree() {
  if (!seen) return;
  draw(await api.post("/api/streaming/recording-consent", { sessionId, ...seen.terms }));
  closeDialog(dialog);
}

async function withdraw() {
  // The node first: it needs nobody else to stop.
  if (marked) root.dispatchEvent(new CustomEvent("call:stop-recording"));
  const answer = await api.post("/api/streaming/recording-withdraw", { sessionId });
  draw(answer.recording);
  if (dialog.open) closeDialog(dialog);
}

function show() {
  warnIn(one("message"), "");
  openDialog(dialog);
}

one("open").addEventListener("click", () => {
  const button = /** @type {HTMLButtonElement} */ (one("open"));
  if (marked || (seen && BUSY.includes(seen.status))) void act(() => busy(button, "Stopping…", withdraw));
  else show();
});
one("read").addEventListener("click", show);
one("later").addEventListener("click", () => {
  dismissed = true;
  one("note").hidden = true;
});
one("agree").addEventListener("click", () => void act(() => busy(/** @type {HTMLButtonElement} */ (one("agree")), "Signing…", agree)));
one("back").addEventListener("click", () => void act(() => busy(/** @type {HTMLButtonElement} */ (one("back")), "Taking back…", withdraw)));

root.addEventListener("call:recording", (event) => {
  marked = /** @type {CustomEvent} */ (event).detail.on;
  if (seen) draw(seen);
  void look();
});
events.on("RECORDING_CHANGED", (message) => {
  if (message.sessionId === sessionId) void look();
});
events.on("SESSION_CHANGED", (message) => {
  if (["settling", "ended"].includes(message.status)) {
    if (message.sessionId !== sessionId) return;
    one("open").hidden = one("note").hidden = true;
    if (dialog.open) closeDialog(dialog);
    return;
  }
  // A person is in one call at a time: in the studio it begins without another page.
  sessionId = message.sessionId;
  void look();
});
events.on("RESYNC", () => {
  sessionId = ofAddress() || sessionId;
  void look();
});
void look(); // the feed may have been there before this script
