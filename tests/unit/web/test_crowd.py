"""How many sockets may be open at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.errors import RateLimited, Unavailable
from web.blocking import MOST_WAITING
from web.crowd import MOST_FILMS, MOST_SOCKETS, Crowd

ROOT = Path(__file__).resolve().parents[3]


def test_an_address_has_a_share_and_gets_it_back() -> None:
    crowd = Crowd(most=10, most_from_address=2)
    crowd.enter("a")
    crowd.enter("a")
    with pytest.raises(RateLimited):
        crowd.enter("a")
    crowd.enter("b")
    crowd.leave("a")
    crowd.enter("a")


def test_all_addresses_together_leave_room_for_pages() -> None:
    crowd = Crowd(most=3, most_from_address=2)
    for address in "abc":
        crowd.enter(address)
    with pytest.raises(Unavailable):
        crowd.enter("d")
    crowd.leave("b")
    crowd.enter("d")


def test_the_server_has_threads_left_when_everything_that_may_wait_does() -> None:
    threads = re.search(r"^web: .*--threads (\d+)", (ROOT / "Procfile").read_text(), re.M)
    assert threads is not None
    assert int(threads[1]) >= MOST_SOCKETS + MOST_WAITING + MOST_FILMS + 40
