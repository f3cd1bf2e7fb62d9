/**
 * Sound that was lost is sent again, and two channels stay two: what browsers can, but do not say by themselves.
 *
 * They ask for lost packets of Opus, and send them again, once both descriptions of a connection have
 * `a=rtcp-fb:… nack` for it (RFC 4585). An encoder's two channels Chromium mixes into one, unless its own answer
 * says `stereo=1` (RFC 7587 section 6.1). Knows descriptions, not what they are for.
 */

/**
 * A description in which Opus is sent again on request.
 * @param {string} sdp
 */
export function withSoundRepair(sdp) {
  return sdp.replace(/^a=rtpmap:(\d+) opus\/48000\/2\r\n(?!a=rtcp-fb:\1 nack\r\n)/gim, "$&a=rtcp-fb:$1 nack\r\n");
}

/**
 * A description of one who wants to hear both channels of Opus.
 * @param {string} sdp
 */
export function withStereo(sdp) {
  const opus = new Set([...sdp.matchAll(/^a=rtpmap:(\d+) opus\//gim)].map(([, number]) => number));
  return sdp.replace(/^a=fmtp:(\d+) (?!(?:.*[; ])?stereo=).*/gm, (line, number) =>
    opus.has(number) ? `${line};stereo=1` : line,
  );
}

/**
 * Sets a local description that says so; one as the browser made it, where it takes no other.
 * @param {RTCPeerConnection} pc
 * @param {"offer"|"answer"} type
 */
export async function describe(pc, type) {
  const made = type === "offer" ? await pc.createOffer() : await pc.createAnswer();
  const asks = type === "offer" || /^a=rtcp-fb:\d+ nack\r$/m.test(soundOf(pc.remoteDescription.sdp));
  const heard = type === "answer" ? withStereo(made.sdp) : made.sdp;
  const sdp = asks ? withSoundRepair(heard) : heard;
  try {
    await pc.setLocalDescription({ type, sdp });
  } catch (error) {
    if (sdp === made.sdp) throw error;
    console.warn("sound_repair_refused", error.name);
    await pc.setLocalDescription(made);
  }
}

/** @param {string} sdp */
function soundOf(sdp) {
  return sdp.split("\r\nm=").filter((part) => part.startsWith("audio ")).join("\r\n");
}
