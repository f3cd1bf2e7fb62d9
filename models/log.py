"""One line per event: a word, then ``key=value``; one ``cause_id`` follows a wish to the ledger.

Never a token, an SDP, a network address or an e-mail.
"""

from __future__ import annotations

import logging
import sys

Value = str | int | float | bool | None


def configure(process: str, level: str = "INFO") -> None:
    """Log to standard error, each line with time, process and level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s {process} %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These two log addresses and whole SDPs below WARNING.
    for chatty in ("aioice", "aiortc", "websockets"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    # Says each lost connection five times, with tracebacks and its address; we say it once, without.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def event(word: str, level: int = logging.INFO, **values: Value) -> None:
    """Say that something happened: ``event("session_settled", session_id=…, cause_id=…)``."""
    logging.getLogger("greenroom").log(level, "%s", _line(word, values))


def failure(word: str, **values: Value) -> None:
    """An unexpected exception, with its traceback; call it inside ``except``."""
    logging.getLogger("greenroom").exception("%s", _line(word, values))


def _line(word: str, values: dict[str, Value]) -> str:
    return " ".join([word, *(f"{key}={_plain(value)}" for key, value in values.items() if value is not None)])


def _plain(value: Value) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)
