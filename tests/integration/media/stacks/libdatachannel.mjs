// OBS's engine as an encoder and as a player: `encode URL KEY CLIP` or `play URL BEARER`, until SIGTERM.
//
// An encoder sends a clip (whip_stacks.py writes it) as OBS 32 does: the same m-lines, H.264 packetizer with start
// codes, sender reports, an answerer of NACKs and no ear for key-frame requests; the offer has no candidates, the
// session is deleted after the connection is closed. One JSON line for whatever happens.
import fs from "node:fs";
import { createRequire } from "node:module";

const nd = createRequire(`${process.env.STACKS}/`)("node-datachannel");
const [role, url, bearer, clip] = process.argv.slice(2);
const say = (news) => console.log(JSON.stringify(news));
const pc = new nd.PeerConnection(role, { iceServers: [] });
const counts = { audio: 0, video: 0 };
const tracks = role === "encode" ? encoder() : player();
let resource = "";
let over = false;

pc.onStateChange((state) => {
  say({ state });
  if (["disconnected", "failed", "closed"].includes(state)) end();
});
process.on("SIGTERM", end);
pc.setLocalDescription();
await new Promise((done) => setTimeout(done, 300));
const offer = pc.localDescription().sdp.replace(/^a=(candidate|end-of-candidates).*\r\n/gm, "");
const answer = await request("POST", url, offer, { "Content-Type": "application/sdp" });
say({ posted: answer.status });
if (answer.status !== 201) {
  say({ refused: await answer.text() });
  process.exit(1);
}
resource = new URL(answer.headers.get("location"), url).href;
pc.setRemoteDescription(await answer.text(), "answer");
if (role === "encode") send(fs.readFileSync(clip));
setInterval(() => say({ counts }), 500);

function request(method, address, body, headers = {}) {
  return fetch(address, { method, body, headers: { Authorization: `Bearer ${bearer}`, ...headers } });
}

async function end() {
  if (over) return;
  over = true;
  pc.close();
  if (resource) say({ deleted: (await request("DELETE", resource)).status });
  setTimeout(() => process.exit(0), 50);
}

function encoder() {
  const [ssrc, stream] = [1 + Math.floor(Math.random() * 2 ** 30), "streamSTREAM1234"];
  const audio = new nd.Audio("0", "SendOnly");
  audio.addOpusCodec(111);
  audio.addSSRC(ssrc, "cname", stream, `${stream}-audio`);
  const video = new nd.Video("1", "SendOnly");
  video.addSSRC(ssrc + 1, "cname", stream, `${stream}-video`);
  video.addH264Codec(96);
  const heard = new nd.RtpPacketizationConfig(ssrc, "cname", 111, 48000);
  const seen = new nd.RtpPacketizationConfig(ssrc + 1, "cname", 96, 90000);
  const parts = [
    [audio, heard, new nd.RtpPacketizer(heard)],
    [video, seen, new nd.H264RtpPacketizer("StartSequence", seen, 1200)],
  ];
  return parts.map(([media, config, packetizer]) => {
    packetizer.addToChain(new nd.RtcpSrReporter(config));
    packetizer.addToChain(new nd.RtcpNackResponder(4000));
    const track = pc.addTrack(media);
    track.setMediaHandler(packetizer);
    return { track, config, last: 0 };
  });
}

function player() {
  const video = new nd.Video("0", "RecvOnly");
  video.addH264Codec(96);
  video.addVP8Codec(97);
  const audio = new nd.Audio("1", "RecvOnly");
  audio.addOpusCodec(111);
  return Object.entries({ video, audio }).map(([kind, media]) => {
    const track = pc.addTrack(media);
    track.setMediaHandler(new nd.RtcpReceivingSession());
    track.onMessage((packet) => {
      const type = packet[1] & 0x7f;
      if (type < 64 || type > 95) counts[kind] += 1;
    });
    return track;
  });
}

/** Kind (0: sound), microseconds, length and bytes of each frame, over and over in real time. */
function send(bytes) {
  const frames = [];
  for (let at = 0; at < bytes.length; ) {
    const size = bytes.readUInt32BE(at + 9);
    const data = Buffer.from(bytes.subarray(at + 13, at + 13 + size));
    frames.push({ kind: bytes[at], us: Number(bytes.readBigUInt64BE(at + 1)), data });
    at += 13 + size;
  }
  const span = Math.ceil(frames.at(-1).us / 1e6) * 1e6;
  const began = process.hrtime.bigint();
  let next = 0;
  setInterval(() => {
    const now = Number((process.hrtime.bigint() - began) / 1000n);
    for (; !over; next += 1) {
      const { kind, us, data } = frames[next % frames.length];
      const due = us + Math.floor(next / frames.length) * span;
      if (due > now) return;
      const line = tracks[kind];
      const rate = kind === 0 ? 48000 : 90000;
      if (line.track.isOpen()) {
        line.config.timestamp = (line.config.timestamp + Math.round(((due - line.last) * rate) / 1e6)) >>> 0;
        line.track.sendMessageBinary(data);
        counts[kind === 0 ? "audio" : "video"] += 1;
      }
      line.last = due;
    }
  }, 4);
}
