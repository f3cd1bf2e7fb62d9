"""Names on a composed picture: drawn once, on their own picture alone, and none where there is no room for one."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from av import VideoFrame

from models.ladder import HEIGHT, WIDTH
from workers.transcode.composer import Composer
from workers.transcode.labels import NAME_HEIGHT, Label, Labels, label_of, letters

NAME = label_of(np.full((NAME_HEIGHT, 100), 255, np.uint8))


def grey(width: int, height: int, level: int) -> VideoFrame:
    planar = np.full((height * 3 // 2, width), 128, np.uint8)
    planar[:height] = level
    return VideoFrame.from_ndarray(planar, format="yuv420p")


def composed(sizes: list[tuple[int, int]], names: list[Label | None]) -> np.ndarray:
    (buffer,) = Composer().picture([grey(*size, 100) for size in sizes], names)
    return np.frombuffer(buffer, np.uint8)[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["Creator B", "Ада Лавлейс", "x:y%{n}'\\\\;[a]", "-vf", "A" * 200])
def test_any_name_is_drawn_as_it_is_written(name: str) -> None:
    label = label_of(letters(name))
    assert label is not None
    assert label.width % 2 == 0
    assert 20 < label.width <= WIDTH // 2
    assert label.add.max() > 200


@pytest.mark.parametrize("name", ["漢字", "Anna 漢", "\U0010fffd"])
def test_a_name_with_letters_that_the_font_lacks_is_left_out(name: str) -> None:
    assert label_of(letters(name)) is None


def test_a_name_of_nothing_is_none() -> None:
    assert label_of(letters("  ")) is None


def test_each_picture_has_its_own_name_in_its_corner_and_nothing_else_is_touched() -> None:
    # given two pictures side by side, of which the right one has a name
    picture = composed([(640, 360), (640, 360)], [None, NAME])
    changed = np.argwhere(picture[180:540] > 150)
    # then it is in the upper right corner of the right one
    assert changed.min(axis=0).tolist() == [16, WIDTH - 16 - 100]
    assert changed.max(axis=0).tolist() == [16 + NAME_HEIGHT - 1, WIDTH - 16 - 1]


def test_a_label_darkens_what_is_below_and_keeps_its_colour_apart() -> None:
    empty = Label(*(np.full((NAME_HEIGHT, 60), value, np.float32) for value in (0.5, 8)))
    assert int(composed([(640, 360), (640, 360)], [empty, None])[180 + 20, 640 - 20]) == 58


def test_a_picture_too_small_for_a_name_has_none() -> None:
    wide = Label(*(np.full((NAME_HEIGHT, 610), value, np.float32) for value in (0, 235)))
    assert composed([(640, 360), (640, 360)], [wide, wide]).max() <= 101


def test_the_clock_does_not_wait_for_a_name() -> None:
    labels = Labels()
    assert labels.of("Creator B") is None
    for thread in threading.enumerate():
        if thread.name == "label":
            thread.join()
    assert labels.of("Creator B") is not None
    assert labels.of("Creator B") is labels.of("Creator B")
