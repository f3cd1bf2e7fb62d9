"""Bugs to be found: each a small change to real code, of the kind that somebody might write.

``python -m simulation --bug NAME`` plants one, ``--bugs`` all of them, one after the other; the tests plant each
and expect a Violation. Names and sentences are what a reader needs.
"""

from __future__ import annotations

from simulation.bugs import battles, messages, outside, paying, sales, sessions, tokens
from simulation.planting import BUGS, planted

__all__ = ["BUGS", "battles", "messages", "outside", "paying", "planted", "sales", "sessions", "tokens"]
