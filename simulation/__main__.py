"""``python -m simulation``: play one seed, or many, and say what it came to."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from contextlib import nullcontext
from pathlib import Path

from simulation.bugs import BUGS, planted
from simulation.truth import Violation
from simulation.world import Result, play

FAST = Path("/dev/shm")  # noqa: S108


def main() -> int:
    """1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted up from --seed")
    parser.add_argument("--people", type=int, default=200, help="how many creators; a quarter more fans")
    parser.add_argument("--crashes", type=float, default=0.01, help="how many acts of a process end in a crash")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; without it SQLite in memory")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant a bug and see whether it is found")
    chosen = parser.parse_args()
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as directory:
            url = chosen.database_url or f"sqlite:///{directory}/simulation.db"
            try:
                with planted(chosen.bug) if chosen.bug else nullcontext():
                    result = play(
                        seed,
                        url=url,
                        sessions=chosen.sessions,
                        people=chosen.people,
                        crash_rate=chosen.crashes,
                    )
            except Violation as violation:
                if violation.__cause__ is not None:
                    traceback.print_exception(violation.__cause__)
                print("\n".join(getattr(violation, "__notes__", [])))
                print(f"seed {seed}: {violation}")
                print(f"again: python -m simulation --seed {seed} --sessions {chosen.sessions}")
                return 1
        print(words(result))
    return 0


def words(result: Result) -> str:
    """A run in a few lines."""
    return "\n".join(
        (
            f"seed {result.seed}: {result.sessions} sessions in {result.seconds:.1f} s",
            f"  {result.per_minute:,.0f} a minute, {result.per_cpu_minute:,.0f} a minute of one processor",
            f"  {result.steps} steps, {result.audits} audits, {result.virtual_days:.0f} virtual days",
            f"  ends: {_counts(result.rows)}",
            f"  transfers: {_counts(result.transfers)}",
            f"  crashes: {_counts(result.crashes)}; network: {_counts(result.network)}",
            f"  state {result.state_hash}",
        )
    )


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    sys.exit(main())
