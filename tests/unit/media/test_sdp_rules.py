"""What an SDP from outside must satisfy."""

import pytest

from media import sdp_rules
from media.sdp_rules import BadSdp

HEAD = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n"


def test_candidates_and_groups_are_dropped() -> None:
    kept = sdp_rules.check(HEAD + VIDEO.format(mid=0) + VIDEO.format(mid=1) + "a=end-of-candidates\r\n")
    assert "candidate" not in kept
    assert "group" not in kept
    assert kept.count("m=video") == 2


def test_codecs_go_by_one_name_however_it_is_written() -> None:
    names = ("OPUS/48000/2", "h264/90000", "Vp8/90000", "RTX/90000", "av1/90000", "H263/90000")
    lines = [f"a=rtpmap:{96 + number} {name}" for number, name in enumerate(names)]
    kept = sdp_rules.check(HEAD + "\r\n".join(["m=audio 9 x 96", *lines, "a=msid:opus OPUS/1"]))
    assert kept.splitlines()[-7:] == [
        "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 H264/90000", "a=rtpmap:98 VP8/90000", "a=rtpmap:99 rtx/90000",
        "a=rtpmap:100 AV1/90000", "a=rtpmap:101 H263/90000", "a=msid:opus OPUS/1",
    ]  # fmt: skip


def test_a_line_that_is_empty_is_none() -> None:
    said = HEAD + VIDEO.format(mid=0)
    assert sdp_rules.check(said + "\r\n\r\n") == sdp_rules.check(said)


@pytest.mark.parametrize(
    "sdp",
    [
        "",
        HEAD,
        HEAD + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 65,
        HEAD + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        HEAD.replace("a=group:BUNDLE 0 1\r\n", "") + "m=video 9 x 96\r\n" * 2,
        HEAD + "m=audio 9 x 0\r\n" + "a=" + "x" * 65536,
        HEAD + "m=audio 9 x 0\r\na=\ud800\r\n",
        HEAD + "m=audio 9 x 0\r\n" + "a=ssrc:1 cname:x\r\n" * 600,
        HEAD + "m=audio 9 x 0\r\n=== what is none\r\n",
        HEAD + "m=audio 9 x 0\r\na=mid:0\u2028 of another line\r\n",
        HEAD + "m=audio 9 x 0\r\n" + HEAD,
    ],
)
def test_what_is_not_usable_is_refused(sdp: str) -> None:
    with pytest.raises(BadSdp):
        sdp_rules.check(sdp)


def test_as_many_lines_as_a_browser_needs_are_taken() -> None:
    assert sdp_rules.check(HEAD + (VIDEO.format(mid=0) + "a=rtcp-fb:96 nack\r\n" * 200) * 4)


def test_an_extension_id_counts_only_if_it_is_the_same_everywhere() -> None:
    line = "a=extmap:{} urn:x\r\n"
    assert sdp_rules.extension_id(line.format(3) * 2, "urn:x") == 3
    assert sdp_rules.extension_id(line.format("4/sendonly"), "urn:x") == 4
    assert sdp_rules.extension_id(line.format(3) + line.format(4), "urn:x") == 0
    assert sdp_rules.extension_id(line.format(15), "urn:x") == 0
    assert sdp_rules.extension_id("", "urn:x") == 0


def test_transport_wide_feedback_is_accepted_for_every_codec_but_retransmission() -> None:
    answer = (
        "m=video 9 x 96 97 98\r\na=mid:0\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
        "a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n"
        "a=rtpmap:99 VP9/90000\r\na=fmtp:99 profile-id=0\r\n"
    )
    changed = sdp_rules.with_transport_cc(answer, 3, "urn:cc").splitlines()
    assert "a=extmap:3 urn:cc" in changed
    assert "a=rtcp-fb:96 transport-cc" in changed
    assert "a=rtcp-fb:98 transport-cc" in changed
    assert "a=rtcp-fb:97 transport-cc" not in changed
    assert [line for line in changed if "start-bitrate" in line] == [
        "a=fmtp:96 x-google-start-bitrate=1800",
        "a=fmtp:98 packetization-mode=1;x-google-start-bitrate=1800",
        "a=fmtp:99 profile-id=0;x-google-start-bitrate=1800",
    ]
