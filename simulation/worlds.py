"""Several worlds at once, each a process of its own with a database and a seed of its own.

World 0 plays the seed that was given, each other one a seed that follows from it; so how many worlds there are
changes what is played, and how fast they are does not. Knows nothing of what happens in a world.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import msgspec

from simulation.bugs import planted
from simulation.truth import Violation, require
from simulation.world import Result, play

FAST = Path("/dev/shm")  # noqa: S108
PEOPLE = 200
CRASHES = 0.01


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one world plays."""

    seed: int
    sessions: int
    people: int = PEOPLE
    crash_rate: float = CRASHES
    eventful: float = 1.0
    bug: str | None = None
    url: str | None = None
    """An empty database; without it a SQLite file in memory."""

    @property
    def command(self) -> str:
        """What plays exactly this again."""
        words = f"python -m simulation --processes 1 --seed {self.seed} --sessions {self.sessions}"
        if self.people != PEOPLE:
            words += f" --people {self.people}"
        if self.crash_rate != CRASHES:
            words += f" --crashes {self.crash_rate}"
        if self.eventful != 1.0:
            words += f" --eventful {self.eventful}"
        if self.bug is not None:
            words += f" --bug {self.bug}"
        return words


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is not as it must be in a world, and who saw it."""

    sentence: str
    invariant: str
    """The function that saw it: one of the simulation's, or of the house, which then refused by itself."""
    step: int
    """The number of the commit."""
    story: str
    """The end of the trace, the sentence, and the command that plays it again."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a world came to: a result, or what was found in it."""

    plan: Plan
    result: Result | None = None
    found: Found | None = None


def seed_of(seed: int, world: int) -> int:
    """The seed of a world: far from those that are counted up from the given one."""
    if world == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} world {world}".encode()).digest()[:4])


def split(plan: Plan, worlds: int) -> list[Plan]:
    """As many plans, with the sessions of one shared among them."""
    each, rest = divmod(plan.sessions, worlds)
    return [
        msgspec.structs.replace(plan, seed=seed_of(plan.seed, world), sessions=each + (world < rest))
        for world in range(worlds)
    ]


def play_one(plan: Plan) -> Outcome:
    """One world, in this process."""
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as directory:
        url = plan.url or f"sqlite:///{directory}/simulation.db"
        try:
            with planted(plan.bug) if plan.bug else nullcontext():
                result = play(
                    plan.seed,
                    url=url,
                    sessions=plan.sessions,
                    people=plan.people,
                    crash_rate=plan.crash_rate,
                    eventful=plan.eventful,
                )
        except Violation as violation:
            return Outcome(plan=plan, found=_found(violation, plan))
    return Outcome(plan=plan, result=result)


def play_all(plans: list[Plan]) -> Iterator[Outcome]:
    """All at once; told in their order."""
    if len(plans) == 1:
        yield play_one(plans[0])
        return
    with ProcessPoolExecutor(len(plans), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(play_one, plans)


def combined(outcomes: list[Outcome]) -> str:
    """One hash of all worlds' hashes, in the order of the worlds."""
    hashes = [outcome.result.state_hash for outcome in outcomes if outcome.result is not None]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _found(violation: Violation, plan: Plan) -> Found:
    lines = list(getattr(violation, "__notes__", []))
    if violation.__cause__ is not None:
        lines.insert(0, "".join(traceback.format_exception(violation.__cause__)))
    lines += [f"seed {plan.seed}: {violation}", f"again: {plan.command}"]
    return Found(
        sentence=str(violation), invariant=_who_saw(violation), step=violation.step, story="\n".join(lines)
    )


def _who_saw(violation: Violation) -> str:
    """The innermost function of those that led to it, ``require`` left out; where the house raised, of its own."""
    found = _innermost(violation)
    if found == f"{play.__module__}.{play.__qualname__}" and violation.__cause__ is not None:
        found = _innermost(violation.__cause__)
    return found.removeprefix("simulation.")


def _innermost(error: BaseException) -> str:
    frames = traceback.walk_tb(error.__traceback__)
    names = [f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}" for frame, _ in frames]
    return next(name for name in reversed(names) if not name.endswith(f".{require.__name__}"))
