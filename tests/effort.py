"""How hard tests try: all that is written in ``make prove``, a part of it in ``make test``."""

from __future__ import annotations

import os

PROVING = "PROVING"
"""Set in the environment by ``--prove``, so that modules know it when they are imported."""


def examples(most: int) -> int:
    """Of ``most`` examples of a property, so many are tried now."""
    return most if os.environ.get(PROVING) else max(3, most // 3)
