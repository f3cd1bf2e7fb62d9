"""The simulation on a short seed: clean without a bug, the same twice, and it finds what is planted.

The long runs (more seeds, every bug) are proofs: ``make prove``.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from models import splitting
from ops.postgres import PostgresServer
from simulation.__main__ import main
from simulation.battles import shares_of
from simulation.bugs import BUGS, planted
from simulation.search import SMALL, line, look_for
from simulation.world import Result, play
from simulation.worlds import Plan, combined, play_all, play_one, split

SHORT = 12
PEOPLE = 10
# What a small world finds in its first moments; ``make prove`` looks for all of them.
QUICK = (
    "commission_rounded_up",
    "forgotten_release",
    "hold_without_a_lot",
    "pass_without_a_picture",
    "settle_twice",
    "side_tip_given_again",
    "tip_without_commission",
    "webhook_credits_again",
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database of its own, thrown away."""
    return f"sqlite:///{tmp_path / 'simulation.db'}"


def another(tmp_path: Path, name: str) -> str:
    return f"sqlite:///{tmp_path / name}.db"


def run(url: str, seed: int, sessions: int = SHORT, people: int = PEOPLE) -> Result:
    return play(seed, url=url, sessions=sessions, people=people, crash_rate=0.03)


def test_a_short_seed_is_clean_and_plays_the_whole_money_path(url: str, seed: int) -> None:
    # when
    result = run(url, seed)
    # then: sessions ended, crashes happened, tokens were bought, held, settled, cleared and paid out
    assert result.sessions >= SHORT
    assert sum(result.crashes.values()) > 0
    assert {"top_up", "hold", "release", "settle", "clear"} <= result.transfers.keys()
    assert result.audits > 0


def test_the_same_seed_twice_is_the_same_to_the_last_row(tmp_path: Path, seed: int) -> None:
    first = run(another(tmp_path, "first"), seed, sessions=2, people=4)
    second = run(another(tmp_path, "second"), seed, sessions=2, people=4)
    other = run(another(tmp_path, "other"), seed + 1, sessions=2, people=4)
    assert first.state_hash == second.state_hash
    assert first.steps == second.steps
    assert first.state_hash != other.state_hash


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_and_its_trace_is_told(name: str) -> None:
    finding = look_for(name, SMALL)
    assert finding.found is not None
    assert finding.found.invariant in line(finding)
    assert f"step {finding.found.step}\n" in finding.found.story


@pytest.mark.parametrize("name", BUGS)
def test_every_bug_can_be_planted_and_is_taken_back(name: str) -> None:
    with planted(name) as patches:
        replaced = list(patches.replaced)
        assert all(getattr(owner, attribute) is not real for owner, attribute, real in replaced)
    assert replaced
    assert all(getattr(owner, attribute) is real for owner, attribute, real in replaced)


def test_what_is_found_is_found_again_exactly_by_the_command_that_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # given
    plan = Plan(seed=3, sessions=20, people=6, crash_rate=0.03, eventful=2.0, bug="forgotten_release")
    found = play_one(plan).found
    assert found is not None
    command = found.story.splitlines()[-1]
    # when
    code = main(command.removeprefix("again: python -m simulation ").split())
    # then: the same commit, the same sentence, the same last eighty things that happened
    assert code == 1
    assert capsys.readouterr().out == f"{found.story}\n"


@pytest.mark.prove
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("number", range(5))
def test_more_seeds_are_clean(number: int, url: str, seed: int) -> None:
    assert run(url, seed + 100 + number, sessions=300, people=100).sessions >= 300


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_every_planted_bug_is_found(name: str) -> None:
    """The worlds that it may be looked for in take less than a minute of one processor."""
    assert look_for(name).found is not None


@pytest.mark.prove
@pytest.mark.timeout(1_200)
def test_postgresql_is_clean_too(postgres: PostgresServer, seed: int) -> None:
    url = postgres.create("simulation")
    try:
        assert run(url, seed, sessions=40, people=20).sessions >= 40
    finally:
        postgres.drop("simulation")


def test_two_pieces_of_work_split_a_pot_alike(seed: int) -> None:
    random = Random(seed)
    for _ in range(500):
        scores = [random.choice((0, 5, 5, 17, random.randrange(1_000))) for _ in range(random.randrange(1, 5))]
        pot, percent = random.randrange(10_000), random.choice((None, 50, 51, 67, 99, 100))
        assert tuple(shares_of(pot, scores, percent)) == splitting.split(pot, scores, percent)


def test_worlds_at_once_are_the_same_twice_and_world_zero_is_the_seed_alone() -> None:
    # given
    plans = split(Plan(seed=7, sessions=3, people=4), 2)
    assert [plan.sessions for plan in plans] == [2, 1]
    assert plans[0].seed == 7
    assert plans[1].seed not in (7, 8)
    # when
    first, second = list(play_all(plans)), list(play_all(plans))
    # then
    assert all(outcome.result is not None for outcome in first)
    assert combined(first) == combined(second)
    alone = play_one(plans[0])
    assert combined([alone]) == combined(first[:1])


def test_the_search_for_bugs_takes_no_world_of_yours(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("--eventful", "--people", "--sessions", "--crashes", "--seeds", "--database-url"):
        with pytest.raises(SystemExit) as refused:
            main(["--bugs", "--seed", "11", given, "7"])
        assert refused.value.code == 2
        assert f"not with {given}" in capsys.readouterr().err


def test_what_a_world_finds_is_told_with_the_command_that_plays_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # when
    code = main(["--processes", "2", "--sessions", "80", "--people", "10", "--bug", "settle_twice"])
    # then
    said = capsys.readouterr().out
    assert code == 1
    again = "again: python -m simulation --processes 1 --seed 1 --sessions 40 --people 10 --bug settle_twice"
    assert again in said
    assert "step " in said
