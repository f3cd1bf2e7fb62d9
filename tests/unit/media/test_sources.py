"""Whose a packet is, by SSRC, MID and RID; what is sent again, on the wire."""

from __future__ import annotations

import struct
from typing import Any

import pylibsrtp
import pytest

from media import rtp
from media.aiortc_seam import lengths, srtp, workspace
from media.feedback import KEYFRAME_INTERVAL_MS, NACK_WINDOW, REORDER_MS, Gaps
from media.forwarding import (
    ASK_EVERY_MS,
    MOST_OPENED,
    MOST_SOURCES,
    STRANGER_PACKETS,
    Bindings,
    Extensions,
    Ingress,
    Source,
    Wire,
)
from media.layers import Layer
from media.repairs import MOST_NACKED, PACKETS_A_SLICE, SHARE, SKIP_EVERY_MS, SLICE_MS
from media.subscriber_feedback import Egress
from media.tracks import PublishedTrack, Slot

KEY, DELTA = b"\x10\x00key", b"\x10\x01delta"
MEDIA, REPAIR = 96, 97
IDS = Extensions(mid=4, rid=10, repaired_rid=11)


class PlainWire:
    """Hands packets through as they are, and keeps what is said back."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def open_rtp(self, data: bytes) -> bytes:
        return data

    def send_rtcp(self, compound: bytes) -> None:
        self.said.append(compound)


def packet(
    ssrc: int, sequence: int, payload: bytes, *, kind: int = MEDIA, timestamp: int = 0, **said: str
) -> bytes:
    elements = b"".join(
        bytes([getattr(IDS, name) << 4 | len(text) - 1]) + text.encode() for name, text in said.items()
    )
    elements += bytes(-len(elements) % 4)
    head = struct.pack("!BBHII", 0x90, kind, sequence & 0xFFFF, timestamp, ssrc)
    return head + struct.pack("!HH", 0xBEDE, len(elements) // 4) + elements + payload + bytes(8)


def camera(*rids: str) -> PublishedTrack:
    return PublishedTrack(
        track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=90_000, rids=rids or ("",)
    )


def ingress(**tracks: PublishedTrack) -> tuple[Ingress, PlainWire]:
    wire = PlainWire()
    found = Ingress(wire, lambda: 1_000)  # type: ignore[arg-type]
    bind(found, **tracks)
    return found, wire


def bind(found: Ingress, **tracks: PublishedTrack) -> None:
    by_type: dict[int, list[Source]] = {MEDIA: [], REPAIR: []}
    for mid, track in tracks.items():
        for layer in track.layers:
            by_type[MEDIA].append(Source(track, layer, mid, retransmission=False))
            by_type[REPAIR].append(Source(track, layer, mid, retransmission=True))
    found.bind(list(tracks.values()), Bindings({}, by_type, IDS))


def test_layers_are_told_apart_by_rid_and_stay_known_without_it_and_over_an_offer() -> None:
    track = camera("l", "h")
    found, _ = ingress(v=track)
    low, high = track.layers
    for ssrc, rid in ((501, "l"), (502, "h")):
        found.receive(packet(ssrc, 9, KEY, mid="v", rid=rid))
    assert (low.ssrc, high.ssrc) == (501, 502)
    found.receive(packet(502, 10, DELTA))
    bind(found, v=track)
    found.receive(packet(502, 11, DELTA))
    assert (low.packets, high.packets) == (1, 3)


def test_a_publisher_whose_line_has_become_narrow_is_told_so_at_once_and_later_that_it_is_free() -> None:
    track = camera()
    found, wire = ingress(v=track)
    told: list[tuple[int, int]] = []
    for tick in range(120):
        if tick == 20:
            assert all(bitrate > 2_500_000 for _, bitrate in told), "nobody is held back without need"
            told.clear()
        for each in range(20):
            if not 20 <= tick < 26 or each < 4:
                found.receive(packet(501, 20 * tick + each, DELTA + bytes(900)))
        found.tick(100 * tick)
        if tick % 10 == 9:
            found.report(100 * tick)
        for compound in wire.said:
            for part in rtp.compound(compound):
                if part.kind == rtp.PSFB and part.fmt == rtp.FMT_REMB:
                    told.append((tick, (rtp.told_bitrate(part.body) or (0, []))[0]))
        wire.said.clear()
    # A fifth of 1.5 Mbit/s came, for six tenths of a second
    assert 20 < told[0][0] < 24
    assert 200_000 < min(bitrate for _, bitrate in told[:3]) < 320_000
    assert told[-1][1] > 2_500_000


def test_another_ssrc_of_a_layer_has_another_clock() -> None:
    track = camera("l", "h")
    found, _ = ingress(v=track)
    low, _ = track.layers
    found.receive(packet(501, 9, KEY, mid="v", rid="l"))
    found.compound(rtp.sender_report(501, 1 << 40, 90_000, 1, 100))
    found.receive(packet(501, 10, DELTA))
    assert low.report is not None
    # When its encoder begins anew, then nothing is said by what the former one counted
    found.receive(packet(777, 20, KEY, mid="v", rid="l"))
    assert (low.ssrc, low.report) == (777, None)


def test_a_repair_belongs_to_the_layer_that_its_repaired_rid_names() -> None:
    track = camera("l", "h")
    found, _ = ingress(v=track)
    low, high = track.layers
    found.receive(packet(502, 9, KEY, mid="v", rid="h"))
    found.receive(packet(502, 11, DELTA))
    found.receive(packet(602, 70, struct.pack("!H", 10) + DELTA, kind=REPAIR, mid="v", repaired_rid="h"))
    assert (high.packets, high.repaired, low.packets) == (3, 1, 0)
    assert high.ssrc == 502, "nobody is asked for a key frame under a repair's SSRC"


def test_two_cameras_of_one_payload_type_are_told_apart_by_mid() -> None:
    camera_, screen = camera(), camera()
    found, _ = ingress(camera=camera_, screen=screen)
    found.receive(packet(1, 1, KEY, mid="screen"))
    found.receive(packet(2, 1, KEY, mid="camera"))
    found.receive(packet(3, 1, KEY))
    assert (camera_.layers[0].ssrc, screen.layers[0].ssrc) == (2, 1)
    assert camera_.packets == screen.packets == 1


def test_a_source_that_says_late_who_it_is_is_learnt_and_one_that_never_does_is_dropped() -> None:
    track = camera("l", "h")
    found, _ = ingress(v=track)
    for number in range(STRANGER_PACKETS // 2):
        found.receive(packet(502, number, DELTA))
    assert track.packets == 0
    found.receive(packet(502, 900, KEY, rid="h"))
    assert track.packets == 1
    for number in range(2 * STRANGER_PACKETS):
        found.receive(packet(666, number, DELTA))
    assert found.unknown == STRANGER_PACKETS


def test_no_more_sources_are_opened_than_are_allowed() -> None:
    track = camera("l", "h")
    found, _ = ingress(v=track)
    for ssrc in range(3 * MOST_SOURCES):
        found.receive(packet(ssrc, 1, DELTA))
    assert found.packets_in == MOST_SOURCES
    bind(found, v=track)
    for ssrc in range(3 * MOST_SOURCES, 6 * MOST_SOURCES):
        found.receive(packet(ssrc, 1, DELTA))
    assert found.packets_in == MOST_SOURCES, "another offer makes no room for more"


def test_offers_without_end_open_no_sources_without_end() -> None:
    """SRTP looks through what it has opened in a row, and forgets nothing: not even of tracks that are gone."""
    kept, gone = camera(), [camera() for _ in range(100)]
    found, _ = ingress(kept=kept)
    for number, track in enumerate(gone):
        ssrcs = range(1_000 + 3 * number, 1_003 + 3 * number)
        announced = {ssrc: Source(track, track.layers[0], "v", retransmission=False) for ssrc in ssrcs}
        announced[7] = Source(kept, kept.layers[0], "kept", retransmission=False)
        found.bind([kept, track], Bindings(announced, {}, IDS))
        for ssrc in (7, *ssrcs):
            found.receive(packet(ssrc, number, DELTA))
    # Then as many were opened as may be, the first ones go on, and nothing is kept of tracks that are gone
    assert len(found._opened) == MOST_OPENED
    assert kept.packets == 100
    assert found.packets_in == 100 + MOST_OPENED - 1
    assert set(found._sources) == {7}


def test_a_key_frame_and_a_missing_packet_are_asked_of_the_layer_that_lacks_them() -> None:
    track = camera("l", "h")
    found, wire = ingress(v=track)
    found.receive(packet(501, 9, KEY, rid="l"))
    found.receive(packet(502, 9, KEY, rid="h"))
    wire.said.clear()
    clock = found._now_ms = Clock()
    found.receive(packet(501, 12, DELTA))
    assert wire.said == [], "they may only have been overtaken"
    clock.now_ms += REORDER_MS
    found.receive(packet(502, 10, DELTA))
    found.ask_keyframe(track.layers[1])
    nack, loss = (tuple(rtp.compound(said))[-1] for said in wire.said)
    assert (rtp.media_ssrc(nack.body), rtp.nacked(nack.body)) == (501, [10, 11])
    assert (loss.fmt, rtp.media_ssrc(loss.body)) == (rtp.FMT_PLI, 502)


def test_holes_are_looked_at_a_few_times_however_many_packets_come(monkeypatch: pytest.MonkeyPatch) -> None:
    # given three layers full of holes
    track = camera("l", "m", "h")
    found, wire = ingress(v=track)
    clock = found._now_ms = Clock()
    for ssrc, rid in ((501, "l"), (502, "m"), (503, "h")):
        found.receive(packet(ssrc, 0, KEY, rid=rid))
        found.receive(packet(ssrc, NACK_WINDOW, DELTA))
    looked: list[int] = []
    due = Gaps.due
    monkeypatch.setattr(Gaps, "due", lambda gaps, now_ms: (looked.append(now_ms), due(gaps, now_ms))[1])
    # when a flood comes within a moment
    for number in range(1_000):
        if number % 100 == 0:
            clock.now_ms += 1
        found.receive(packet(501, NACK_WINDOW + number, DELTA))
    # then they were looked at twice, and what is missing was asked for all the same
    assert len(looked) == 3 * (10 // ASK_EVERY_MS)
    clock.now_ms += REORDER_MS
    wire.said.clear()
    found.receive(packet(501, NACK_WINDOW + 1_000, DELTA))
    nacks = [each for said in wire.said for each in rtp.compound(said) if each.kind == rtp.RTPFB]
    assert {rtp.media_ssrc(each.body) for each in nacks} == {501, 502, 503}


def test_what_will_not_come_any_more_is_made_up_for_by_a_key_frame_if_somebody_watches() -> None:
    for watched in (True, False):
        # given
        track = camera()
        found, wire = ingress(v=track)
        asked: list[Layer] = []
        track._ask_keyframe = asked.append
        found.receive(packet(501, 9, KEY))
        if watched:
            track.slots.append(Slot(kind="video", ssrc=7, seat=0, track=track, layer=track.layers[0]))
        wire.said.clear()
        # when: more is missing than is asked for
        found.receive(packet(501, 9 + NACK_WINDOW + 2, DELTA))
        # then
        assert wire.said == []
        assert asked == ([track.layers[0]] if watched else [])


def test_lost_sound_is_asked_for_at_once_of_who_sends_it_again_and_of_nobody_else() -> None:
    for repeats in (True, False):
        sound = PublishedTrack(track_id="trk", user_id="usr", kind="audio", codec="opus", clock_rate=48_000)
        sound.repeats = repeats
        found, wire = ingress(a=sound)
        found.receive(packet(501, 9, b"one"))
        wire.said.clear()
        found.receive(packet(501, 11, b"three"))
        found.tick(10_000)
        said = [each for compound in wire.said for each in rtp.compound(compound)]
        asked = [rtp.nacked(each.body) for each in said if each.kind == rtp.RTPFB]
        assert asked[:1] == ([[10]] if repeats else [])


def test_every_layer_is_reported_and_a_report_of_theirs_is_kept_for_its_own() -> None:
    track = camera("l", "h")
    found, wire = ingress(v=track)
    for ssrc, rid in ((501, "l"), (502, "h")):
        found.receive(packet(ssrc, 9, KEY, rid=rid))
    wire.said.clear()
    found.report(2_000)
    (report, bitrate) = rtp.compound(wire.said[0])
    assert [block.ssrc for block in rtp.report_blocks(report)] == [501, 502]
    assert bitrate.fmt == rtp.FMT_REMB
    wire.open_rtcp = lambda data: data  # type: ignore[attr-defined]
    found.receive(rtp.sender_report(502, 5 << 32, 77, 1, 1))
    low, high = track.layers
    assert low.report is None
    assert high.report is not None
    assert track.report is not None, "the highest feeds what rooms see"


def test_a_subscriber_hears_each_second_which_moment_is_which_timestamp_however_rarely_publishers_say() -> None:
    # given: sound and picture of one person, of whom a viewer sees timestamps of its own, reported of once
    sound = PublishedTrack(track_id="trk", user_id="usr", kind="audio", codec="opus", clock_rate=48_000)
    picture = camera()
    now_ms = [1_000]
    wire, viewer = PlainWire(), PlainWire()
    wire.open_rtcp = lambda data: data  # type: ignore[attr-defined]
    found = Ingress(wire, lambda: now_ms[0])  # type: ignore[arg-type]
    sources = {
        ssrc: Source(track, track.layers[0], mid, retransmission=False)
        for ssrc, mid, track in ((501, "a", sound), (502, "v", picture))
    }
    found.bind([sound, picture], Bindings(sources, {}, IDS))
    slots = []
    for ssrc, track in ((501, sound), (502, picture)):
        slot = Slot(kind=track.kind, ssrc=ssrc + 100, seat=3)
        track.add(slot, 0)
        found.receive(packet(ssrc, 9, KEY, timestamp=ssrc * 1_000))
        slot.layer, slot.live, slot.timestamp_offset = track.layers[0], True, 77_000 + ssrc
        slot.wire = viewer  # type: ignore[assignment]
        slots.append(slot)

    def told() -> list[rtp.SenderInfo]:
        viewer.said.clear()
        found.report(now_ms[0])
        each = [rtp.sender_info(packet.body) for said in viewer.said for packet in rtp.compound(said)]
        return [info for info in each if info is not None]

    assert told() == [], "nobody has said yet which moment they are"
    moment = 0xEC000000_80000000
    found.receive(rtp.sender_report(501, moment, 900_000, 1, 1))
    now_ms[0] += 500
    found.receive(rtp.sender_report(502, moment + (1 << 31), 0xFFFFFFFF, 1, 1))
    first = told()[0].ntp
    # when: the publisher says no more
    for seconds in (1, 2, 9):
        now_ms[0] = 1_500 + seconds * 1_000
        heard, seen = told()
        # then: both clocks have run on, and the viewer may draw a line through what it was told
        assert (heard.ssrc, seen.ssrc) == (601, 602)
        assert heard.ntp == seen.ntp == first + (seconds << 32)
        assert heard.timestamp == 900_000 + 24_000 + seconds * 48_000 + slots[0].timestamp_offset
        assert seen.timestamp == seconds * 90_000 - 1 + slots[1].timestamp_offset
    # and: what the viewer answers to the last one tells how far away it is
    middle = first + (9 << 32) >> 16 & 0xFFFFFFFF
    slots[0].far_end.reported(rtp.ReportBlock(601, 0, 0, 10, 0, middle, 0), now_ms[0] + 40)
    assert slots[0].far_end.rtt_ms == 40
    # and: nothing is said of what no longer flows
    slots[1].live = False
    assert [info.ssrc for info in told()] == [601]


def test_whoever_publishes_is_reported_by_one_clock() -> None:
    # given: two people whose clocks are years apart, and whom one viewer sees
    moments = []
    for ntp in (5 << 32, 0xEC000000 << 32):
        now_ms = [1_000]
        track, wire, viewer = camera(), PlainWire(), PlainWire()
        wire.open_rtcp = lambda data: data  # type: ignore[attr-defined]
        found = Ingress(wire, lambda now_ms=now_ms: now_ms[0])  # type: ignore[arg-type, misc]
        found.bind([track], Bindings({501: Source(track, track.layers[0], "v", retransmission=False)}, {}, IDS))
        slot = Slot(kind="video", ssrc=601, seat=0)
        track.add(slot, 0)
        found.receive(packet(501, 9, KEY))
        slot.layer, slot.live, slot.wire = track.layers[0], True, viewer  # type: ignore[assignment]
        # when: each reports, and once more a second later, on a line that has become slower
        found.receive(rtp.sender_report(501, ntp, 0, 1, 1))
        found.report(now_ms[0])
        now_ms[0] += 1_250
        found.receive(rtp.sender_report(501, ntp + (1 << 32), 90_000, 1, 1))
        found.report(now_ms[0])
        infos = [rtp.sender_info(each.body) for said in viewer.said for each in rtp.compound(said)]
        before, after = (info for info in infos if info is not None)
        # then: their clock is read once, however late the next report comes
        assert after.timestamp - before.timestamp == 90_000
        assert after.ntp - before.ntp == 1 << 32
        moments.append(before.ntp)
    # and: who comes after the other goes on with the same moments
    assert moments[0] == moments[1]


# --- what is sent again -------------------------------------------------------------------------------


def session(kind: int) -> tuple[Any, Any]:
    policy = pylibsrtp.Policy(
        key=bytes(range(28)), ssrc_type=kind, srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    )
    policy.allow_repeat_tx = True
    found = pylibsrtp.Session(policy)
    return found, found._srtp[0]


class Loopback:
    """A path whose socket keeps what is sent; ``opened`` decrypts it as the subscriber would."""

    def __init__(self) -> None:
        self._out, self.protect_context = session(pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._in, self._open = session(pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self.unprotect_context = None
        self.address = ("192.0.2.1", 9)
        self.sent: list[bytes] = []

    def sendto(self, data: memoryview, address: Any) -> int:
        self.sent.append(bytes(data))
        return len(data)

    def opened(self) -> list[bytes]:
        """A number that came before does not open: libsrtp's replay check."""
        buffer, view = workspace(2048)
        length = lengths()
        found = []
        for data in self.sent:
            view[: len(data)] = data
            length[0] = len(data)
            assert srtp.unprotect(self._open, buffer, length) == 0
            found.append(bytes(view[: length[0]]))
        self.sent.clear()
        return found


