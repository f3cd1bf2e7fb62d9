"""What nginx says of who plays: counted, and the viewer barred whose address plays on too many devices.

nginx sends a syslog datagram for each playlist that it served (deploy/nginx): broadcast, viewer and device, the
last hashed before it left nginx. Kept in bounded memory, never stored. Must not know addresses of clients.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from pathlib import Path

from models import log, sharing
from models.clock import utc_now
from models.db import Database
from models.services import spectating
from models.sharing import Players

POLL_SECONDS = 0.5
_LONGEST_BYTES = 1_024
_SAID = re.compile(rb": (brd_[A-Za-z0-9_-]{1,60}) ([a-z2-7]{20}) ([0-9a-f]{16})")


class PlayerLog:
    """Reads one socket. ``step`` is called in a loop, from one thread."""

    def __init__(self, db: Database, path: Path) -> None:
        self._db, self._path = db, path
        self._players = Players()
        self._socket: socket.socket | None = None

    def step(self) -> float:
        """Take what has come, or wait a moment for it; 0: again at once. Raises OSError when it cannot listen."""
        if self._socket is None:
            self._socket = self._listen()
        try:
            said = _SAID.search(self._socket.recv(_LONGEST_BYTES))
        except TimeoutError:
            return 0.0
        if said is None:
            log.event("player_log_unintelligible", level=logging.WARNING)
            return 0.0
        broadcast_id, viewer_id, device = (word.decode() for word in said.groups())
        if self._players.too_many(broadcast_id, viewer_id, device, time.monotonic()):
            self._db.run(lambda tx: spectating.bar(tx, broadcast_id, viewer_id, sharing.REASON, utc_now()))
        return 0.0

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.settimeout(POLL_SECONDS)
        made.bind(str(self._path))
        # nginx's workers are another user; who may enter the directory is the operator's to say.
        self._path.chmod(0o666)
        return made
