"""Who answers at a media node's signaling address: what ``GET /healthz`` says there and the clock compares."""

from __future__ import annotations

import msgspec

PATH = "/healthz"


class Health(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A life of a node. That somebody answers says nothing: the address may be another process's by now."""

    node_id: str
    boot_id: str
