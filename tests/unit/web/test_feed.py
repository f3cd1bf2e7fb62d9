"""The hub's part of the event feed, without sockets: who gets what, and what happens to a slow one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.db import Database
from web.events import MOST_QUEUED, Feed, Hub
from web.metrics import Metrics


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def feed(woken: threading.Event) -> Feed:
    return Feed("usr_a", woken.set)


def test_its_thread_is_woken_by_a_message_by_an_overflow_and_by_a_recheck(
    feed: Feed, woken: threading.Event
) -> None:
    def wakes() -> bool:
        was, _ = woken.is_set(), woken.clear()
        return was

    feed.offer("1")
    assert wakes()
    feed.recheck()
    assert wakes()
    while feed.offer("more"):
        assert wakes()
    assert wakes()


def test_messages_come_out_in_order_and_once(feed: Feed) -> None:
    feed.offer("1")
    feed.offer("2")

    assert feed.take() == (["1", "2"], False, False)
    assert feed.take() == ([], False, False)


def test_a_feed_that_does_not_keep_up_overflows_and_takes_nothing_more(feed: Feed) -> None:
    taken = [feed.offer(str(number)) for number in range(MOST_QUEUED + 50)]

    assert taken.index(False) == MOST_QUEUED
    waiting, overflowed, _ = feed.take()
    assert len(waiting) == MOST_QUEUED
    assert overflowed


def test_a_recheck_is_asked_for_once(feed: Feed) -> None:
    feed.recheck()

    assert feed.take() == ([], False, True)
    assert feed.take() == ([], False, False)


def unheard() -> None:
    """The wish to wake a thread that is not there."""


class QuietHub(Hub):
    """A hub whose threads stay asleep."""

    def _ensure_running(self) -> None:
        self._boot_id = "boot_test"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    database = Database(f"sqlite:///{tmp_path / 'none.db'}")
    yield QuietHub("amqp://nowhere", database, Metrics())
    database.close()


def test_a_notification_reaches_each_socket_of_its_person_alone(hub: Hub) -> None:
    first, second, other = (hub.subscribe(user_id, unheard) for user_id in ("usr_a", "usr_a", "usr_b"))
    for feed in (first, second, other):
        assert '"RESYNC"' in feed.take()[0][0]

    hub.deliver("user.usr_a", b'{"type":"TIP"}')

    assert [feed.take()[0] for feed in (first, second, other)] == [['{"type":"TIP"}'], ['{"type":"TIP"}'], []]
    for feed in (first, second, other):
        hub.unsubscribe(feed)


def test_what_is_for_all_reaches_all(hub: Hub) -> None:
    feeds = [hub.subscribe("usr_a", unheard), hub.subscribe("usr_b", unheard)]
    for feed in feeds:
        feed.take()

    hub.deliver("all", b"{}")

    assert [feed.take()[0] for feed in feeds] == [["{}"], ["{}"]]
    for feed in feeds:
        hub.unsubscribe(feed)


def test_nothing_reaches_a_socket_that_left(hub: Hub) -> None:
    feed = hub.subscribe("usr_a", unheard)
    hub.unsubscribe(feed)

    hub.deliver("user.usr_a", b"{}")
    hub.deliver("all", b"{}")

    assert hub._feeds == {}
