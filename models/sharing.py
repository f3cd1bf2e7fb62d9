"""Sharing: whether a viewer's address plays on more devices at once than one person has.

Counts in memory, of devices that are keyed hashes; never stored. Must not know requests, nor who a viewer is.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
from collections import OrderedDict

REASON = "shared"
"""Why such a viewer is barred."""
MOST_DEVICES = 3
WINDOW_SECONDS = 60.0
"""A device that asked for no playlist for this long plays no more. Players ask every two seconds."""
MOST_VIEWERS = 20_000
"""Remembered at once, some 15 MB; beyond, whoever was silent for longest is forgotten."""
_HEX_DIGITS = 16


def device(address: str, agent: str, key: bytes) -> str:
    """A device as one word that leads to no address: its network (IPv4 /24, IPv6 /64) and player, keyed.

    The network, since telephones change their address within it while they play.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        network = address.encode()
    else:
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        network = parsed.packed[: 3 if parsed.version == 4 else 8]
    text = b"device\n" + network.hex().encode() + b"\n" + agent.encode("utf-8", "replace")
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:_HEX_DIGITS]


class Players:
    """Which devices play which viewer's address. Safe from any thread; ``now`` in seconds of any one clock."""

    def __init__(
        self,
        *,
        most_devices: int = MOST_DEVICES,
        window_seconds: float = WINDOW_SECONDS,
        most_viewers: int = MOST_VIEWERS,
    ) -> None:
        self._most_devices, self._window, self._most_viewers = most_devices, window_seconds, most_viewers
        self._lock = threading.Lock()
        # The longest silent first.
        self._viewers: OrderedDict[tuple[str, str], dict[str, float]] = OrderedDict()

    def too_many(self, broadcast_id: str, viewer_id: str, device: str, now: float) -> bool:
        """This device asked for a playlist: whether it is one more than may play this viewer's address."""
        viewer = (broadcast_id, viewer_id)
        with self._lock:
            devices = self._viewers.setdefault(viewer, {})
            self._viewers.move_to_end(viewer)
            if len(self._viewers) > self._most_viewers:
                self._viewers.popitem(last=False)
            for silent in [known for known, at in devices.items() if now - at >= self._window]:
                del devices[silent]
            if device not in devices and len(devices) >= self._most_devices:
                return True
            devices[device] = now
            return False

    @property
    def remembered(self) -> tuple[int, int]:
        """How many viewers, and at most how many devices of one."""
        with self._lock:
            return len(self._viewers), max(map(len, self._viewers.values()), default=0)
