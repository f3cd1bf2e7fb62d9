"""Who may speak in our log, and how."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from models import log


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What a process logs; afterwards the root logger is as pytest wants it."""
    root, text = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    log.configure("test")
    only = root.handlers[0]
    assert isinstance(only, logging.StreamHandler)
    only.setStream(text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)


def test_libraries_that_tell_addresses_are_silent(said: io.StringIO) -> None:
    logging.getLogger("pika.adapters.utils.io_services_utils").error("laddr=('192.0.2.7', 5672)")
    for name in ("aioice.ice", "aiortc", "websockets.server"):
        logging.getLogger(name).warning("from 192.0.2.7")
    assert said.getvalue() == ""


def test_an_event_is_one_line_whatever_its_values_are(said: io.StringIO) -> None:
    log.event("renamed", title="two\nlines", reason=None)
    assert said.getvalue().splitlines()[0].endswith("test INFO renamed title='two\\nlines'")
    assert said.getvalue().count("\n") == 1