class PlainFeedback(Wire):
    """Takes feedback as it is; everything else is protected."""

    __slots__ = ()

    def open_rtcp(self, data: bytes) -> bytes:
        return data


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 10_000

    def __call__(self) -> int:
        return self.now_ms


def watching(seats: int) -> tuple[list[PublishedTrack], Egress, Loopback, Clock]:
    """A subscriber to so many cameras."""
    path, clock = Loopback(), Clock()
    wire = PlainFeedback(path)  # type: ignore[arg-type]
    tracks, slots = [camera() for _ in range(seats)], {}
    for number, track in enumerate(tracks):
        slots[7 + number] = slot = Slot(
            kind="video", ssrc=7 + number, repair_ssrc=1_007 + number, seat=number, wire=wire,
            payload_types={"VP8": 100}, repair_types={"VP8": 101},
        )  # fmt: skip
        track.add(slot, clock.now_ms)
    return tracks, Egress(wire, slots, clock), path, clock


def plays(track: PublishedTrack, packets: int, first: int = 0) -> None:
    for number in range(first, first + packets):
        track.accept(number, 3_000 * number, 0x80, DELTA if number else KEY, number)


def subscribed(repair: bool) -> tuple[PublishedTrack, Egress, Loopback, Slot]:
    track, path = camera(), Loopback()
    wire = PlainFeedback(path)  # type: ignore[arg-type]
    slot = Slot(
        kind="video", ssrc=7, repair_ssrc=8, seat=0, wire=wire, payload_types={"VP8": 100},
        repair_types={"VP8": 101} if repair else {},
    )  # fmt: skip
    now_ms = iter(range(0, 1_000_000, 100))
    egress = Egress(wire, {7: slot}, lambda: next(now_ms))
    track.add(slot, 0)
    return track, egress, path, slot


