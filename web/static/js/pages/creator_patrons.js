// @ts-check
/**
 * A creator's page, what fans give besides private streams: tips and the subscription. creator.js shows and hides
 * its parts with the stream's state; this module brings them to life.
 */
import { events, onBalance } from "./common.js";
import { Pass } from "./pass.js";
import { Subscription } from "./subscribe.js";
import { TipDialog } from "./tip_dialog.js";
import { Tips } from "./tips.js";

const root = /** @type {HTMLElement} */ (document.getElementById("creator"));
/** @type {any} what web/pages/creator.py's PageData holds */
const page = JSON.parse(root.dataset.page ?? "{}");

function wireTips() {
  const section = root.querySelector("[data-tips]");
  if (!(section instanceof HTMLElement)) return;
  const tips = new Tips(section, document.getElementById("player"));
  const of = (/** @type {string | null} */ streamId) => (streamId ? `/api/streaming/streams/${encodeURIComponent(streamId)}/tips` : "");
  let streamId = page.streamId;
  const show = () => tips.show(of(streamId));
  events.on("TIP", (message) => {
    if (message.streamId === streamId && !message.sessionId) tips.add(/** @type {any} */ (message));
  });
  events.on("RESYNC", show);
  for (const type of ["STREAM_STARTED", "STREAM_ENDED"]) {
    events.on(type, (message) => {
      if (message.creatorId !== page.creatorId) return;
      streamId = type === "STREAM_STARTED" ? message.streamId : null;
      show();
    });
  }
  show(); // the feed may have been there before this script
}

function wireTipping() {
  const element = document.getElementById("tip");
  if (!(element instanceof HTMLDialogElement)) return;
  const dialog = new TipDialog(element, { creatorId: page.creatorId, displayName: page.displayName, back: `/models/${page.handle}?tip=1` });
  onBalance(({ available }) => dialog.setBalance(available));
  dialog.openBy(document.getElementById("tip-button"));
  for (const type of ["STREAM_ENDED", "STREAM_WENT_PRIVATE"]) {
    events.on(type, (message) => {
      if (message.creatorId === page.creatorId) dialog.close();
    });
  }
  const address = new URL(location.href);
  if (!address.searchParams.has("tip")) return;
  address.searchParams.delete("tip"); // back from the wallet: the dialog opens as it was left
  history.replaceState(null, "", address);
  if (page.state === "live") dialog.open();
}

wireTips();
if (page.kind === "fan") {
  wireTipping();
  new Subscription(page).wire();
  new Pass(document.getElementById("pass-place"), `/models/${page.handle}?part=pass`).wire();
}
