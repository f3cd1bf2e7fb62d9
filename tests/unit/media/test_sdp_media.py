"""Codecs and simulcast layers in the words of an SDP."""

from __future__ import annotations

from media import sdp_media
from media.sdp_media import REPAIRED_RID_URI, RID_URI

CAMERA = (
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:{mid}\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n"
    "a=fmtp:97 apt=96\r\n"
)
RIDS = "a=rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=rid:x recv\r\n"


def test_layers_are_read_in_the_offers_order() -> None:
    offer = CAMERA.format(mid=0) + CAMERA.format(mid=1) + RIDS + "a=simulcast:send l;m;h\r\n"
    assert sdp_media.simulcast(offer) == {"1": ("l", "m", "h")}


def test_of_alternatives_the_first_counts_and_what_is_not_described_does_not() -> None:
    offer = CAMERA.format(mid="a") + RIDS + "a=simulcast:recv x send ~l,m;h;x;ghost;l\r\n"
    assert sdp_media.simulcast(offer) == {"a": ("l", "h")}


def test_one_layer_is_no_simulcast_and_more_than_three_are_cut() -> None:
    assert sdp_media.simulcast(CAMERA.format(mid=0) + RIDS + "a=simulcast:send l\r\n") == {}
    many = "".join(f"a=rid:{number} send\r\n" for number in range(9))
    offer = CAMERA.format(mid=0) + many + "a=simulcast:send " + ";".join(map(str, range(9))) + "\r\n"
    assert sdp_media.simulcast(offer) == {"0": ("0", "1", "2")}
    wild = CAMERA.format(mid=0) + "a=rid:<b> send\r\na=rid:é send\r\na=simulcast:send <b>;é\r\n"
    assert sdp_media.simulcast(wild) == {}


def test_the_answer_takes_the_layers_where_they_were_offered() -> None:
    answer = CAMERA.format(mid=0) + CAMERA.format(mid=1)
    changed = sdp_media.with_simulcast(answer, {"1": ("l", "h")}, {RID_URI: 10, REPAIRED_RID_URI: 0})
    first, second = changed.split("m=video")[1:]
    assert "rid" not in first
    assert second.splitlines()[2:6] == [
        f"a=extmap:10 {RID_URI}", "a=rid:l recv", "a=rid:h recv", "a=simulcast:recv l;h",
    ]  # fmt: skip


def test_codecs_beyond_aiortc_are_offered_on_video_lines_only_each_with_repair() -> None:
    offer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n" + CAMERA.format(mid=1)
    changed = sdp_media.with_more_codecs(offer)
    audio, video = changed.split("m=video")
    assert audio == offer.split("m=video")[0]
    assert video.startswith(" 9 UDP/TLS/RTP/SAVPF 96 97 110 111 112 113\r\n")
    for line in ("a=rtpmap:110 VP9/90000", "a=fmtp:111 apt=110", "a=rtpmap:112 AV1/90000", "a=fmtp:113 apt=112"):
        assert line in video.splitlines()


def test_sound_is_offered_to_be_sent_again_and_nothing_else_changes() -> None:
    sound = "m=audio 9 UDP/TLS/RTP/SAVPF 96 0\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
    changed = sdp_media.with_sound_repair(sound + CAMERA.format(mid=1))
    assert changed.replace("a=rtcp-fb:96 nack\r\n", "", 1) == sound + CAMERA.format(mid=1)
    assert changed.index("a=rtcp-fb:96 nack") > changed.index("opus")


def test_what_aiortc_does_not_know_goes_by_another_name() -> None:
    offer = "a=rtpmap:98 VP9/90000\r\na=rtpmap:45 AV1/90000\r\na=rtpmap:97 rtx/90000\r\n"
    assert sdp_media.masked(offer).count("VP8/90000") == 2
    assert "rtx/90000" in sdp_media.masked(offer)
