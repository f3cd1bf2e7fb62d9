"""What a connection's SDP says and takes: codecs by the client's order, layers, repairs, sound."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from media import sdp_media, sdp_rules
from media.aiortc_seam import TRANSPORT_CC_URI, Encoding, Leg, Received
from media.depacketizing import READABLE
from media.port import Port
from media.sdp_rules import BadSdp

HEAD = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m={kind} 9 UDP/TLS/RTP/SAVPF {types}\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"
)
BASELINE = "packetization-mode=1;profile-level-id=42e01f"
HIGH = "packetization-mode=1;profile-level-id=64001f"
VP8 = (96, "VP8/90000", "")
ENCODERS = sorted((Path(__file__).parents[2] / "data" / "encoders").glob("*.sdp"))


def offer(*codecs: tuple[int, str, str], kind: str = "video", more: str = "") -> str:
    """An offer with these codecs (payload type, name with clock rate, parameters)."""
    text = HEAD.format(kind=kind, types=" ".join(str(number) for number, _, _ in codecs))
    for number, name, parameters in codecs:
        text += f"a=rtpmap:{number} {name}\r\n"
        text += f"a=rtcp-fb:{number} nack\r\na=rtcp-fb:{number} nack pli\r\n" if "rtx" not in name else ""
        text += f"a=fmtp:{number} {parameters}\r\n" if parameters else ""
    return text + more


def with_leg(work: Callable[[Leg], object]) -> None:
    async def scenario() -> None:
        port = Port(("127.0.0.1",))
        leg = Leg(port, lambda state: None, lambda: None)
        try:
            await work(leg)  # type: ignore[misc]
        finally:
            await leg.close()
            port.close()

    asyncio.run(scenario())


def answered(sdp: str) -> tuple[str, Received]:
    found: list[tuple[str, Received]] = []

    async def work(leg: Leg) -> None:
        answer, (line,), _ = await leg.answer(sdp)
        found.append((answer, line))

    with_leg(work)
    return found[0]


@pytest.mark.parametrize(
    ("codecs", "chosen"),
    [
        ((VP8, (97, "rtx/90000", "apt=96"), (98, "H264/90000", BASELINE)), ("VP8", 96, 97)),
        (((98, "H264/90000", BASELINE), VP8), ("H264", 98, None)),
        (((98, "VP9/90000", "profile-id=0"), (99, "rtx/90000", "apt=98")), ("VP9", 98, 99)),
        (((45, "AV1/90000", "level-idx=5;profile=0;tier=0"), (46, "rtx/90000", "apt=45")), ("AV1", 45, 46)),
        (((98, "VP9/90000", "profile-id=2"), VP8), ("VP8", 96, None)),
        (((102, "H264/90000", "packetization-mode=0;profile-level-id=42e01f"), VP8), ("VP8", 96, None)),
        (((102, "H264/90000", "packetization-mode=1;profile-level-id=000000"), VP8), ("VP8", 96, None)),
        (((102, "H264/90000", HIGH), VP8), ("VP8", 96, None)),
        (((102, "H264/90000", HIGH), (98, "H264/90000", BASELINE)), ("H264", 98, None)),
        (((102, "H264/90000", HIGH), (103, "rtx/90000", "apt=102")), ("H264", 102, 103)),
        (((102, "H264/90000", HIGH.replace("64", "4D")),), ("H264", 102, None)),
    ],
)  # fmt: skip
def test_the_clients_first_codec_that_is_forwarded_is_taken_with_its_repairs(
    codecs: tuple[tuple[int, str, str], ...], chosen: tuple[str, int, int | None]
) -> None:
    answer, line = answered(offer(*codecs))
    assert (line.codec, line.payload_type, line.retransmission_type) == chosen
    named = re.findall(r"a=rtpmap:(\d+) (\w+)/", answer)
    assert named == [(str(chosen[1]), chosen[0]), *([(str(chosen[2]), "rtx")] if chosen[2] else [])]
    assert f"a=rtcp-fb:{chosen[1]} nack pli" in answer


@pytest.mark.parametrize(
    "codec",
    [
        (98, "VP9/90000", "profile-id=2"),
        (98, "H264/90000", "packetization-mode=1;profile-level-id=6e001f"),  # ten bits
        (98, "H264/90000", "packetization-mode=0;profile-level-id=64001f"),
    ],
)
def test_what_cannot_be_forwarded_is_refused(codec: tuple[int, str, str]) -> None:
    with pytest.raises(BadSdp):
        answered(offer(codec))


@pytest.mark.parametrize("recorded", ENCODERS, ids=lambda path: path.stem)
def test_encoders_offers_are_answered(recorded: Path) -> None:
    found: list[tuple[str, list[Received]]] = []
    offered = recorded.read_text()

    async def work(leg: Leg) -> None:
        answer, lines, _ = await leg.answer(sdp_rules.check(offered), READABLE)
        found.append((answer, lines))

    with_leg(work)
    ((answer, lines),) = found
    assert {line.codec for line in lines} == {"H264", "opus"}
    assert [line.mid for line in lines] == re.findall(r"^a=mid:(\S+)", offered, re.M)
    announced = {encoding.ssrc for line in lines for encoding in line.layers}
    assert announced == _first_ssrcs(offered)
    # What the encoder says of its pictures, and no more of it than an answer needs
    profile = re.findall(r"profile-level-id=\w+", offered)
    assert re.findall(r"profile-level-id=\w+", answer) == profile
    assert "sprop" not in answer
    assert answer.count("a=recvonly") == 2
    assert ("a=setup:active" in answer) == ("a=setup:passive" in offered)


def test_an_encoder_with_more_sizes_than_are_carried_hears_how_many_are() -> None:
    """OBS counts the layers in the answer: with fewer than it offered it says how many, and does not begin."""
    single = next(path for path in ENCODERS if path.stem.startswith("libdatachannel")).read_text()
    rids = "".join(f"a=rid:{number} send\n" for number in range(4))
    extensions = f"a=extmap:1 {sdp_media.MID_URI}\na=extmap:2 {sdp_media.RID_URI}\n"
    offered = sdp_rules.check(single + extensions + rids + "a=simulcast:send 0;1;2;3\n")
    found: list[tuple[str, list[Received]]] = []

    async def work(leg: Leg) -> None:
        answer, lines, _ = await leg.answer(offered, READABLE)
        found.append((answer, lines))

    with_leg(work)
    ((answer, lines),) = found
    assert "a=simulcast:recv 0;1;2" in answer.splitlines()
    assert [encoding.rid for encoding in lines[1].layers] == ["0", "1", "2"]


def _first_ssrcs(offered: str) -> set[int]:
    """The SSRC of each m-line's media: its repairs' stand behind."""
    return {int(re.findall(r"^a=ssrc:(\d+)", section, re.M)[0]) for section in offered.split("\nm=")[1:]}


def test_sound_may_repair_itself_and_be_silent() -> None:
    answer, line = answered(offer((111, "opus/48000/2", "minptime=10"), kind="audio"))
    assert "a=fmtp:111 useinbandfec=1;usedtx=1" in answer.splitlines()
    assert line.layers == (Encoding(),)
    assert line.repeats, "the client said that it sends lost sound again"
    assert "a=rtcp-fb:111 nack" in answer.splitlines()
    unspoken = offer((111, "opus/48000/2", "minptime=10"), kind="audio").replace("a=rtcp-fb:111 nack\r\n", "")
    answer, line = answered(unspoken)
    assert not line.repeats
    assert "a=rtcp-fb:111 nack" not in answer.splitlines()


def test_layers_are_taken_by_rid_and_by_ssrc_group() -> None:
    vp8 = (VP8, (97, "rtx/90000", "apt=96"))
    rids = f"a=extmap:10 {sdp_media.RID_URI}\r\na=rid:l send\r\na=rid:h send\r\na=simulcast:send l;h\r\n"
    answer, line = answered(offer(*vp8, more=rids))
    assert [layer.rid for layer in line.layers] == ["l", "h"]
    for said in (f"a=extmap:10 {sdp_media.RID_URI}", "a=rid:l recv", "a=simulcast:recv l;h"):
        assert answer.splitlines().count(said) == 1
    group = "a=ssrc-group:SIM 1 2\r\na=ssrc-group:FID 1 11\r\na=ssrc-group:FID 2 12\r\n"
    group += "".join(f"a=ssrc:{ssrc} cname:x\r\n" for ssrc in (1, 2, 11, 12))
    _, line = answered(offer(*vp8, more=group))
    assert line.layers == (Encoding("", 1, 11), Encoding("", 2, 12))
    _, line = answered(offer(*vp8, more="a=ssrc-group:FID 1 11\r\na=ssrc:1 cname:x\r\na=ssrc:11 cname:x\r\n"))
    assert line.layers == (Encoding("", 1, 11),)


def test_only_payload_types_that_fit_a_packet_are_taken_from_an_answer() -> None:
    async def work(leg: Leg) -> None:
        leg.add_line("video", "seat0")
        await leg.offer()
        answer = offer((97, "VP8/90000", ""), (98, "rtx/90000", "apt=97"), (110, "VP9/90000", "profile-id=0"))
        answer = answer.replace("a=setup:actpass", "a=setup:active").replace("a=sendonly", "a=recvonly")
        answer += "a=rtpmap:99999 H264/90000\r\na=rtpmap:-5 AV1/90000\r\n"
        answer += "a=rtpmap:200 rtx/90000\r\na=fmtp:200 apt=110\r\n"
        (line,) = await leg.accept_answer(answer)
        assert line.payload_types == {"VP8": 97, "VP9": 110}
        assert line.repair_types == {"VP8": 98}

    with_leg(work)


def test_lines_that_were_reserved_since_the_offer_are_no_reason_to_refuse_its_answer() -> None:
    async def work(leg: Leg) -> None:
        # given an offer that is on its way
        leg.add_line("video", "seat0")
        _, mids = await leg.offer()
        assert mids == ["0"]
        # when somebody comes before it is answered
        leg.add_line("video", "seat1")
        answer = offer(VP8).replace("a=setup:actpass", "a=setup:active").replace("a=sendonly", "a=recvonly")
        (line,) = await leg.accept_answer(answer)
        # then the answer counts, and the next offer has both
        assert line.mid == "0"
        _, mids = await leg.offer()
        assert mids == ["0", "1"]

    with_leg(work)


def test_an_offer_names_numbers_and_feedback_for_pictures_alone() -> None:
    async def work(leg: Leg) -> None:
        for kind in ("audio", "video"):
            leg.add_line(kind, "seat0")
        text, _ = await leg.offer()
        sound, picture = text.split("m=")[1:]
        assert "extmap" not in sound
        assert "transport-cc" not in sound
        assert picture.count(f"a=extmap:1 {TRANSPORT_CC_URI}\r\n") == 1
        # Once for all codecs: thirty seats of them have to fit one message
        assert picture.count("a=rtcp-fb:* transport-cc\r\n") == picture.count("a=rtcp-fb:* goog-remb\r\n") == 1

    with_leg(work)


def test_a_player_that_offers_numbers_gets_them_under_its_own_id() -> None:
    feedback = "a=rtcp-fb:96 transport-cc\r\n"
    extension = f"a=extmap:5 {TRANSPORT_CC_URI}\r\n"

    def lines(more: str) -> tuple[str, int]:
        found: list[tuple[str, int]] = []

        async def work(leg: Leg) -> None:
            leg.add_line("video", "seat0")
            sdp = offer(VP8, (97, "rtx/90000", "apt=96"), more=more).replace("a=sendonly", "a=recvonly")
            answer, (line,) = await leg.answer_sending(sdp)
            found.append((answer, line.transport_cc))

        with_leg(work)
        return found[0]

    answer, numbers = lines(extension + feedback)
    assert numbers == 5
    assert extension in answer
    assert feedback in answer
    for more in ("", extension, feedback):
        answer, numbers = lines(more)
        assert numbers == 0
        assert "transport-cc" not in answer
