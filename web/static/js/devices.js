/**
 * What a person chose in the lobby, kept for the call that follows in the same tab.
 *
 * Knows only sessionStorage; a browser that refuses storage simply asks again.
 */
const KEY = "greenroom-devices";

/** @typedef {{cameraId: string, microphoneId: string, watchOnly: boolean}} DeviceChoice */

/** @returns {DeviceChoice} */
export function loadChoice() {
  const nothing = { cameraId: "", microphoneId: "", watchOnly: false };
  try {
    return { ...nothing, ...JSON.parse(sessionStorage.getItem(KEY) ?? "{}") };
  } catch {
    return nothing;
  }
}

/** @param {DeviceChoice} choice */
export function saveChoice(choice) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(choice));
  } catch {
    // Refused storage costs the choice, nothing else.
  }
}
