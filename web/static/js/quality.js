/**
 * How good the received picture is, in four steps, from the browser's own statistics (W3C webrtc-stats).
 */
const EVERY_MS = 2_000;
const WORDS = Object.freeze({ 4: "Good", 3: "Fair", 2: "Poor", 1: "No picture" });

/**
 * Watches until the returned function is called.
 * @param {() => RTCPeerConnection[]} connections the present ones
 * @param {(level: 1|2|3|4, words: string) => void} tell
 * @returns {() => void}
 */
export function watchQuality(connections, tell) {
  let before = null;
  const timer = setInterval(async () => {
    const now = await received(connections());
    if (now && before && now.id === before.id) {
      const level = grade(now, before);
      tell(level, WORDS[level]);
    }
    before = now;
  }, EVERY_MS);
  return () => clearInterval(timer);
}

async function received(connections) {
  for (const pc of connections) {
    if (pc.connectionState === "closed") continue;
    for (const stat of (await pc.getStats()).values()) {
      if (stat.type === "inbound-rtp" && stat.kind === "video") return stat;
    }
  }
  return null;
}

function grade(now, before) {
  const seconds = (now.timestamp - before.timestamp) / 1000;
  const frames = (now.framesDecoded - before.framesDecoded) / seconds;
  const packets = now.packetsReceived - before.packetsReceived;
  const lost = Math.max(0, now.packetsLost - before.packetsLost);
  const loss = lost / Math.max(1, packets + lost);
  if (frames < 1) return 1;
  if (frames < 8 || loss > 0.1) return 2;
  return frames < 15 || loss > 0.03 ? 3 : 4;
}
