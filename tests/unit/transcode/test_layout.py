"""Where pictures go, and that what is composed is what went in."""

from __future__ import annotations

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from models.ladder import HEIGHT, WIDTH
from workers.transcode.composer import MOST_PANES, Buffers, Composer, Pane, as_frame, fit, panes

PICTURE_BYTES = WIDTH * HEIGHT * 3 // 2


def grey(width: int, height: int, level: int) -> VideoFrame:
    planar = np.full((height * 3 // 2, width), 128, np.uint8)
    planar[:height] = level
    return VideoFrame.from_ndarray(planar, format="yuv420p")


def bright(picture: Buffers) -> np.ndarray:
    flat = np.concatenate([np.frombuffer(buffer, np.uint8) for buffer in picture])
    assert flat.size == PICTURE_BYTES
    return flat[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH)


def inside(inner: Pane, outer: Pane) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


@given(st.integers(0, 40))
def test_panes_lie_within_the_picture_and_not_on_each_other(count: int) -> None:
    places = panes(count)
    assert len(places) == min(count, MOST_PANES)
    covered = np.zeros((HEIGHT, WIDTH), int)
    for place in places:
        assert all(number % 2 == 0 for number in place)
        assert inside(place, Pane(0, 0, WIDTH, HEIGHT))
        covered[place.y : place.y + place.height, place.x : place.x + place.width] += 1
    assert covered.max(initial=0) <= 1


def test_one_fills_everything_two_are_side_by_side_three_make_a_centred_row() -> None:
    assert panes(1) == [Pane(0, 0, 1280, 720)]
    assert panes(2) == [Pane(0, 0, 640, 720), Pane(640, 0, 640, 720)]
    assert panes(3) == [Pane(0, 0, 640, 360), Pane(640, 0, 640, 360), Pane(320, 360, 640, 360)]


@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(1, MOST_PANES), st.data())
def test_a_picture_fits_its_pane_in_its_own_shape(
    width: int, height: int, count: int, data: st.DataObject
) -> None:
    pane = data.draw(st.sampled_from(panes(count)))
    place = fit(width, height, pane)
    assert inside(place, pane)
    assert all(number % 2 == 0 for number in place)
    # As wide, or as high, as the pane; a phone held upright stays upright.
    assert place.width >= pane.width * 0.98 or place.height >= pane.height * 0.98
    if 1 / 10 < width / height < 10:
        assert place.width / place.height == pytest.approx(width / height, rel=0.06)


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (1920, 1080), (854, 480)])
def test_one_picture_of_our_shape_fills_ours(size: tuple[int, int]) -> None:
    picture = bright(Composer().picture([grey(*size, 180)]))
    assert np.abs(picture.astype(int) - 180).max() <= 1


def test_two_pictures_are_where_their_panes_are() -> None:
    picture = bright(Composer().picture([grey(640, 360, 200), grey(360, 640, 100)]))
    assert abs(int(picture[360, 320]) - 200) <= 1
    assert abs(int(picture[360, 960]) - 100) <= 1
    assert picture[100, 320] == 16
    assert picture[360, 660] == 16


def test_only_what_changed_is_drawn_again_and_what_was_given_out_stays() -> None:
    composer = Composer()
    left, right = grey(640, 360, 200), grey(640, 360, 100)
    first = composer.picture([left, right])
    before = bright(first).copy()
    assert composer.picture([left, right]) is first
    second = composer.picture([left, grey(640, 360, 50)])
    assert abs(int(bright(second)[360, 960]) - 50) <= 1
    assert abs(int(bright(second)[360, 320]) - 200) <= 1
    assert (bright(first) == before).all()


def test_who_leaves_leaves_nothing_behind() -> None:
    composer = Composer()
    composer.picture([grey(640, 360, 200), grey(640, 360, 100)])
    alone = bright(composer.picture([grey(360, 640, 100)]))
    assert alone[360, 100] == 16
    assert composer.picture([]) == Composer().picture([])


def test_nobody_in_the_picture_is_a_card_and_no_crash() -> None:
    card = Composer().picture([])
    assert len(np.unique(bright(card))) == 2
    frame = as_frame(card)
    assert (frame.width, frame.height) == (WIDTH, HEIGHT)
