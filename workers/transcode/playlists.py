"""The texts of HLS playlists (RFC 8216; draft-pantos-hls-rfc8216bis for parts and gaps). Pure.

Knows nothing of files; what it says of a segment, a segment is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from models.clock import rfc3339
from models.ladder import (
    AUDIO,
    AUDIO_KBPS,
    FRAMES_PER_SECOND,
    PARTS_PER_SLOT,
    RENDITIONS,
    SLOT_SECONDS,
    Tier,
    rungs_of,
)
from workers.transcode.segments import Part, Rendition, Segment, State, init_name, part_name

PART_TARGET = 0.512
"""24 frames of sound; parts of pictures are 0.5 s."""
PART_HOLD_BACK = 1.6
"""At least three part targets (rfc8216bis, 4.4.3.8)."""
HOLD_BACK = 3 * SLOT_SECONDS
SEGMENTS_WITH_PARTS = 3
"""Parts further from the live edge than three target durations serve nobody (rfc8216bis, 4.4.4.9)."""
SETTLED_SEGMENTS = 3
"""With fewer, the most that rate control allows is announced instead of the peak so far."""
_CEILING = 1.6
"""Peak over average of a segment: 107 % of the rate and a whole second's buffer in two seconds."""


class Open(NamedTuple):
    """The slot being written on one rung, for the low-latency playlist."""

    slot: int
    epoch: int
    captured_at: float
    discontinuity: bool
    parts: tuple[Part, ...]


def date_time(moment: float) -> str:
    """``moment``, Unix seconds, as EXT-X-PROGRAM-DATE-TIME has it, to the millisecond."""
    return rfc3339(datetime.fromtimestamp(round(moment, 3), UTC))


def media_playlist(
    rendition: Rendition, *, ended: bool, open_slot: Open | None = None, reports: dict[str, Open] | None = None
) -> str:
    """One rung's playlist. With ``open_slot`` it is a low-latency one that names parts."""
    segments = rendition.window()
    low_latency = open_slot is not None and not ended
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{9 if low_latency else 6}",
        f"#EXT-X-TARGETDURATION:{SLOT_SECONDS}",
        *(_low_latency_head() if low_latency else ()),
        f"#EXT-X-MEDIA-SEQUENCE:{segments[0].slot if segments else open_slot.slot if open_slot else 0}",
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{rendition.discontinuity_sequence()}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    epoch = None
    for index, segment in enumerate(segments):
        parts = segment.parts if low_latency and index >= len(segments) - SEGMENTS_WITH_PARTS else ()
        lines += _segment_lines(segment, parts, new_map=segment.epoch != epoch and not segment.gap)
        epoch = epoch if segment.gap else segment.epoch
    if low_latency and open_slot is not None:
        lines += _open_lines(open_slot, new_map=open_slot.epoch != epoch)
        lines += [_report_line(name, other) for name, other in (reports or {}).items()]
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _low_latency_head() -> tuple[str, str]:
    return (
        f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={PART_HOLD_BACK},HOLD-BACK={HOLD_BACK}",
        f"#EXT-X-PART-INF:PART-TARGET={PART_TARGET}",
    )


def _head_lines(discontinuity: bool, new_map: bool, epoch: int, captured_at: float) -> list[str]:
    return [
        *(["#EXT-X-DISCONTINUITY"] if discontinuity else []),
        *([f'#EXT-X-MAP:URI="{init_name(epoch)}"'] if new_map else []),
        f"#EXT-X-PROGRAM-DATE-TIME:{date_time(captured_at)}",
    ]


def _segment_lines(segment: Segment, parts: tuple[Part, ...], *, new_map: bool) -> list[str]:
    return [
        *_head_lines(segment.discontinuity, new_map, segment.epoch, segment.captured_at),
        *(_part_line(part) for part in parts),
        *(["#EXT-X-GAP"] if segment.gap else []),
        f"#EXTINF:{segment.seconds:.5f},",
        segment.name,
    ]


