"""The texts, word for word where other people's players read them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from models.ladder import AUDIO, RENDITIONS
from workers.transcode.manifests import AVAILABLE_AFTER_SECONDS, manifest
from workers.transcode.playlists import Open, master_playlist, media_playlist
from workers.transcode.posters import storyboard
from workers.transcode.segments import Part, Rendition, Segment, State, Thumbnail, gap, gap_like

BEGAN = 1_767_323_045.678
NAMESPACE = "{urn:mpeg:dash:schema:mpd:2011}"


def segment(slot: int, epoch: int, *, seconds: float = 2.0, first: int = 0, size: int = 100_000) -> Segment:
    return Segment(
        slot=slot,
        epoch=epoch,
        seconds=seconds,
        captured_at=BEGAN + slot * 2,
        decode_time=(slot - first) * 180_000,
        ticks=round(seconds * 90_000),
        size=size,
        discontinuity=epoch > 1 and slot == first,
    )


@pytest.fixture
def state() -> State:
    """Two lives with a gap between them."""
    made = State(origin=BEGAN, epochs={1: BEGAN, 2: BEGAN + 8})
    for name in RENDITIONS:
        rendition = made.renditions[name]
        sound = {1: "mp4a.40.2", 2: "mp4a.40.2"}
        rendition.codecs = sound if name == AUDIO else {1: "avc1.42C01F", 2: "avc1.4D401F"}
        rendition.timescale = 90_000
        size = 10_000 if name == AUDIO else 100_000
        for one in (
            segment(0, 1, size=size),
            segment(1, 1, size=size * 2),
            segment(2, 1, seconds=0.5, size=size),
            gap(3, 1, BEGAN + 6),
            segment(4, 2, first=4, size=size),
        ):
            rendition.append(one)
    return made


def test_a_media_playlist(state: State) -> None:
    assert media_playlist(state.renditions["480p"], ended=False) == """\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init_1.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.678Z
#EXTINF:2.00000,
s00000_1.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:07.678Z
#EXTINF:2.00000,
s00001_1.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:09.678Z
#EXTINF:0.50000,
s00002_1.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:11.678Z
#EXT-X-GAP
#EXTINF:2.00000,
s00003_1.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init_2.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:13.678Z
#EXTINF:2.00000,
s00004_2.m4s
"""


def test_what_follows_a_gap_of_its_own_life_has_its_map() -> None:
    rendition = Rendition()
    for one in (segment(0, 1), gap_like(segment(1, 2, first=1)), segment(2, 2, first=1)):
        rendition.append(one)
    lines = media_playlist(rendition, ended=False).splitlines()
    assert [line for line in lines if line.startswith(("#EXT-X-MAP", "#EXT-X-DISC", "#EXT-X-GAP", "s"))] == [
        "#EXT-X-DISCONTINUITY-SEQUENCE:0",
        '#EXT-X-MAP:URI="init_1.mp4"',
        "s00000_1.m4s",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-GAP",
        "s00001_2.m4s",
        '#EXT-X-MAP:URI="init_2.mp4"',
        "s00002_2.m4s",
    ]


def test_a_low_latency_playlist_ends_with_what_comes_next() -> None:
    rendition = Rendition()
    rendition.append(segment(0, 1))
    parts = (Part(name="s00001_1.p0.m4s", seconds=0.5, independent=True),)
    now = Open(1, 1, BEGAN + 2, False, parts)
    text = media_playlist(rendition, ended=False, open_slot=now, reports={AUDIO: now._replace(parts=())})
    assert text.splitlines()[:5] == [
        "#EXTM3U",
        "#EXT-X-VERSION:9",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.6,HOLD-BACK=6",
        "#EXT-X-PART-INF:PART-TARGET=0.512",
    ]
    assert text.splitlines()[-4:] == [
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:07.678Z",
        '#EXT-X-PART:DURATION=0.50000,URI="s00001_1.p0.m4s",INDEPENDENT=YES',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="s00001_1.p1.m4s"',
        '#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=0,LAST-PART=3',
    ]


def test_an_ended_playlist_promises_nothing() -> None:
    rendition = Rendition()
    rendition.append(segment(0, 1))
    text = media_playlist(rendition, ended=True, open_slot=Open(1, 1, BEGAN, False, ()))
    assert text.endswith("s00000_1.m4s\n#EXT-X-ENDLIST\n")
    assert "PRELOAD" not in text
    assert "BLOCK" not in text


def test_a_master_playlist(state: State) -> None:
    assert master_playlist(state, "free") == """\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Sound",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio/index.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=880000,AVERAGE-BANDWIDTH=676923,RESOLUTION=854x480,FRAME-RATE=30.000,\
CODECS="avc1.4D401F,mp4a.40.2",AUDIO="audio"
480p/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=880000,AVERAGE-BANDWIDTH=676923,RESOLUTION=426x240,FRAME-RATE=30.000,\
CODECS="avc1.4D401F,mp4a.40.2",AUDIO="audio"
240p/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=80000,AVERAGE-BANDWIDTH=61538,CODECS="mp4a.40.2",AUDIO="audio"
audio/index.m3u8
"""


def test_a_manifest_has_a_period_for_each_life(state: State) -> None:
    root = ElementTree.fromstring(manifest(state, "premium", BEGAN + 20))
    assert root.get("availabilityStartTime") == "2026-01-02T03:04:06.678Z"
    assert AVAILABLE_AFTER_SECONDS == 1
    assert root.get("minimumUpdatePeriod") == "PT2.000S"
    first, second = root.findall(f"{NAMESPACE}Period")
    assert (first.get("start"), second.get("start")) == ("PT0.000S", "PT8.000S")
    found = first.find(f".//{NAMESPACE}Representation[@id='720p']/{NAMESPACE}SegmentTemplate")
    assert found is not None
    assert found.attrib == {
        "timescale": "90000",
        "initialization": "$RepresentationID$/init_1.mp4",
        "media": "$RepresentationID$/s$Number%05d$_1.m4s",
        "startNumber": "0",
    }
    entries = [entry.attrib for entry in found.iter(f"{NAMESPACE}S")]
    assert entries == [{"t": "0", "d": "180000", "r": "1"}, {"t": "360000", "d": "45000"}]
    sound = second.find(f".//{NAMESPACE}Representation[@id='audio']")
    assert sound is not None
    assert sound.get("bandwidth") == "80000"


def test_an_ended_manifest_is_as_long_as_the_broadcast_was(state: State) -> None:
    state.ended = True
    root = ElementTree.fromstring(manifest(state, "free", BEGAN + 20))
    assert root.get("minimumUpdatePeriod") is None
    assert root.get("mediaPresentationDuration") == "PT10.000S"


def test_a_storyboard_says_when_and_where() -> None:
    thumbnails = [Thumbnail(at=0.98, sprite=2, index=6), Thumbnail(at=3661.0, sprite=3, index=0)]
    assert storyboard(State(origin=BEGAN, thumbnails=thumbnails)) == """\
WEBVTT

NOTE 00:00:00.000 is 2026-01-02T03:04:05.678Z

00:00:00.980 --> 01:01:01.000
storyboard_2.jpg#xywh=160,90,160,90

01:01:01.000 --> 01:01:11.000
storyboard_3.jpg#xywh=0,0,160,90
"""
