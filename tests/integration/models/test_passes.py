"""Passes for a creator's best picture: paid once, valid a day, gone with their payment; on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest
from arena import Arena
from patrons import broadcast, freeze, on_air, patron_of, refused, subscribe
from patrons import buy_pass as buy
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session
from stage import Stage
from together import crossing, until_it_waits_or_is_done

from models import ledger
from models.battles import BattleSideRow
from models.broadcasts import BroadcastRow
from models.db import Database
from models.errors import DomainError
from models.ladder import Tier
from models.services import accounts, broadcasts, offers, passes, spectating, streams
from models.services.accounts import Person
from models.services.leases import LEASE_SECONDS
from models.streams import RoomRow
from models.subscriptions import PassRow
from tests.databases import Databases


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def sells(stage: Stage, creator: Person) -> None:
    options = offers.CreatorOptions(pass_price=40)
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, options))


def lease(stage: Stage, creator: Person, worker_id: str = "worker") -> None:
    """That worker makes the creator's picture from now on."""

    def work(tx: Any) -> None:
        row = tx.scalars(select(BroadcastRow).where(BroadcastRow.creator_id == creator.user_id)).one()
        broadcasts.forget_leases(tx, row.worker_id, stage.now)
        assert broadcasts.take_lease(tx, row.id, worker_id, stage.now) is not None

    stage.run(work)


def tier(stage: Stage, fan: Person, creator: Person) -> Tier:
    return stage.run(lambda tx: spectating.tier_of(tx, fan, creator.user_id, stage.now))


def test_a_pass_is_the_best_picture_for_a_day(stage: Stage) -> None:
    # given
    creator, fan = on_air(stage), stage.fan(100)
    assert tier(stage, fan, creator) == "free"
    # when
    view = buy(stage, fan, creator)
    # then
    assert tier(stage, fan, creator) == "premium"
    assert (stage.balances(fan)["wallet"], stage.balances(creator)["earnings_pending"]) == (60, 32)
    assert [told["endsAt"] for told in stage.told(fan, "PASS_CHANGED")] == ["2026-01-03T12:00:00.000Z"]
    # and it is for this creator and this fan alone
    assert tier(stage, fan, on_air(stage)) == tier(stage, stage.fan(), creator) == "free"
    # and nobody pays twice for the same day
    again = refused("PASS_ACTIVE", buy, stage, fan, creator, "again")
    assert again.fields["ends_at"] == "2026-01-03T12:00:00.000Z"
    stage.later(hours=23, minutes=59)
    assert tier(stage, fan, creator) == "premium"
    stage.later(minutes=1)
    assert tier(stage, fan, creator) == "free"
    lease(stage, creator)
    assert buy(stage, fan, creator, "next day").pass_id != view.pass_id
    assert stage.run(lambda tx: ledger.spent_today(tx, fan.user_id, stage.now)) == 40
    stage.audit()


def test_the_same_press_is_the_same_pass(stage: Stage) -> None:
    creator, other, fan = on_air(stage), on_air(stage), stage.fan(100)
    assert buy(stage, fan, creator) == buy(stage, fan, creator)
    assert stage.balances(fan)["wallet"] == 60
    refused("IDEMPOTENCY_KEY_REUSED", buy, stage, fan, other)


def test_who_cannot_buy_one(stage: Stage) -> None:
    creator, fan = on_air(stage), stage.fan(100)
    refused("OWN_STREAM", buy, stage, creator, creator)
    refused("NOT_A_FAN", buy, stage, stage.creator(), creator)
    refused("NOT_FOUND", buy, stage, fan, stage.fan())
    refused("PASS_NOT_OFFERED", buy, stage, fan, on_air(stage, price=None))
    assert refused("PRICE_CHANGED", buy, stage, fan, creator, max_price=39).fields["total_cost"] == 40
    assert refused("INSUFFICIENT_TOKENS", buy, stage, stage.fan(39), creator).fields["required"] == 40
    stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    refused("BLOCKED", buy, stage, fan, creator)
    stage.run(lambda tx: accounts.unblock(tx, creator.user_id, fan.user_id))
    freeze(stage, fan)
    refused("SPENDING_FROZEN", buy, stage, fan, creator)
    assert stage.balances(fan)["wallet"] == 100
    stage.audit()


def test_nothing_is_sold_without_a_picture_nor_to_a_subscriber(stage: Stage) -> None:
    off_air, fan = patron_of(stage), stage.fan(1_000)
    stage.run(lambda tx: offers.put_options(tx, off_air.user_id, offers.CreatorOptions(pass_price=40)))
    refused("STREAM_NOT_LIVE", buy, stage, fan, off_air)
    creator = on_air(stage, subscription_price=300)
    subscribe(stage, fan, creator)
    refused("ALREADY_SUBSCRIBED", buy, stage, fan, creator)
    # nor one whose broadcast has no picture yet
    begun, stream = stage.live()
    stage.run(lambda tx: offers.put_options(tx, begun.user_id, offers.CreatorOptions(pass_price=40)))
    stage.run(lambda tx: broadcasts.want(tx, tx.get_one(RoomRow, stream.room_id).id, stage.now))
    refused("STREAM_NOT_LIVE", buy, stage, fan, begun)


