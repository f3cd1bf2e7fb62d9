"""Chunks of our own making are read back as they were, in whatever pieces they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.fmp4 import BrokenStream, Init, Reader, Sample, chunk, span

SAMPLES = st.lists(st.tuples(st.binary(min_size=1, max_size=50), st.booleans()), min_size=1, max_size=20)


def track(rows: list[tuple[bytes, bool]], first: int, duration: int) -> list[Sample]:
    return [
        Sample(first + index * duration, duration, key, data) for index, (data, key) in enumerate(rows)
    ]


@given(SAMPLES, st.integers(0, 2**40), st.integers(1, 100_000), st.integers(1, 40))
def test_a_chunk_is_read_back_however_it_is_cut(
    rows: list[tuple[bytes, bool]], first: int, duration: int, piece: int
) -> None:
    samples = track(rows, first, duration)
    data = chunk(7, samples)
    reader = Reader()
    read = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    assert read == samples


@given(SAMPLES, SAMPLES)
def test_the_span_of_two_chunks_is_both(one: list[tuple[bytes, bool]], two: list[tuple[bytes, bool]]) -> None:
    first = track(one, 9000, 3000)
    second = track(two, 9000 + 3000 * len(one), 3000)
    covered = span(chunk(1, first) + chunk(2, second))
    assert covered == (9000, 3000 * (len(one) + len(two)), first[0].key)


def test_what_is_no_box_is_refused() -> None:
    with pytest.raises(BrokenStream):
        list(Reader().feed(b"\x00\x00\x00\x03moof"))
    with pytest.raises(BrokenStream):
        span(b"")


def box(kind: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def movie(entry: bytes) -> bytes:
    header = bytes(12) + (48_000).to_bytes(4, "big") + bytes(8)
    table = box(b"stsd", bytes(8), entry)
    media = box(b"mdia", box(b"mdhd", header), box(b"minf", box(b"stbl", table)))
    return box(b"ftyp", b"iso5") + box(b"moov", box(b"trak", media))


# Audio object type 2 (AAC-LC) and 42; the descriptors' sizes in one byte and in four.
@pytest.mark.parametrize(
    ("config", "codec"),
    [
        (b"\x03\x19\x00\x01\x00\x04\x11\x40" + bytes(12) + b"\x05\x02\x11\x90", "mp4a.40.2"),
        (
            b"\x03\x80\x80\x80\x22\x00\x01\x00\x04\x80\x80\x80\x14\x40"
            + bytes(12)
            + b"\x05\x80\x80\x80\x02\x29\x90",
            "mp4a.40.5",
        ),
    ],
)
def test_the_codec_of_sound_is_read_from_its_descriptor(config: bytes, codec: str) -> None:
    data = movie(box(b"mp4a", bytes(28), box(b"esds", bytes(4), config)))
    assert list(Reader().feed(data)) == [Init(data, 48_000, codec)]


def test_the_codec_of_pictures_is_read_from_their_configuration() -> None:
    data = movie(box(b"avc1", bytes(78), box(b"avcC", b"\x01\x4d\x40\x1f\xff")))
    assert list(Reader().feed(data)) == [Init(data, 48_000, "avc1.4D401F")]
