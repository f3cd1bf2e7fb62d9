"""Battles: entering, tipping a side, ending; where every token is at each moment; on both databases."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from arena import Arena
from patrons import freeze, refused
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from stage import Stage

from models import ledger
from models.battles import BattleRow
from models.db import Database
from models.errors import DomainError
from models.messages import events
from models.messages.commands import CloseRoom, OpenRoom
from models.services import (
    accounts,
    battle_clock,
    battle_views,
    bookings,
    moderation,
    rooms,
    spending,
    streams,
    termination,
)
from models.services.bookings import NewSlot
from models.services.moderation import By
from models.streams import MediaNodeRow


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


# --- the whole way -----------------------------------------------------------------------------------


def test_a_battle_from_beginning_to_end(stage: Stage) -> None:
    # given two creators who paid 50 each, and are there
    arena = Arena(stage, winner_percent=70).running()
    north, south = arena.creators
    assert [arena.wallet(creator) for creator in arena.creators] == [950, 950]
    fan, other = stage.fan(1_000), stage.fan(1_000)
    # when fans tip sides
    arena.tip(fan, north, 300, message=" Go \t North ")
    arena.tip(other, south, 101)
    view = arena.tip(fan, south, 100, "another")
    # then everybody is told, and the pot has it all
    assert view.pot == 601
    assert {side.handle: side.score for side in view.sides} == {north.handle: 300, south.handle: 201}
    assert view.your_tips == 400
    first = stage.told(None, "BATTLE_TIP")[0]
    assert (first["handle"], first["amount"], first["score"], first["pot"]) == (fan.handle, 300, 300, 400)
    assert (first["message"], fan.user_id in str(first)) == ("Go North", False)
    stage.audit()
    # when the time is over by the clock
    stage.later(minutes=10)
    arena.clock()
    # then the winner has 70 %, less the commission: 601 → 421 and 180
    view = arena.view
    assert (view.status, view.outcome, view.end_reason, view.pot) == ("ended", "won", "time", 601)
    assert [(side.share, side.earned) for side in view.sides] == [(421, 337), (180, 144)]
    assert [arena.earned(creator) for creator in arena.creators] == [337, 144]
    assert stage.run(lambda tx: ledger.balance(tx, "fees")) == 120
    assert [type(command) for command in stage.commands()][-1] is CloseRoom
    assert stage.told(None, "BATTLE_CHANGED")[-1]["outcome"] == "won"
    stage.audit()
    # and after the clearing period it is theirs
    stage.later(days=31)
    stage.run(lambda tx: ledger.clear_due(tx, stage.now))
    assert [stage.balances(creator)["earnings"] for creator in arena.creators] == [337, 144]
    stage.audit()


def test_nothing_ends_twice(stage: Stage) -> None:
    arena = Arena(stage).running()
    arena.tip(stage.fan(), arena.creators[0])
    assert arena.end().outcome == "won"
    earned = [arena.earned(creator) for creator in arena.creators]
    assert arena.end().outcome == "won"
    stage.later(minutes=20)
    arena.clock()
    assert [arena.earned(creator) for creator in arena.creators] == earned
    refused("BATTLE_CLOSED", arena.tip, stage.fan(), arena.creators[0], key="late")
    refused("BATTLE_CLOSED", arena.leave, arena.creators[1])
    refused("BATTLE_CLOSED", arena.enter, stage.person("creator", tokens=50))
    refused("BATTLE_CLOSED", arena.start)
    stage.audit()


def test_equal_shares_and_a_free_entry(stage: Stage) -> None:
    arena = Arena(stage, sides=3, entry_fee=0, winner_percent=None).running()
    arena.tip(stage.fan(), arena.creators[1], 100)
    arena.end()
    assert [side.share for side in arena.view.sides] == [33, 34, 33]
    assert [arena.wallet(creator) for creator in arena.creators] == [1_000] * 3
    stage.audit()


def test_a_draw_shares_equally(stage: Stage) -> None:
    arena = Arena(stage, winner_percent=100).running()
    for key, creator in enumerate(arena.creators):
        arena.tip(stage.fan(), creator, 75, str(key))
    assert arena.end().outcome == "draw"
    assert [side.share for side in arena.view.sides] == [125, 125]
    stage.audit()


def test_without_a_tip_nobody_has_won_and_all_comes_back(stage: Stage) -> None:
    arena = Arena(stage).running()
    arena.end()
    view = arena.view
    assert (view.outcome, view.pot) == ("returned", 100)
    assert [arena.wallet(creator) for creator in arena.creators] == [1_000, 1_000]
    assert stage.run(lambda tx: ledger.balance(tx, "fees")) == 0
    stage.audit()


# --- before it begins --------------------------------------------------------------------------------


def test_one_that_never_begins_returns_everything(stage: Stage) -> None:
    arena = Arena(stage, sides=1)
    fan = stage.fan(1_000)
    arena.tip(fan, arena.creators[0], 200)
    stage.audit()
    stage.later(minutes=30)
    arena.clock()
    view = arena.view
    assert (view.status, view.outcome, view.end_reason, view.pot) == ("cancelled", "returned", "too_few", 250)
    assert (arena.wallet(arena.creators[0]), arena.wallet(fan)) == (1_000, 1_000)
    assert stage.told(fan, "BALANCE_CHANGED")[-1]["available"] == 1_000
    stage.audit()


def test_leaving_and_coming_back(stage: Stage) -> None:
    arena = Arena(stage)
    host, guest = arena.creators
    fan = stage.fan(1_000)
    arena.tip(fan, guest, 200)
    # when the guest leaves, twice: the fee and the tips for that side are back
    assert [len(arena.leave(guest).sides) for _ in range(2)] == [1, 1]
    assert (arena.wallet(guest), arena.wallet(fan)) == (1_000, 1_000)
    refused("SIDE_GONE", arena.tip, fan, guest, key="too late")
    stage.audit()
    # and may come back, once more for the fee; entering twice pays once
    assert [arena.enter(guest).pot for _ in range(2)] == [100, 100]
    arena.tip(fan, guest, 70, "again")
    stage.audit()
    # when the host leaves, it is off
    assert (arena.leave(host).status, arena.leave(host).end_reason) == ("cancelled", "withdrawn")
    assert [arena.wallet(person) for person in (host, guest, fan)] == [1_000] * 3
    refused("NOT_FOUND", arena.leave, stage.creator())
    stage.audit()


def test_who_may_open_and_enter(stage: Stage) -> None:
    arena = Arena(stage, most_creators=2, sides=1)
    host = arena.creators[0]
    refused("IN_BATTLE", arena.open, host)
    refused("NOT_A_CREATOR", arena.enter, stage.fan())
    refused("NOT_A_CREATOR", arena.open, stage.fan())
    assert refused("INSUFFICIENT_TOKENS", arena.enter, stage.creator()).fields["required"] == 50
    rival = stage.person("creator", tokens=60)
    assert refused("PRICE_CHANGED", arena.enter, rival, 49).fields["total_cost"] == 50
    stage.run(lambda tx: accounts.block(tx, host.user_id, rival.user_id, stage.now))
    refused("BLOCKED", arena.enter, rival)
    stage.run(lambda tx: accounts.unblock(tx, host.user_id, rival.user_id))
    freeze(stage, rival)
    refused("SPENDING_FROZEN", arena.enter, rival)
    second, third = stage.person("creator", tokens=60), stage.person("creator", tokens=60)
    refused("TOO_FEW_CREATORS", arena.start)
    arena.enter(second)
    refused("BATTLE_FULL", arena.enter, third)
    refused("NOT_FOUND", arena.start, second)
    refused("NOT_FOUND", arena.end, second)
    refused("BATTLE_CLOSED", arena.end)
    assert [arena.wallet(person) for person in (rival, second, third)] == [60, 10, 60]
    stage.audit()


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("title", {"title": " "}),
        ("title", {"title": "x" * 81}),
        ("title", {"title": "a\u202eb"}),
        ("entryFee", {"entry_fee": -1}),
        ("entryFee", {"entry_fee": 100_001}),
        ("winnerPercent", {"winner_percent": 49}),
        ("winnerPercent", {"winner_percent": 101}),
        ("mostCreators", {"most_creators": 1}),
        ("mostCreators", {"most_creators": 5}),
        ("limitMinutes", {"limit_minutes": 0}),
        ("limitMinutes", {"limit_minutes": 121}),
    ],
)
def test_what_cannot_be_opened(stage: Stage, field: str, terms: dict[str, Any]) -> None:
    creator = stage.person("creator", tokens=100)
    arena = Arena.__new__(Arena)
    arena.stage = stage
    assert refused("INVALID", arena.open, creator, **terms).fields["field"] == field


def test_it_begins_within_seven_days_and_in_future(stage: Stage) -> None:
    creator = stage.person("creator", tokens=100)
    arena = Arena.__new__(Arena)
    arena.stage = stage
    for begins_at in (stage.now, stage.now + timedelta(days=7, seconds=1)):
        assert refused("INVALID", arena.open, creator, begins_at=begins_at).fields["field"] == "beginsAt"


# --- what else a creator does ------------------------------------------------------------------------


def test_public_streams_end_when_it_begins_and_none_begins_meanwhile(stage: Stage) -> None:
    arena = Arena(stage)
    host, guest = arena.creators
    stream = stage.go_live(host)
    # on a node that has room for the battle only once the public room is closed
    stage.run(lambda tx: tx.execute(update(MediaNodeRow).values(capacity=4)))
    arena.start()
    assert stage.run(lambda tx: streams.stream_of(tx, host.user_id)) is None
    assert stage.told(None, "STREAM_ENDED")[-1]["streamId"] == stream.stream_id
    for creator in (host, guest):
        assert stage.told(creator, "BATTLE_BEGUN")[-1]["battleId"] == arena.battle_id
    refused("IN_BATTLE", stage.go_live, guest)
    (opened,) = [command for command in stage.commands(OpenRoom) if command.room.room_id == arena.room_id]
    assert opened.room.publishers == (host.user_id, guest.user_id)
    arena.comes(host, guest)
    arena.end()
    stage.go_live(guest)


def test_who_is_in_a_private_stream_stays_there(stage: Stage) -> None:
    call = stage.running(minutes=5)
    stage.run(lambda tx: stage._buy(tx, call.creator.user_id, 500, "pur_for_the_fee"))
    arena = Arena(stage, sides=1)
    arena.enter(call.creator)
    arena.start()
    assert stage.session(call.session_id).status == "live"
    # and is away from the battle meanwhile, which is over then; nobody was there for two
    arena.comes(arena.creators[0])
    stage.later(minutes=1)
    arena.clock()
    assert (arena.view.outcome, arena.view.end_reason) == ("returned", "deserted")
    assert arena.wallet(call.creator) == 500
    stage.audit()


def test_a_booking_and_a_battle_keep_apart(stage: Stage) -> None:
    # given a booking in the time of the battle
    arena = Arena(stage, sides=1, most_creators=2)
    creator, fan = stage.person("creator", tokens=100), stage.fan(5_000)
    wanted = NewSlot(starts_at=(stage.now + timedelta(minutes=33)).replace(second=0, microsecond=0), minutes=10)
    (slot,) = stage.run(
        lambda tx: bookings.open_slots(tx, creator, [wanted], now=stage.now, minute_ms=60_000)
    )

    def book() -> Any:
        return stage.run(
            lambda tx: bookings.book(
                tx, fan, slot.slot_id, now=stage.now, settings=stage.settings, cause_id="test"
            )
        )

    booking = book()
    refused("CREATOR_UNAVAILABLE", arena.enter, creator)
    # and the other way round
    stage.run(lambda tx: bookings.cancel(tx, booking.booking_id, by_person_id=creator.user_id, now=stage.now))
    arena.enter(creator)
    assert stage.run(lambda tx: bookings.next_start(tx, creator.user_id, stage.now)) == arena.view.begins_at


# --- while it runs -----------------------------------------------------------------------------------


def test_who_may_tip(stage: Stage) -> None:
    arena = Arena(stage).running()
    north = arena.creators[0]
    refused("INVALID", arena.tip, stage.fan(), north, 4)
    refused("NOT_A_FAN", arena.tip, stage.creator(), north)
    refused("NOT_FOUND", arena.tip, stage.fan(), stage.creator())
    both = stage.person("creator", "fan", tokens=500)
    arena_of_both = Arena(stage, sides=1)
    arena_of_both.enter(both)
    refused("OWN_STREAM", arena_of_both.tip, both, arena_of_both.creators[0])
    assert refused("INSUFFICIENT_TOKENS", arena.tip, stage.fan(99), north).fields["balance"] == 99
    fan = stage.fan(1_000)
    stage.run(lambda tx: accounts.block(tx, north.user_id, fan.user_id, stage.now))
    refused("BLOCKED", arena.tip, fan, north)
    refused("BLOCKED", stage.run, lambda tx: rooms.admission(
        tx, person=fan, room_id=arena.room_id, role="spectator", now=stage.now))  # fmt: skip
    stage.run(lambda tx: accounts.unblock(tx, north.user_id, fan.user_id))
    stage.run(lambda tx: spending.set_cap(tx, fan.user_id, 150, stage.now))
    arena.tip(fan, north, 100)
    assert refused("SPENDING_CAP", arena.tip, fan, north, 51, "over").fields["spent"] == 100
    assert arena.wallet(fan) == 900
    stage.audit()


def test_the_same_press_is_the_same_tip(stage: Stage) -> None:
    arena = Arena(stage).running()
    fan = stage.fan(1_000)
    assert [arena.tip(fan, arena.creators[0]).pot for _ in range(2)] == [200, 200]
    refused("IDEMPOTENCY_KEY_REUSED", arena.tip, fan, arena.creators[1])
    assert len(stage.told(None, "BATTLE_TIP")) == 1
    # also after the end
    arena.end()
    assert arena.tip(fan, arena.creators[0]).outcome == "won"
    assert arena.wallet(fan) == 900


def test_no_tip_at_the_very_end(stage: Stage) -> None:
    arena = Arena(stage).running()
    stage.later(minutes=10)
    refused("BATTLE_CLOSED", arena.tip, stage.fan(), arena.creators[0])


def test_who_is_away_for_a_minute_is_out_and_the_other_has_won(stage: Stage) -> None:
    arena = Arena(stage).running()
    north = arena.creators[0]
    arena.tip(stage.fan(), north, 300)
    arena.goes(north)
    stage.later(seconds=59)
    arena.clock()
    assert [side.present for side in arena.view.sides] == [False, True]
    # when back in time, nothing happened
    arena.comes(north)
    arena.goes(north)
    stage.later(seconds=61)
    arena.clock()
    view = arena.view
    assert (view.outcome, view.end_reason) == ("walkover", "deserted")
    assert [(side.status, side.share) for side in view.sides] == [("gone", 0), ("done", 400)]
    stage.audit()


def test_who_never_comes_has_no_share_and_tips_for_them_go_back(stage: Stage) -> None:
    arena = Arena(stage, sides=3, winner_percent=100)
    fan = stage.fan(1_000)
    arena.start()
    arena.comes(*arena.creators[:2])
    arena.tip(fan, arena.creators[2], 100)
    arena.tip(fan, arena.creators[1], 50, "second")
    stage.later(minutes=1)
    arena.clock()
    assert arena.wallet(fan) == 950
    assert [side.status for side in arena.view.sides] == ["in", "in", "gone"]
    refused("SIDE_GONE", arena.tip, fan, arena.creators[2], key="third")
    arena.end()
    # the fee of who did not come is back: the host began before the time that was told
    assert [side.share for side in arena.view.sides] == [0, 150, 0]
    stage.audit()


def test_nobody_wins_by_a_restart_of_the_media_node(stage: Stage) -> None:
    arena = Arena(stage).running()
    north, south = arena.creators
    fan = stage.fan(1_000)
    arena.tip(fan, north, 300)
    # given: one leaves, then the node dies under the other
    arena.goes(north)
    stage.later(seconds=30)
    stage.node_ready("boot_2")
    stage.later(seconds=31)
    arena.clock()
    # then the one is out, and the other, who may come back, has not won yet
    assert [side.status for side in arena.view.sides] == ["gone", "in"]
    # when nobody comes back at all, everything does
    stage.later(seconds=30)
    arena.clock()
    assert arena.view.outcome == "returned"
    assert [arena.wallet(person) for person in (north, south, fan)] == [1_000] * 3
    stage.audit()


def test_an_old_word_of_the_node_says_nothing(stage: Stage) -> None:
    arena = Arena(stage).running()
    stage.later(seconds=5)
    arena.goes(arena.creators[0])
    at = (stage.now - timedelta(seconds=3)).isoformat()
    user_id = arena.creators[0].user_id
    stage.event(events.ParticipantJoined, room_id=arena.room_id, user_id=user_id, viewers=0, at=at)
    assert [side.present for side in arena.view.sides] == [False, True]


def test_somebody_cut_out_is_out_of_the_battle(stage: Stage) -> None:
    arena = Arena(stage, sides=3).running()
    host, cutter = arena.creators[0], stage.admin()
    stage.run(
        lambda tx: termination.terminate(
            tx,
            room_id=arena.room_id,
            user_id=host.user_id,
            reason="MODERATION",
            label_by=cutter,
            now=stage.now,
        )
    )
    assert [side.status for side in arena.view.sides] == ["gone", "in", "in"]
    refused("BARRED", stage.run, lambda tx: rooms.admission(
        tx, person=host, room_id=arena.room_id, role="participant", now=stage.now))  # fmt: skip
    # and so is who is locked out
    admin = cutter.person
    assert admin is not None
    by = By(admin_id=admin.user_id, reason="test", cause_id="test", now=stage.now)
    stage.run(lambda tx: moderation.lock(tx, arena.creators[1].user_id, by))
    assert [side.status for side in arena.view.sides] == ["gone", "gone", "in"]
    arena.clock()
    assert arena.view.status == "ended"
    stage.audit()


def test_who_publishes_and_who_watches(stage: Stage) -> None:
    arena = Arena(stage).running()
    room_id = arena.room_id
    found = [
        stage.run(lambda tx, person=person: rooms.admission(  # type: ignore[misc]
            tx, person=person, room_id=room_id, role="participant", now=stage.now)).publish
        for person in (*arena.creators, stage.fan(), stage.creator())
    ]  # fmt: skip
    assert found == [True, True, False, False]
    specs = stage.run(lambda tx: rooms.public_specs(tx, "media-1"))
    assert [spec.room_id for spec in specs] == [room_id]


# --- bad payments ------------------------------------------------------------------------------------


def purchase_of(stage: Stage, fan: Any) -> str:
    """The id of the lot that the fan's tokens came with."""
    return f"pur_{fan.handle}"


