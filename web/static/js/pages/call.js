/**
 * /call/<sessionId> on a page of its own: the fan who comes from the lobby, and whoever reloads.
 */
import { CallSession } from "../call_session.js";
import { CallView } from "../call_view.js";
import { CameraService } from "../camera_service.js";
import { loadChoice } from "../devices.js";
import { events, onBalance } from "./common.js";

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
// The creator's stream waits in the studio, which says the reason again.
call.onEnded = (reason) => {
  const query = new URLSearchParams({ ended: reason, session: session.sessionId });
  if (!fan) setTimeout(() => location.assign(`/studio?${query}`), MESSAGE_MS);
};

camera.cameraId = choice.cameraId;
camera.microphoneId = choice.microphoneId;
onBalance(({ available: now }) => view.setAvailable(now));
events.on("SESSION_CHANGED", (message) => {
  if (message.sessionId === session.sessionId && message.status === "ended") call.endedElsewhere(message.reason);
});
// The meter does not wait for the fan's camera: the seat is taken at once, the camera follows.
const seated = call.start();
if (fan && choice.watchOnly) view.cameraNote("You chose to watch and listen only.", "", "Turn camera on");
else await call.openCamera();
await seated;
