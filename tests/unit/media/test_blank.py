"""Black and silence by sizes alone: with what real encoders make of real pictures, and by made-up sizes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder

from media import codecs
from media.blank import KEY_EVERY_MS, SILENT_BYTES, STILL_MS, Picture, Sound
from media.picture_size import macroblocks

WIDTH, HEIGHT, RATE = 640, 480, 5
ENCODERS = {"VP8": Vp8Encoder, "H264": H264Encoder}
IS_KEY: dict[str, Callable[[bytes], bool]] = {"VP8": codecs.vp8_keyframe, "H264": codecs.h264_keyframe}
SOUND_RATE = 48_000


def picture(luma: Callable[[int, int], int], *, colour: int = 128) -> av.VideoFrame:
    """A picture from the brightness of its blocks of 16×16."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    rows = bytearray()
    for y in range(HEIGHT):
        row = b"".join(bytes([luma(x, y // 16)]) * 16 for x in range(frame.planes[0].line_size // 16))
        rows += row.ljust(frame.planes[0].line_size, b"\x10")
    frame.planes[0].update(bytes(rows))
    for plane in frame.planes[1:]:
        plane.update(bytes([colour]) * plane.buffer_size)
    return frame


def black(at: int) -> av.VideoFrame:
    return picture(lambda x, y: 16)


def card(at: int) -> av.VideoFrame:
    """Dim, and as still as can be: some letters' worth of edges."""
    return picture(lambda x, y: 70 if y in (12, 14) and 5 < x < 30 and x % 2 else 40)


def moving(at: int) -> av.VideoFrame:
    return picture(lambda x, y: 16 + (x * 9 + y * 5 + at * 7) % 200)


class Camera:
    """Encodes and packs as aiortc does, and answers what the picture asks for."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.encoder = ENCODERS[codec]()
        self.seen = Picture(codec)
        self.now_ms = 0
        self.asked = 0
        self._sent = 0
        self._key = True

    def send(self, seconds: float, what: Callable[[int], av.VideoFrame]) -> None:
        for _ in range(int(seconds * RATE)):
            frame = what(self._sent)
            frame.pts, frame.time_base = self._sent * 90_000 // RATE, Fraction(1, 90_000)
            payloads, timestamp = self.encoder.encode(frame, force_keyframe=self._key)
            for payload in payloads:
                self.seen.packet(self.now_ms, timestamp & 0xFFFFFFFF, payload, IS_KEY[self.codec](payload))
            self._sent += 1
            self.now_ms = self._sent * 1000 // RATE
            self._key = self.seen.wants_key_frame(self.now_ms)
            self.asked += self._key

    @property
    def black(self) -> bool:
        return self.seen.black_ms(self.now_ms) > 0


@pytest.fixture(params=["VP8", "H264"])
def camera(request: pytest.FixtureRequest) -> Camera:
    return Camera(request.param)


def test_a_black_picture_is_called_black_after_some_seconds_and_not_when_light_comes(camera: Camera) -> None:
    camera.send(STILL_MS / 1000 - 1, black)
    assert not camera.black
    # x264 writes its name into its first key frame: another one is asked for.
    camera.send(5, black)
    assert camera.black
    assert camera.asked <= 1
    camera.send(3, moving)
    assert not camera.black


def test_a_picture_that_goes_black_is_asked_for_a_key_frame_and_called_black(camera: Camera) -> None:
    camera.send(4, moving)
    camera.send(STILL_MS / 1000 + 5, black)
    assert camera.asked == 1
    assert camera.black


def test_a_still_picture_with_something_in_it_is_not_called_black(camera: Camera) -> None:
    for _ in range(12):
        camera.send(1, card)
        assert not camera.black
    assert camera.asked <= 1


def test_a_moving_picture_is_not_called_black_and_never_asked(camera: Camera) -> None:
    for _ in range(8):
        camera.send(1, moving)
        assert not camera.black
    assert camera.asked == 0


# --- sizes alone ------------------------------------------------------------------------------------


def vp8_key(size: int, width: int = 1280, height: int = 720) -> bytes:
    header = b"\x10\x00\x00\x00\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return header.ljust(size, b"\x00")


class Sizes:
    """Frames of given sizes, thirty a second."""

    def __init__(self) -> None:
        self.seen = Picture("VP8")
        self.now_ms = 0
        self.asked: list[int] = []
        self._timestamp = 0xFFFFFF00  # wraps

    def frame(self, *payloads: bytes, key: bool = False) -> None:
        self._timestamp = (self._timestamp + 3000) & 0xFFFFFFFF
        for payload in payloads:
            self.seen.packet(self.now_ms, self._timestamp, payload, key)
        self.now_ms += 33
        if self.seen.wants_key_frame(self.now_ms):
            self.asked.append(self.now_ms)

    def play(self, seconds: float, size: int) -> Sizes:
        for _ in range(int(seconds * 30)):
            self.frame(bytes(size))
        return self

    @property
    def black(self) -> bool:
        return self.seen.black_ms(self.now_ms) > 0


@pytest.mark.parametrize(
    ("key", "inter", "is_black"),
    [
        # As measured in Chromium at 720p: black, dim bars, bars, a card.
        (1_593, 249, True),
        (2_106, 405, False),
        (2_330, 562, False),
        (3_006, 291, False),
        # A person in front of a camera.
        (40_000, 6_000, False),
        # A covered lens with a noisy sensor: not found, as the docstring says.
        (1_669, 8_756, False),
    ],
)
def test_sizes_as_measured_are_told_apart(key: int, inter: int, is_black: bool) -> None:
    sizes = Sizes()
    sizes.frame(vp8_key(key), key=True)
    assert sizes.play(8, inter).black is is_black


def test_a_key_frame_in_several_packets_is_as_large_as_their_sum() -> None:
    sizes = Sizes()
    sizes.frame(vp8_key(1_100), bytes(1_100), bytes(1_100), key=False)
    sizes = Sizes()
    sizes._timestamp = 0
    for payload, key in ((vp8_key(1_100), True), (bytes(1_100), False), (bytes(1_100), False)):
        sizes.seen.packet(0, 1, payload, key)
    assert not sizes.play(8, 200).black


def test_a_still_picture_is_asked_for_a_key_frame_twice_a_minute_at_most() -> None:
    sizes = Sizes()
    sizes.frame(vp8_key(20_000), key=True)
    sizes.play(67, 200)
    assert len(sizes.asked) == 3
    assert all(later - earlier >= KEY_EVERY_MS for earlier, later in itertools.pairwise(sizes.asked))


def test_a_late_packet_of_an_older_frame_changes_nothing() -> None:
    sizes = Sizes()
    sizes.frame(vp8_key(1_500), key=True)
    sizes.play(8, 200)
    sizes.seen.packet(sizes.now_ms, sizes._timestamp - 30_000 & 0xFFFFFFFF, bytes(1_200), False)
    assert sizes.play(2, 200).black


def test_a_picture_whose_size_is_not_known_is_never_called_black() -> None:
    sizes = Sizes()
    sizes.frame(b"\x10\x00\x00\x00nonsense", key=True)
    assert not sizes.play(8, 1).black


# --- how large a picture is -------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_the_size_of_a_picture_is_read_from_its_key_frame(codec: str) -> None:
    frame = black(0)
    frame.pts, frame.time_base = 0, Fraction(1, 90_000)
    payloads, _ = ENCODERS[codec]().encode(frame, force_keyframe=True)
    assert max(macroblocks(codec, payload) for payload in payloads) == (WIDTH // 16) * (HEIGHT // 16)


def test_noise_has_no_size_and_raises_nothing() -> None:
    chance = random.Random(7)
    for _ in range(3_000):
        noise = chance.randbytes(chance.randrange(40))
        for codec, start in (("VP8", b"\x10"), ("H264", b"\x67"), ("H264", b"\x18\x00\x09\x67"), ("H264", b"")):
            assert 0 <= macroblocks(codec, start + noise) <= 1 << 16


# --- sound ------------------------------------------------------------------------------------------


def opus(amplitude: int, seconds: float) -> Iterator[int]:
    """Sizes of 20 ms packets of noise of that amplitude."""
    chance = random.Random(1)
    encoder = OpusEncoder()
    for number in range(int(seconds * 50)):
        frame = av.AudioFrame(format="s16", layout="stereo", samples=SOUND_RATE // 50)
        samples = (chance.randint(-amplitude, amplitude) for _ in range(2 * frame.samples))
        frame.planes[0].update(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, number * 960, Fraction(1, SOUND_RATE)
        yield from (len(payload) for payload in encoder.encode(frame)[0])


@pytest.mark.parametrize(("amplitude", "silent"), [(0, True), (16, False), (8_000, False)])
def test_silence_is_told_from_a_quiet_room(amplitude: int, silent: bool) -> None:
    sound = Sound(0)
    for number, size in enumerate(opus(amplitude, 6)):
        sound.packet(number * 20, number * 960, bytes(size), False)
        assert number * 20 >= STILL_MS or not sound.silent_ms(number * 20)
    assert (sound.silent_ms(5_900) > 0) is silent


@pytest.mark.parametrize(("sizes", "silent"), [((35,), True), ((32, 3), True), ((40, 56), False), ((), True)])
def test_silence_as_measured_in_chromium(sizes: tuple[int, ...], silent: bool) -> None:
    sound = Sound(0)
    for number in range(300):
        for size in sizes[number % len(sizes) :][:1] if sizes else ():
            sound.packet(number * 20, number * 960, bytes(size), False)
    assert (sound.silent_ms(6_000) > 0) is silent
    sound.packet(6_000, 0, bytes(SILENT_BYTES + 1), False)
    assert not sound.silent_ms(6_000 + STILL_MS - 1)