def test_tokens_of_a_bad_payment_leave_the_pot_and_count_no_more(stage: Stage) -> None:
    arena = Arena(stage).running()
    bad, good = stage.fan(500), stage.fan(500)
    arena.tip(bad, arena.creators[0], 300)
    arena.tip(good, arena.creators[1], 100)
    # when the payment behind a tip turns bad and nobody has told the battle
    stage.run(lambda tx: ledger.mark_lot_bad(tx, purchase_of(stage, bad), cause_id="test", now=stage.now))
    stage.audit()
    arena.end()
    # then nobody was paid with it
    assert [side.score for side in arena.view.sides] == [0, 100]
    assert [side.share for side in arena.view.sides] == [60, 140]
    assert stage.balances(bad)["wallet"] == 0
    assert stage.run(lambda tx: ledger.balance(tx, "gateway:sandbox")) == -(2_000 + 500)
    stage.audit()


def test_whoever_is_frozen_has_nothing_at_stake(stage: Stage) -> None:
    arena = Arena(stage, sides=3)
    fan, guest = stage.fan(1_000), arena.creators[2]
    arena.tip(fan, arena.creators[0], 300)
    admin = stage.admin().person
    assert admin is not None
    by = By(admin_id=admin.user_id, reason="test", cause_id="test", now=stage.now)
    stage.run(lambda tx: moderation.freeze(tx, fan.user_id, by))
    assert (arena.wallet(fan), arena.view.pot) == (1_000, 150)
    # also what a creator paid, who is out of it before it has begun
    stage.run(lambda tx: moderation.freeze(tx, guest.user_id, by))
    assert (arena.wallet(guest), len(arena.view.sides)) == (1_000, 2)
    # and goes on with nothing in the pot while it runs
    arena.creators.remove(guest)
    arena.running()
    stage.run(lambda tx: moderation.freeze(tx, arena.creators[1].user_id, by))
    assert (arena.wallet(arena.creators[1]), arena.view.pot) == (1_000, 50)
    stage.audit()
    # one of a host's that has not begun is off
    other = Arena(stage)
    stage.run(lambda tx: moderation.freeze(tx, other.creators[0].user_id, by))
    assert (other.view.status, other.wallet(other.creators[1])) == ("cancelled", 1_000)
    stage.audit()


