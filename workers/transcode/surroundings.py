"""What a process that decodes what strangers send finds in its environment: an allow-list, and no secret.

The worker's own has the keys of the database, the broker, the gateway and the storage, and SECRET_KEY, from which
all others are derived. The one key that a child needs stands in its job. Knows no job and starts nothing.
"""

from __future__ import annotations

import os

_NAMES = frozenset(
    {"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LOG_LEVEL", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS"}
)
_PREFIXES = ("LC_", "PYTHON")


def for_children() -> dict[str, str]:
    """Of this process' environment: where programs and libraries are, language and time zone, how much to log."""
    return {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}


def log_level() -> str:
    """As ``models.config`` reads it, whose other settings a child is not given."""
    return os.environ.get("LOG_LEVEL", "").strip().upper() or "INFO"