def ask(egress: Egress, *numbers: int) -> None:
    egress.receive(rtp.receiver_report(1) + rtp.negative_ack(1, 7, numbers))


def test_one_viewer_does_not_take_everybodys_picture_by_asking_for_key_frames() -> None:
    # given two viewers of one camera
    (track,), hostile, _, clock = watching(1)
    asked: list[int] = []
    track._ask_keyframe = lambda layer: asked.append(clock.now_ms)
    wire = PlainFeedback(Loopback())  # type: ignore[arg-type]
    other = Slot(kind="video", ssrc=9, seat=0, wire=wire, payload_types={"VP8": 100})
    track.add(other, clock.now_ms)
    honest = Egress(wire, {9: other}, clock)
    plays(track, 1)

    def asks(egress: Egress, message: bytes) -> bool:
        """Whether the publisher is asked because of it, and then sends one."""
        clock.now_ms += KEYFRAME_INTERVAL_MS
        before = len(asked)
        egress.receive(rtp.receiver_report(1) + message)
        track.layers[0].throttle.answered()
        return len(asked) > before

    # when one asks for ever, in either way
    began_ms, served = clock.now_ms, 0
    fir = struct.pack("!BBHIIII", 0x84, 206, 4, 1, 0, 7, 1 << 24)
    for number in range(300):
        served += asks(hostile, rtp.picture_loss(1, 7) if number % 2 else fir)
    seconds = (clock.now_ms - began_ms) / 1000
    # then it has had its three, and one in two seconds
    assert seconds // 2 <= served <= 3 + seconds / 2
    # and the other one, who lost something just then, is served at once
    assert [asks(honest, rtp.picture_loss(1, 9)) for _ in range(3)] == [True] * 3
    # and who comes is, too, in that very slot: the node itself asks
    track.remove(hostile._slots[7], clock.now_ms)
    before = len(asked)
    clock.now_ms += KEYFRAME_INTERVAL_MS
    track.add(hostile._slots[7], clock.now_ms)
    assert len(asked) == before + 1
    # and after a while of silence it has three again
    clock.now_ms += 10_000
    assert [asks(hostile, rtp.picture_loss(1, 7)) for _ in range(4)] == [True, True, True, False]


