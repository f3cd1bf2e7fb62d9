"""``python -m simulation``: play one seed, or many, and say what it came to."""

from __future__ import annotations

import argparse
import os
import sys
import time

from simulation import search
from simulation.bugs import BUGS
from simulation.world import Result
from simulation.worlds import CRASHES, PEOPLE, Outcome, Plan, combined, play_all, split

_NOT_WITH_BUGS = ("sessions", "seeds", "people", "crashes", "eventful", "database_url", "bug")


def main(arguments: list[str] | None = None) -> int:
    """1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted up from --seed")
    parser.add_argument("--people", type=int, default=PEOPLE, help="how many creators; a quarter more fans")
    parser.add_argument("--crashes", type=float, default=CRASHES, help="how many acts of a process end in a crash")
    parser.add_argument("--eventful", type=float, default=1.0, help="how much oftener people do what is rare")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; without it SQLite in memory")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant a bug and see whether it is found")
    parser.add_argument(
        "--processes",
        type=int,
        help="how many worlds at once, which share the sessions; one for each processor if not given",
    )
    parser.add_argument("--bugs", action="store_true", help="plant every bug, one after the other: a table")
    chosen = parser.parse_args(arguments)
    if chosen.bugs:
        given = [name for name in _NOT_WITH_BUGS if getattr(chosen, name) != parser.get_default(name)]
        if given:
            parser.error(f"--bugs looks in worlds of its own: not with --{given[0].replace('_', '-')}")
        return _looked_for_all(chosen.seed, chosen.processes or 1)
    worlds = chosen.processes or (1 if chosen.database_url else os.cpu_count() or 1)
    if not 1 <= worlds <= chosen.sessions or (chosen.database_url and worlds > 1):
        parser.error("each world needs a session and a database of its own")
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        plan = Plan(
            seed=seed,
            sessions=chosen.sessions,
            people=chosen.people,
            crash_rate=chosen.crashes,
            eventful=chosen.eventful,
            bug=chosen.bug,
            url=chosen.database_url,
        )
        if not _played(split(plan, worlds)):
            return 1
    return 0


def _looked_for_all(seed: int, processes: int) -> int:
    print(search.HEADER)
    findings = []
    for finding in search.look_for_all(BUGS, processes, seed):
        findings.append(finding)
        print(search.line(finding), flush=True)
    print(search.summary(findings))
    return int(any(finding.found is None for finding in findings))


def _played(plans: list[Plan]) -> bool:
    began = time.perf_counter()
    outcomes = []
    for world, outcome in enumerate(play_all(plans)):
        outcomes.append(outcome)
        if outcome.result is None:
            print("" if outcome.found is None else outcome.found.story, flush=True)
        elif len(plans) == 1:
            print(words(outcome.result))
        else:
            print(f"world {world} {words(outcome.result)}", flush=True)
    if len(plans) > 1:
        print(_all_words(outcomes, time.perf_counter() - began))
    return all(outcome.result is not None for outcome in outcomes)


def _all_words(outcomes: list[Outcome], seconds: float) -> str:
    clean = [outcome.result for outcome in outcomes if outcome.result is not None]
    if len(clean) < len(outcomes):
        return f"{len(outcomes) - len(clean)} of {len(outcomes)} worlds found something"
    sessions = sum(result.sessions for result in clean)
    return "\n".join(
        (
            f"{len(clean)} worlds: {sessions} sessions in {seconds:.1f} s",
            f"  {sessions * 60 / seconds:,.0f} a minute in all",
            f"  state {combined(outcomes)}",
        )
    )


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
