"""When the collector of cycles looks through the node's memory: seldom, and through little.

A full collection looks at every object that could be part of a cycle, and no other line of Python runs meanwhile:
with the native engine the books wait, without it every packet. What is there when the node starts is left out for
good; the rest is looked through in full once in a while, as connections that have ended leave cycles behind.
"""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 5, 4)
"""New objects, collections of the youngest generation, and of the middle one, before the next is looked at.

Packets make none; somebody who joins makes some 3,500 that stay, and leaves them as cycles: so all is looked
through once in some sixty joins. Once in some thousands, a full room held 790 MiB after 1,100 of them."""


def settle() -> None:
    """Call it once all is imported and started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