def test_a_dispute_after_the_end_finds_who_was_paid(stage: Stage) -> None:
    arena = Arena(stage, entry_fee=0, winner_percent=100).running()
    fan = stage.fan(500)
    arena.tip(fan, arena.creators[0], 300)
    arena.end()
    assert arena.earned(arena.creators[0]) == 240
    # when
    stage.run(lambda tx: ledger.mark_lot_bad(tx, purchase_of(stage, fan), cause_id="test", now=stage.now))
    # then pending earnings and their fee gave it back
    assert (arena.earned(arena.creators[0]), stage.run(lambda tx: ledger.balance(tx, "fees"))) == (0, 0)
    stage.audit()
    stage.run(lambda tx: ledger.lot_good_again(tx, purchase_of(stage, fan), cause_id="test", now=stage.now))
    assert arena.earned(arena.creators[0]) == 240
    stage.audit()


def test_gift_tokens_in_a_pot_never_pay_out(stage: Stage) -> None:
    arena = Arena(stage, entry_fee=0, winner_percent=100).running()
    fan = stage.fan(0)
    stage.run(lambda tx: ledger.gift(tx, fan.user_id, 100, key=f"gift:{fan.user_id}", cause_id="t", now=stage.now))
    arena.tip(fan, arena.creators[0], 100)
    arena.end()
    stage.later(days=31)
    stage.run(lambda tx: ledger.clear_due(tx, stage.now))
    assert stage.balances(arena.creators[0])["earnings"] == 0
    stage.audit()


