"""A loop goes on whatever its step raises, and says so once per outage."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pika.exceptions
import pytest
from sqlalchemy.exc import OperationalError

from workers import loop
from workers.loop import Loop


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FIRST_BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LONGEST_BACKOFF_SECONDS", 0.0)


def played(*outcomes: Exception | None, recover: Callable[[], None] = lambda: None) -> int:
    """Run a loop whose rounds end as given; how many rounds it made."""
    stop, rounds = threading.Event(), 0

    def step() -> float:
        nonlocal rounds
        outcome = outcomes[rounds]
        rounds += 1
        if rounds == len(outcomes):
            stop.set()
        if outcome is not None:
            raise outcome
        return 0.0

    Loop("test", step, stop, recover).run()
    return rounds


def database_gone() -> OperationalError:
    return OperationalError("select 1", {}, Exception("gone"))


def test_a_defect_is_logged_with_its_traceback_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    assert played(ZeroDivisionError("a defect"), ZeroDivisionError("again"), None) == 3
    assert caplog.text.count("loop_failed") == 2
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [pika.exceptions.AMQPConnectionError(), database_gone(), ConnectionResetError()])
def test_an_outage_is_said_once_and_its_end_too(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert played(error, error, error, None, None) == 5
    assert caplog.text.count("outage loop=test") == 1
    assert caplog.text.count("outage_over") == 1
    assert "Traceback" not in caplog.text


def test_a_recovery_that_fails_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    def recover() -> None:
        raise RuntimeError("that too")

    assert played(ConnectionResetError(), None, recover=recover) == 2
    assert "loop_recovery_failed" in caplog.text
