"""Dramatiq middleware: the last failure of a message is noted in the database before its letter leaves.

The letter in the .XQ has no room for the last traceback. Best effort: with the database away the letter
arrives without it.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from models import log
from models.clock import utc_now
from models.db import Database
from models.services import dead_letters

MOST_FRAMES = 60


class Failures(Middleware):
    """Belongs before SafeRetries in the list: after a message Dramatiq asks from the last to the first."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Called by Dramatiq after each attempt; the message is rejected only afterwards."""
        if exception is None or not message.failed:
            return
        # SafeRetries has counted this attempt already, except for what is never retried.
        retries = message.options.get("retries", 0)
        said = traceback.format_exception(exception, limit=MOST_FRAMES)
        try:
            self._db.run(
                lambda tx: dead_letters.note_failure(
                    tx,
                    message.message_id,
                    attempts=max(1, int(retries)),
                    error=traceback.format_exception_only(exception)[-1],
                    traceback="".join(said),
                    now=utc_now(),
                )
            )
        except Exception as error:
            log.event(
                "failure_not_noted",
                level=logging.WARNING,
                message_id=message.message_id,
                error=type(error).__name__,
            )