def test_a_repair_has_a_number_of_its_own_and_carries_the_lost_one() -> None:
    track, egress, path, _ = subscribed(repair=True)
    for number, payload in enumerate((KEY, DELTA, DELTA + b"2")):
        track.accept(40_000 + number, 3_000 * number, 0x80 if number else 0, payload, number)
    for _ in range(3):
        ask(egress, 2, 3)
    repairs = path.opened()
    heads = [struct.unpack_from("!BBHIIH", data) for data in repairs]
    assert [(ssrc, kind & 0x7F) for _, kind, _, _, ssrc, _ in heads] == [(8, 101)] * 6
    assert [sequence for _, _, sequence, _, _, _ in heads] == [1, 2, 3, 4, 5, 6], "never one SRTP index twice"
    assert [lost for *_, lost in heads] == [2, 3] * 3
    assert [timestamp for _, _, _, timestamp, _, _ in heads] == [3_000, 6_000] * 3
    assert [data[14:] for data in repairs] == [DELTA, DELTA + b"2"] * 3


def test_who_takes_no_repairs_gets_the_very_same_bytes() -> None:
    track, egress, path, _ = subscribed(repair=False)
    track.accept(9, 0, 0, KEY, 0)
    for _ in range(2):
        ask(egress, 1)
    assert path.sent[0] == path.sent[1]
    path.sent.pop()
    (again,) = path.opened()
    assert struct.unpack_from("!BBHII", again) == (0x80, 100, 1, 0, 7)
    assert again[12:] == KEY


