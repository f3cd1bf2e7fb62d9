/**
 * /call/<sessionId> on a page of its own: the fan who comes from the lobby, and whoever reloads.
 */
import { CallSession } from "../call_session.js";
import { CallView } from "../call_view.js";
import { CameraService } from "../camera_service.js";
import { loadChoice } from "../devices.js";
import { events, onBalance } from "./common.js";
import { ExtendDialog } from "./extend_dialog.js";

const MESSAGE_MS = 1_000;
const page = document.getElementById("call-page");
/** @type {{userId: string, available: number, session: import("../call_bill.js").Session}} */
const { userId, available, session } = JSON.parse(page.dataset.page);
const choice = loadChoice();
const camera = new CameraService();
const view = new CallView(page.querySelector(".call"));
const fan = session.role === "fan";
const call = new CallSession(session, userId, view, camera, {
  available,
  redirect: fan,
  endWords: {
    camera: "Your camera and microphone are off.",
    next: fan ? "Going to creators in 1 s" : "Going to the studio in 1 s",
    away: fan ? "/models" : "",
  },
});
const dialog = document.getElementById("extend");
const extend = dialog ? new ExtendDialog(dialog, session, () => call.paidMs) : null;
extend?.setBalance(available);
for (const button of page.querySelectorAll("[data-extend-open]")) button.addEventListener("click", () => extend?.open());
call.onRefreshed = () => extend?.show();
// The creator's stream waits in the studio, which says the reason again.
call.onEnded = (reason) => {
  extend?.end();
  const query = new URLSearchParams({ ended: reason, session: session.sessionId });
  if (!fan) setTimeout(() => location.assign(`/studio?${query}`), MESSAGE_MS);
};

camera.cameraId = choice.cameraId;
camera.microphoneId = choice.microphoneId;
onBalance(({ available: now }) => {
  view.setAvailable(now);
  extend?.setBalance(now);
});
events.on("SESSION_CHANGED", (message) => {
  if (message.sessionId !== session.sessionId) return;
  if (message.status === "ended") call.endedElsewhere(message.reason);
  else void call.refresh();
});
events.on("RESYNC", () => void call.refresh());
// The meter does not wait for the fan's camera: the seat is taken at once, the camera follows.
const seated = call.start();
if (fan && choice.watchOnly) view.cameraNote("You chose to watch and listen only.", "", "Turn camera on");
else await call.openCamera();
await seated;
