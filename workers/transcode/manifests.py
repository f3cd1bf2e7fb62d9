"""The text of the DASH manifest (ISO/IEC 23009-1, live profile) over the same segments as HLS. Pure.

Each epoch is a period; each representation has its own timeline, because a kill may leave rungs that
ended differently. What is listed is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby

from models.clock import rfc3339
from models.ladder import (
    AUDIO,
    AUDIO_KBPS,
    FRAMES_PER_SECOND,
    RUNGS,
    SAMPLES_PER_SECOND,
    SLOT_SECONDS,
    Tier,
    manifest_name,
    rungs_of,
)
from workers.transcode.playlists import rate
from workers.transcode.segments import WINDOW, Segment, State, init_name

AVAILABLE_AFTER_SECONDS = 1.0
"""From capture of a segment's end to when it is surely there: composing, encoding and writing take less."""
DELAY_SECONDS = 2 * SLOT_SECONDS


def manifest(state: State, tier: Tier, now: float) -> str:
    """The MPD of ``tier``; ``now`` is Unix seconds."""
    begins = state.origin + AVAILABLE_AFTER_SECONDS
    attributes = {
        "xmlns": "urn:mpeg:dash:schema:mpd:2011",
        "profiles": "urn:mpeg:dash:profile:isoff-live:2011",
        "type": "dynamic",
        "availabilityStartTime": _moment(begins),
        "publishTime": _moment(now),
        **({} if state.ended else {"minimumUpdatePeriod": _length(SLOT_SECONDS)}),
        **({"mediaPresentationDuration": _length(_ends_at(state) - state.origin)} if state.ended else {}),
        "minBufferTime": _length(SLOT_SECONDS),
        "timeShiftBufferDepth": _length(WINDOW * SLOT_SECONDS),
        "suggestedPresentationDelay": _length(DELAY_SECONDS),
        "maxSegmentDuration": _length(SLOT_SECONDS + 0.1),
    }
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<MPD {_attributes(attributes)}>"]
    for epoch in sorted(_epochs(state)):
        lines += _period(state, tier, epoch)
    # Any answer of ours has a Date header: a clock within a second, without a time server.
    lines.append(f'  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-head:2014" value="{manifest_name(tier)}"/>')
    lines.append("</MPD>")
    return "\n".join(lines) + "\n"


def _ends_at(state: State) -> float:
    return max((r.segments[-1].ends_at for r in state.renditions.values() if r.segments), default=state.origin)


def _epochs(state: State) -> set[int]:
    return {
        segment.epoch for r in state.renditions.values() for segment in r.window() if not segment.gap
    } & state.epochs.keys()


def _period(state: State, tier: Tier, epoch: int) -> list[str]:
    start = state.epochs[epoch] - state.origin
    video = [line for rung in rungs_of(tier) for line in _representation(state, rung.name, epoch)]
    audio = list(_representation(state, AUDIO, epoch))
    top = rungs_of(tier)[0]
    return [
        f'  <Period id="{epoch}" start="{_length(start)}">',
        *_adaptation_set(
            1,
            video,
            {
                "contentType": "video",
                "mimeType": "video/mp4",
                "segmentAlignment": "true",
                "startWithSAP": "1",
                "par": "16:9",
                "maxWidth": str(top.width),
                "maxHeight": str(top.height),
                "frameRate": str(FRAMES_PER_SECOND),
            },
        ),
        *_adaptation_set(
            2,
            audio,
            {"contentType": "audio", "mimeType": "audio/mp4", "segmentAlignment": "true", "startWithSAP": "1"},
        ),
        "  </Period>",
    ]


def _adaptation_set(number: int, representations: list[str], attributes: dict[str, str]) -> list[str]:
    if not representations:
        return []
    return [
        f"    <AdaptationSet {_attributes({'id': str(number), **attributes})}>",
        *representations,
        "    </AdaptationSet>",
    ]


def _representation(state: State, name: str, epoch: int) -> Iterator[str]:
    rendition = state.renditions[name]
    segments = [one for one in rendition.window() if one.epoch == epoch and not one.gap]
    if not segments:
        return
    rung = next((one for one in RUNGS if one.name == name), None)
    attributes = {
        "id": name,
        "bandwidth": str(rate(rendition, rung.kbps if rung else AUDIO_KBPS).peak),
        "codecs": rendition.codecs.get(epoch, ""),
    }
    if rung:
        attributes |= {"width": str(rung.width), "height": str(rung.height)}
    else:
        attributes["audioSamplingRate"] = str(SAMPLES_PER_SECOND)
    yield f"      <Representation {_attributes(attributes)}>"
    if not rung:
        scheme = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
        yield f'        <AudioChannelConfiguration schemeIdUri="{scheme}" value="2"/>'
    template = {
        "timescale": str(rendition.timescale),
        "initialization": f"$RepresentationID$/{init_name(epoch)}",
        "media": f"$RepresentationID$/s$Number%05d$_{epoch}.m4s",
        "startNumber": str(segments[0].slot),
    }
    yield f"        <SegmentTemplate {_attributes(template)}>"
    yield "          <SegmentTimeline>"
    yield from _timeline(segments)
    yield "          </SegmentTimeline>"
    yield "        </SegmentTemplate>"
    yield "      </Representation>"


def _timeline(segments: list[Segment]) -> Iterator[str]:
    time = segments[0].decode_time
    for ticks, run in groupby(segment.ticks for segment in segments):
        count = len(list(run))
        repeat = f' r="{count - 1}"' if count > 1 else ""
        yield f'            <S t="{time}" d="{ticks}"{repeat}/>'
        time += ticks * count


def _attributes(values: dict[str, str]) -> str:
    return " ".join(f'{name}="{value}"' for name, value in values.items())


def _moment(unix: float) -> str:
    return rfc3339(datetime.fromtimestamp(round(unix, 3), UTC))


def _length(seconds: float) -> str:
    """An xs:duration."""
    return f"PT{seconds:.3f}S"


