"""Looks for planted bugs: a small world first, then larger ones of other seeds, until something is found.

All its worlds together take less than a minute of one processor, so a bug is found within that minute or escapes.
Knows nothing of what the bugs are.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import msgspec

from simulation.worlds import Found, Plan, play_one

SMALL = (Plan(seed=1, sessions=40, people=16, eventful=3.0),)
WORLDS = (
    *SMALL,
    Plan(seed=2, sessions=60, people=24, eventful=3.0),
    Plan(seed=3, sessions=100, people=40, eventful=3.0),
    Plan(seed=4, sessions=100, people=30),
    Plan(seed=5, sessions=60, people=100),
)
"""Three in which the rare is frequent, an ordinary one, and a broad one, for what needs many requests at once."""
MOST_SAID = 160


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the search for one bug."""

    bug: str
    cpu_seconds: float
    commits: int
    """How many were looked at in all."""
    found: Found | None
    """None: the bug escaped."""
    plan: Plan
    """The world that was played last."""


def look_for(bug: str, worlds: Iterable[Plan] = WORLDS, seed: int = 1) -> Finding:
    """Plant one bug and play until it is found; ``seed`` is the first world's, and the others count up from it.

    Raises RuntimeError where the plant itself fails.
    """
    began, commits = time.process_time(), 0
    for world in worlds:
        plan = msgspec.structs.replace(world, seed=world.seed + seed - 1, bug=bug)
        outcome = play_one(plan)
        found = outcome.found
        commits += found.step if found else outcome.result.steps if outcome.result else 0
        if found is not None:
            if found.invariant.startswith("bugs."):
                raise RuntimeError(f"{bug} can no longer be planted: {found.sentence}")
            break
    return Finding(bug=bug, cpu_seconds=time.process_time() - began, commits=commits, found=found, plan=plan)


def look_for_all(bugs: Iterable[str], processes: int, seed: int = 1) -> Iterator[Finding]:
    """One after the other, or as many at once as there are ``processes``; told in their order."""
    if processes == 1:
        yield from map(partial(look_for, seed=seed), bugs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(partial(look_for, seed=seed), bugs)


HEADER = f"{'bug':36} {'found':5} {'CPU s':>6} {'commits':>8}  who saw it: what it said"


def line(finding: Finding) -> str:
    """A finding below ``HEADER``."""
    found = finding.found
    said = "" if found is None else " ".join(f"{found.invariant}: {found.sentence}".split())
    word = "no" if found is None else "yes"
    return f"{finding.bug:36} {word:5} {finding.cpu_seconds:6.1f} {finding.commits:8}  {said[:MOST_SAID]}"


def summary(findings: Sequence[Finding]) -> str:
    """What it comes to."""
    caught = sum(finding.found is not None for finding in findings)
    slowest = max(finding.cpu_seconds for finding in findings)
    return f"{caught} of {len(findings)} found; the slowest took {slowest:.1f} s of one processor"