def test_who_misses_more_than_is_sent_again_is_shown_a_key_frame_instead() -> None:
    # given: a subscriber that heard nothing for a while
    (track,), egress, _, clock = watching(1)
    asked: list[Layer] = []
    track._ask_keyframe = asked.append
    plays(track, 400)
    clock.now_ms += KEYFRAME_INTERVAL_MS
    # when: it asks for what may be sent again at once
    ask(egress, *range(300, 300 + MOST_NACKED))
    assert asked == []
    # and then for more of it
    for at in (100, 140, 180, 220):
        ask(egress, *range(at, at + 40))
    # then: one key frame ends the waiting, and the same wish buys no other one so soon
    assert asked == [track.layers[0]]
    clock.now_ms += SKIP_EVERY_MS - 1
    ask(egress, *range(300, 300 + MOST_NACKED))
    ask(egress, *range(100, 140))
    assert len(asked) == 1
    clock.now_ms += 1
    ask(egress, *range(140, 180))
    assert len(asked) == 2


def test_a_frame_that_was_lost_whole_is_sent_again_and_again_only_for_what_was_forwarded() -> None:
    (track,), egress, path, clock = watching(1)
    plays(track, 400)
    ask(egress, *range(300, 300 + MOST_NACKED))
    assert len(path.sent) == MOST_NACKED, "a key frame's worth at once"
    # When more is asked for in the same moment, in one packet, in a compound and in datagrams of their own
    more = [rtp.negative_ack(1, 7, range(at, at + 40)) for at in (100, 140, 180, 220)]
    egress.receive(rtp.receiver_report(1) + b"".join(more))
    for nack in more:
        egress.receive(rtp.receiver_report(1) + nack)
    assert len(path.sent) == MOST_NACKED
    # Then a later moment brings a few, and what was forwarded meanwhile a part of it
    clock.now_ms += SLICE_MS
    ask(egress, *range(100, 150))
    assert len(path.sent) == MOST_NACKED + PACKETS_A_SLICE
    plays(track, 80, 400)
    ask(egress, *range(150, 200))
    assert len(path.sent) == MOST_NACKED + PACKETS_A_SLICE + 80 // SHARE


