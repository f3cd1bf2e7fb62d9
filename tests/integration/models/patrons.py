"""What the tests of subscriptions, passes, tips and limits share: a creator who offers, a fan who pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stage import Stage

from models.errors import DomainError
from models.people import PersonRow
from models.services import broadcasts, offers, passes, subscriptions
from models.services.accounts import Person
from models.services.offers import CreatorOptions
from models.services.passes import PassView
from models.services.subscriptions import SubscriptionView


def refused(code: str, wish: Callable[..., Any], *args: Any, **more: Any) -> DomainError:
    """The refusal, which must have that code."""
    with pytest.raises(DomainError) as refusal:
        wish(*args, **more)
    assert refusal.value.code == code
    return refusal.value


def offer(stage: Stage, creator: Person, price: int | None = 300, minutes: int = 20, discount: int = 0) -> None:
    """The creator offers subscriptions, or does not any more."""
    options = CreatorOptions(
        subscription_price=price, subscription_minutes=minutes, subscriber_discount_percent=discount
    )
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, options))


def patron_of(stage: Stage, **offered: Any) -> Person:
    """A creator who offers subscriptions."""
    creator = stage.creator()
    offer(stage, creator, **offered)
    return creator


def subscribe(stage: Stage, fan: Person, creator: Person, **more: Any) -> SubscriptionView:
    """The fan subscribes."""
    return stage.run(
        lambda tx: subscriptions.subscribe(
            tx,
            fan=fan,
            creator_id=creator.user_id,
            now=stage.now,
            settings=stage.settings,
            cause_id="test",
            **more,
        )
    )


def active(stage: Stage, fan: Person, creator: Person) -> bool:
    """Whether the fan has the benefits now."""
    return stage.run(lambda tx: subscriptions.is_active(tx, fan.user_id, creator.user_id, stage.now))


def found(stage: Stage, fan: Person) -> list[SubscriptionView]:
    """The fan's subscriptions."""
    return list(stage.run(lambda tx: subscriptions.of_fan(tx, fan.user_id, stage.now)))


def freeze(stage: Stage, person: Person) -> None:
    """A payment of this person was found bad."""

    def work(tx: Any) -> None:
        tx.get_one(PersonRow, person.user_id).spending_frozen_at = stage.now

    stage.run(work)


def on_air(stage: Stage, price: int | None = 40, **more: Any) -> Person:
    """A creator who sells passes and whose picture is broadcast."""
    creator, stream = stage.live()
    options = CreatorOptions(pass_price=price, **more)

    def work(tx: Any) -> None:
        offers.put_options(tx, creator.user_id, options)
        broadcast(tx, stream.room_id, stage)

    stage.run(work)
    return creator


def broadcast(tx: Any, room_id: str, stage: Stage) -> None:
    """The room's picture is on the air."""
    broadcasts.want(tx, room_id, stage.now)
    row = tx.scalars(broadcasts.open_of(room_id)).one()
    lease = broadcasts.take_lease(tx, row.id, "worker", stage.now)
    assert lease is not None
    broadcasts.ready(tx, row.id, lease.epoch, stage.now)


def buy_pass(stage: Stage, fan: Person, creator: Person, key: str = "key", max_price: int = 40) -> PassView:
    """The fan buys a pass."""
    return stage.run(
        lambda tx: passes.buy(
            tx,
            fan=fan,
            creator_id=creator.user_id,
            max_price=max_price,
            key=key,
            now=stage.now,
            settings=stage.settings,
            cause_id="test",
        )
    )