def test_the_databases_keep_a_full_pot_open(stage: Stage) -> None:
    arena = Arena(stage).running()
    with pytest.raises(DBAPIError, match="pot of this battle"):
        stage.run(
            lambda tx: tx.execute(
                update(BattleRow).values(status="ended", ended_at=stage.now, outcome="won", end_reason="time")
            )
        )
    with pytest.raises(DBAPIError):
        stage.run(lambda tx: tx.execute(text("UPDATE accounts SET balance = 0 WHERE kind = 'pot'")))
    assert arena.view.status == "running"


# --- at the same moment ------------------------------------------------------------------------------


def at_once(*wishes: Any) -> list[str]:
    """All wishes at the same moment: what each came to."""
    answers: list[str] = []
    ready = threading.Barrier(len(wishes))

    def press(wish: Any) -> None:
        ready.wait(60)
        try:
            answers.append(wish().status)
        except DomainError as error:
            answers.append(error.code)

    threads = [threading.Thread(target=press, args=(wish,)) for wish in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_tips_while_it_ends_are_in_the_pot_or_refused(stage: Stage) -> None:
    arena = Arena(stage).running()
    fans = [stage.fan(100) for _ in range(6)]
    arena.tip(fans[0], arena.creators[0], 5, "first")
    answers = at_once(
        *(lambda fan=fan: arena.tip(fan, arena.creators[1], 50, "race") for fan in fans), arena.end, arena.end
    )
    assert set(answers) <= {"running", "ended", "BATTLE_CLOSED"}
    kept = sum(arena.wallet(fan) for fan in fans)
    assert kept + arena.view.pot == 700
    stage.audit()


def test_the_last_place_is_taken_once(stage: Stage) -> None:
    arena = Arena(stage, sides=1, most_creators=2)
    rivals = [stage.person("creator", tokens=50) for _ in range(4)]
    answers = at_once(*(lambda rival=rival: arena.enter(rival) for rival in rivals))
    assert sorted(answers) == ["BATTLE_FULL"] * 3 + ["open"]
    assert sum(arena.wallet(rival) for rival in rivals) == 150
    stage.audit()


def test_starting_leaving_and_the_clock_at_once(stage: Stage) -> None:
    arena = Arena(stage)
    stage.later(minutes=30)
    stage.heartbeat()

    def clock() -> Any:
        stage.run(lambda tx: battle_clock.begin_due(tx, stage.now))
        return arena.view

    at_once(arena.start, lambda: arena.leave(arena.creators[1]), clock, clock)
    stage.audit()
    arena.clock()
    assert arena.view.status in ("running", "cancelled")
    stage.audit()


def test_what_is_listed(stage: Stage) -> None:
    running, waiting = Arena(stage).running(), Arena(stage)
    over = Arena(stage).running()
    over.end()
    off = Arena(stage)
    off.leave(off.creators[0])
    listed = stage.run(lambda tx: battle_views.listed(tx, None, stage.now)).battles
    assert [view.battle_id for view in listed] == [running.battle_id, waiting.battle_id, over.battle_id]
    assert stage.run(lambda tx: battle_views.current_of(tx, waiting.creators[1].user_id)) == waiting.battle_id
    refused("NOT_FOUND", stage.run, lambda tx: battle_views.find(tx, "bat_none", None, stage.now))