def test_the_pass_of_any_creator_is_the_best_picture_of_their_battle(stage: Stage) -> None:
    # given a battle that is broadcast, whose rival and a creator outside sell passes
    arena = Arena(stage).running()
    host, rival = arena.creators
    outsider, fan = stage.creator(), stage.fan(100)
    sells(stage, rival)
    sells(stage, outsider)

    def seat() -> spectating.Seat:
        def work(tx: Any) -> spectating.Seat:
            return spectating.seat(
                tx, arena.room_id, person=fan, subject=fan.user_id, key=b"k" * 32, now=stage.now
            )

        return stage.run(work)

    refused("STREAM_NOT_LIVE", buy, stage, fan, rival)
    stage.run(lambda tx: broadcast(tx, arena.room_id, stage))
    assert seat().tier == "free"
    refused("STREAM_NOT_LIVE", buy, stage, fan, outsider)
    # when the rival's is bought, whose own picture is not on the air
    buy(stage, fan, rival)
    # then the battle is seen in the best picture, and nothing of it is in the pot
    assert seat().tier == "premium"
    assert arena.view.pot == 100
    assert stage.balances(rival)["earnings_pending"] == 32
    # and nobody is sold the pass of one who is out, not even the host's
    sells(stage, host)
    stage.run(lambda tx: tx.execute(update(BattleSideRow).values(status="gone")))
    refused("STREAM_NOT_LIVE", buy, stage, stage.fan(100), host)


def test_nothing_is_sold_while_nobody_makes_the_picture(stage: Stage) -> None:
    # given a worker that has died, and whose lease has just run out
    creator, fan = on_air(stage), stage.fan(100)
    stage.later(seconds=LEASE_SECONDS)
    # then nothing is sold, though the broadcast has not ended
    refused("UNAVAILABLE", buy, stage, fan, creator)
    assert stage.balances(fan)["wallet"] == 100
    # nor while one has given it back and no other has begun
    lease(stage, creator)
    stage.run(lambda tx: broadcasts.forget_leases(tx, "worker", stage.now))
    refused("UNAVAILABLE", buy, stage, fan, creator)
    # and the same press is good once another works on it
    lease(stage, creator, "another")
    buy(stage, fan, creator)
    assert stage.balances(fan)["wallet"] == 60


def test_a_pass_goes_and_comes_with_its_payment(stage: Stage) -> None:
    # given
    creator, fan = on_air(stage), stage.fan(100)
    view = buy(stage, fan, creator)

    def act(wish: Any, reference: str) -> str:
        stage.run(lambda tx: wish(tx, reference, stage.now))
        return tier(stage, fan, creator)

    # when its payment is taken back, also twice, and that of something else
    assert act(passes.payment_taken_back, "pas_other") == "premium"
    assert [act(passes.payment_taken_back, view.pass_id) for _ in range(2)] == ["free", "free"]
    assert act(passes.payment_good_again, view.pass_id) == "premium"
    assert len(stage.told(fan, "PASS_CHANGED")) == 3


def test_pressing_everywhere_at_once_pays_once(stage: Stage) -> None:
    creator, fan = on_air(stage), stage.fan(1_000)
    answers: list[str] = []

    def press(key: str) -> None:
        try:
            answers.append(buy(stage, fan, creator, key).pass_id)
        except DomainError as error:
            answers.append(error.code)

    threads = [threading.Thread(target=press, args=(key,)) for key in ("a", "a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert stage.balances(fan)["wallet"] == 960
    assert stage.run(lambda tx: tx.scalar(select(func.count()).select_from(PassRow))) == 1
    stage.audit()


def test_a_stream_that_ends_takes_its_broadcast_before_accounts(postgres_databases: Databases) -> None:
    """As who buys a pass does, who may have asked for a private stream before."""
    with crossing(postgres_databases) as (stage, pool, watching):
        creator, fan = on_air(stage), stage.fan(1_000)
        stream = stage.run(lambda tx: streams.stream_of(tx, creator.user_id, stage.now))
        assert stream is not None
        stage.ask(fan, stream, 5)
        wishes: list[Future[Any]] = []

        def end(tx: Session) -> None:
            streams.end_stream(tx, stream.stream_id, creator, stage.now)

        def work(tx: Session) -> None:
            broadcasts.require_picture(tx, [stream.room_id], stage.now)
            wishes.append(pool.submit(stage.database.run, end))
            until_it_waits_or_is_done(watching, wishes[0])
            assert not wishes[0].done()
            theirs = {"wallet": f"wallet:{fan.user_id}"}
            tx.execute(text("SELECT id FROM accounts WHERE id = :wallet FOR NO KEY UPDATE NOWAIT"), theirs)

        stage.run(work)
        wishes[0].result(60)
        assert stage.balances(fan)["wallet"] == 1_000


def test_buyers_share_the_picture_and_it_does_not_end_under_them(postgres_databases: Databases) -> None:
    with crossing(postgres_databases) as (stage, pool, watching):
        creator = on_air(stage)
        rooms = stage.run(lambda tx: list(tx.scalars(select(BroadcastRow.room_id))))
        wishes: list[Future[Any]] = []

        def look(tx: Session) -> None:
            broadcasts.require_picture(tx, rooms, stage.now)

        def end(tx: Session) -> None:
            broadcasts.end(tx, rooms[0], "STREAM_ENDED", stage.now)

        def work(tx: Session) -> None:
            look(tx)
            # when another one buys, that is done at once
            second = pool.submit(stage.database.run, look)
            until_it_waits_or_is_done(watching, second)
            assert second.done()
            # and who ends it waits
            wishes.append(pool.submit(stage.database.run, end))
            until_it_waits_or_is_done(watching, wishes[0])
            assert not wishes[0].done()

        stage.run(work)
        wishes[0].result(60)
        refused("STREAM_NOT_LIVE", buy, stage, stage.fan(100), creator)