def test_a_compound_for_every_slot_buys_no_more_than_two_of_them() -> None:
    tracks, egress, path, clock = watching(46)
    for track in tracks:
        plays(track, 400)
    compound = rtp.receiver_report(1) + b"".join(
        rtp.negative_ack(1, 7 + seat, range(300, 368)) for seat in range(46)
    )
    assert len(compound) < 1_400
    egress.receive(compound)
    assert len(path.sent) == 2 * MOST_NACKED
    assert sum(map(len, path.sent)) < 2 * MOST_NACKED * 1_300
    clock.now_ms += SLICE_MS
    egress.receive(compound)
    assert len(path.sent) == 2 * MOST_NACKED + PACKETS_A_SLICE


def test_large_packets_are_counted_by_their_size() -> None:
    (track,), egress, path, _ = watching(1)
    for number in range(400):
        payload = (DELTA if number else KEY) + bytes(1_380)
        track.accept(number, 3_000 * number, 0x80, payload, number)
    ask(egress, *range(300, 300 + MOST_NACKED))
    assert 40 < len(path.sent) < MOST_NACKED


def test_looking_has_its_limit_where_nothing_is_found() -> None:
    (track,), egress, path, clock = watching(1)
    plays(track, 400)
    for _ in range(100):
        ask(egress, *range(2_000, 2_000 + MOST_NACKED))
    ask(egress, 350)
    assert path.sent == []
    clock.now_ms += SLICE_MS
    ask(egress, 350)
    assert len(path.sent) == 1