def _open_lines(open_slot: Open, *, new_map: bool) -> list[str]:
    hint = part_name(open_slot.slot, open_slot.epoch, len(open_slot.parts))
    lines = [f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{hint}"']
    if open_slot.parts:
        head = _head_lines(open_slot.discontinuity, new_map, open_slot.epoch, open_slot.captured_at)
        lines = [*head, *(_part_line(part) for part in open_slot.parts), *lines]
    return lines


def _part_line(part: Part) -> str:
    independent = ",INDEPENDENT=YES" if part.independent else ""
    return f'#EXT-X-PART:DURATION={part.seconds:.5f},URI="{part.name}"{independent}'


def _report_line(name: str, other: Open) -> str:
    """The last part that another rung has: of the open slot, or the last one of the slot before."""
    slot, part = (other.slot, len(other.parts) - 1) if other.parts else (other.slot - 1, PARTS_PER_SLOT - 1)
    return f'#EXT-X-RENDITION-REPORT:URI="../{name}/index.m3u8",LAST-MSN={max(slot, 0)},LAST-PART={part}'


class Rate(NamedTuple):
    """Bits a second of a rung: of its largest segment, and on average."""

    peak: int
    average: int


def rate(rendition: Rendition, nominal_kbps: int) -> Rate:
    """What a rung really takes, or may take while it is too young to tell."""
    if rendition.counted < SETTLED_SEGMENTS:
        ceiling = round(nominal_kbps * 1000 * _CEILING)
        return Rate(max(ceiling, rendition.peak_bits), max(nominal_kbps * 1000, rendition.average_bits()))
    return Rate(rendition.peak_bits, rendition.average_bits())


def codec(rendition: Rendition) -> str:
    """The codec of the rung's latest epoch (RFC 6381); empty before the first."""
    return rendition.codecs[max(rendition.codecs)] if rendition.codecs else ""


def master_playlist(state: State, tier: Tier) -> str:
    """The multivariant playlist of ``tier``: pictures best first, then sound alone."""
    sound = state.renditions[AUDIO]
    sound_rate, sound_codec = rate(sound, AUDIO_KBPS), codec(sound)
    media = {
        "TYPE": "AUDIO",
        "GROUP-ID": f'"{AUDIO}"',
        "NAME": '"Sound"',
        "DEFAULT": "YES",
        "AUTOSELECT": "YES",
        "CHANNELS": '"2"',
        "URI": f'"{AUDIO}/index.m3u8"',
    }
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS", f"#EXT-X-MEDIA:{_attributes(media)}"]
    for rung in rungs_of(tier):
        picture = state.renditions[rung.name]
        its = rate(picture, rung.kbps)
        both = Rate(its.peak + sound_rate.peak, its.average + sound_rate.average)
        shape = {"RESOLUTION": f"{rung.width}x{rung.height}", "FRAME-RATE": f"{FRAMES_PER_SECOND:.3f}"}
        lines += _variant_lines(rung.name, both, {**shape, "CODECS": f'"{codec(picture)},{sound_codec}"'})
    lines += _variant_lines(AUDIO, sound_rate, {"CODECS": f'"{sound_codec}"'})
    return "\n".join(lines) + "\n"


def _variant_lines(name: str, its: Rate, more: dict[str, str]) -> list[str]:
    attributes = {
        "BANDWIDTH": str(its.peak),
        "AVERAGE-BANDWIDTH": str(its.average),
        **more,
        "AUDIO": f'"{AUDIO}"',
    }
    return [f"#EXT-X-STREAM-INF:{_attributes(attributes)}", f"{name}/index.m3u8"]


def _attributes(values: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())


def others(name: str, open_slots: dict[str, Open]) -> dict[str, Open]:
    """The rungs whose progress ``name``'s playlist reports."""
    return {other: open_slots[other] for other in RENDITIONS if other != name and other in open_slots}
