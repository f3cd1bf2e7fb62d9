"""Bugs to be found: each a small change to real code, of the kind that somebody might write.

``python -m simulation --bug NAME`` plants one, ``--bugs`` all of them, one after the other; the tests plant each
and expect a Violation. Names and sentences are what a reader needs.
"""

from __future__ import annotations

from simulation.bugs import messages, outside, paying, sessions, tokens
from simulation.planting import BUGS, planted

__all__ = ["BUGS", "messages", "outside", "paying", "planted", "sessions", "tokens"]
