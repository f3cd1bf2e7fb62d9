"""Sharing: never more devices at once than one person has, and never more memory than was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import sharing
from models.sharing import Players

KEY = b"k" * 32


def test_the_fourth_device_at_once_is_too_many_and_the_three_go_on() -> None:
    players = Players()
    assert [players.too_many("brd_a", "vic", each, 0.0) for each in "abcd"] == [False, False, False, True]
    assert [players.too_many("brd_a", "vic", each, 2.0) for each in "abcd"] == [False, False, False, True]
    # another viewer, and the same in another broadcast, have three of their own
    assert not players.too_many("brd_a", "eve", "d", 2.0)
    assert not players.too_many("brd_b", "vic", "d", 2.0)


def test_a_device_that_fell_silent_makes_place() -> None:
    players = Players(window_seconds=60)
    for each in "abc":
        assert not players.too_many("brd_a", "vic", each, 0.0)
    assert not players.too_many("brd_a", "vic", "a", 30.0)
    assert players.too_many("brd_a", "vic", "d", 59.9)
    assert [players.too_many("brd_a", "vic", each, 60.0) for each in "de"] == [False, False]
    assert players.too_many("brd_a", "vic", "f", 60.0)


asked = st.tuples(st.sampled_from("vwxyz"), st.sampled_from("abcdefgh"), st.floats(0, 40))


@given(st.lists(asked, max_size=80), st.integers(1, 4), st.integers(1, 4))
def test_never_more_devices_play_at_once_and_never_more_is_remembered(
    requests: list[tuple[str, str, float]], most_devices: int, most_viewers: int
) -> None:
    players = Players(most_devices=most_devices, most_viewers=most_viewers)
    roomy = Players(most_devices=most_devices)
    now, served = 0.0, list[tuple[float, str, str]]()
    for viewer, device, pause in requests:
        now += pause
        players.too_many("brd_a", viewer, device, now)
        if not roomy.too_many("brd_a", viewer, device, now):
            served.append((now, viewer, device))
        else:
            # then it is refused only where so many others play
            assert len(_playing(served, viewer, now) - {device}) == most_devices
        assert len(_playing(served, viewer, now)) <= most_devices
        viewers, devices = players.remembered
        assert viewers <= most_viewers
        assert devices <= most_devices


def _playing(served: list[tuple[float, str, str]], viewer: str, now: float) -> set[str]:
    return {device for at, whose, device in served if whose == viewer and now - at < sharing.WINDOW_SECONDS}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("203.0.113.9", "player"), ("203.0.113.200", "player"), True),
        (("203.0.113.9", "player"), ("::ffff:203.0.113.9", "player"), True),
        (("203.0.113.9", "player"), ("203.0.114.9", "player"), False),
        (("203.0.113.9", "player"), ("203.0.113.9", "other"), False),
        (("2001:db8::1", "player"), ("2001:db8::ffff:1", "player"), True),
        (("2001:db8::1", "player"), ("2001:db8:0:1::1", "player"), False),
        (("unknown", ""), ("unknown", ""), True),
        (("unknown", "\udc80"), ("unknown", ""), False),
    ],
)
def test_a_device_is_a_network_and_a_player(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    assert (sharing.device(*one, KEY) == sharing.device(*other, KEY)) is same
    assert sharing.device(*one, KEY) != sharing.device(*one, b"x" * 32)
    assert len(sharing.device(*one, KEY)) == 16
