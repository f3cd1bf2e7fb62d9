"""Signed addresses of spectators: good for one broadcast, one tier, one viewer, until they expire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import spectator_addresses
from models.errors import Forbidden
from models.spectator_addresses import Spectator

KEY = b"k" * 32
NOW = 1_800_000_000.0
ROOM, BROADCAST = "live-str_a", "brd_a"
GOOD = Spectator(ROOM, BROADCAST, "abcdefghij234567abcd", "free", int(NOW) + 60)


def segment(spectator: Spectator = GOOD, key: bytes = KEY) -> str:
    return spectator_addresses.prefix(spectator, key).rpartition("/")[2]


def test_what_was_signed_is_what_is_read() -> None:
    assert spectator_addresses.prefix(GOOD, KEY).startswith(f"/live/{ROOM}/{BROADCAST}/")
    assert spectator_addresses.verify(ROOM, BROADCAST, segment(), KEY, NOW) == GOOD


@pytest.mark.parametrize(
    ("room", "broadcast", "signed", "key", "now"),
    [
        ("live-str_b", BROADCAST, segment(), KEY, NOW),
        (ROOM, "brd_b", segment(), KEY, NOW),
        (ROOM, BROADCAST, segment().replace("free", "premium"), KEY, NOW),
        (ROOM, BROADCAST, segment().replace("abcd.", "abce."), KEY, NOW),
        (ROOM, BROADCAST, "9" + segment()[1:], KEY, NOW),
        (ROOM, BROADCAST, segment(key=b"x" * 32), KEY, NOW),
        (ROOM, BROADCAST, segment(GOOD._replace(tier="gold")), KEY, NOW),  # type: ignore[arg-type]
        (ROOM, BROADCAST, "", KEY, NOW),
        (ROOM, BROADCAST, "...", KEY, NOW),
        (ROOM, BROADCAST, segment() + "\u00e9", KEY, NOW),
        (ROOM, BROADCAST, "1" * 5_000, KEY, NOW),
    ],
)
def test_nothing_else_is_good(room: str, broadcast: str, signed: str, key: bytes, now: float) -> None:
    with pytest.raises(Forbidden):
        spectator_addresses.verify(room, broadcast, signed, key, now)


def test_it_is_good_until_it_expires_and_not_at_that_moment() -> None:
    spectator_addresses.verify(ROOM, BROADCAST, segment(), KEY, NOW + 59.9)
    with pytest.raises(Forbidden) as refusal:
        spectator_addresses.verify(ROOM, BROADCAST, segment(), KEY, NOW + 60)
    assert refusal.value.code == "ADDRESS_EXPIRED"


@given(st.integers(0, len(segment()) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_changed_character_passes(position: int, character: str) -> None:
    # given an address with one character that is another; the last one of base64 carries two unused bits
    text = segment()
    changed = text[:position] + character + text[position + 1 :]
    if changed == text or position == len(text) - 1:
        return
    with pytest.raises(Forbidden):
        spectator_addresses.verify(ROOM, BROADCAST, changed, KEY, NOW)


def test_a_viewer_is_another_one_in_each_broadcast_and_names_nobody() -> None:
    first = spectator_addresses.viewer_id(BROADCAST, "usr_somebody", KEY)
    assert first == spectator_addresses.viewer_id(BROADCAST, "usr_somebody", KEY)
    others = {
        spectator_addresses.viewer_id("brd_b", "usr_somebody", KEY),
        spectator_addresses.viewer_id(BROADCAST, "usr_other", KEY),
        spectator_addresses.viewer_id(BROADCAST, "usr_somebody", b"x" * 32),
    }
    assert len(others | {first}) == 4
    assert "somebody" not in first
