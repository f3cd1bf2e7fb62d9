"""A gateway's answer that was on its way while another was taken in: it says what was, not what is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.stripe_server import StripeServer
from stage import Stage
from till import Till

from models.db import Database
from models.errors import Unavailable
from models.gateways.base import Dispute, Payment
from models.services import payments, webhooks
from workers.payments import poll_request_payments


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    with StripeServer() as server:
        yield Till(stage, server)


class Slow:
    """A gateway whose first answers (``times``) are late: ``meanwhile`` happens before they arrive."""

    def __init__(self, till: Till, meanwhile: Callable[[], object], times: int = 1) -> None:
        self.name = till.gateway.name
        self._gateway, self._meanwhile, self._times = till.gateway, meanwhile, times
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def status(self, reference: str) -> Payment:
        self.asked += 1
        answer = self._gateway.status(reference)
        if self.asked <= self._times:
            self._meanwhile()
        return answer


def disputed(till: Till) -> tuple[payments.PurchaseRow, str]:
    """A purchase whose dispute is known."""
    purchase = till.buy()
    dispute = till.world.dispute(purchase.gateway_ref or "")
    till.hear_all("charge.dispute.created")
    assert till.frozen
    return purchase, str(dispute["id"])


def win(till: Till, dispute_id: str) -> None:
    till.world.close_dispute(dispute_id, won=True)
    assert till.hear_all("charge.dispute.closed") == ["done"]
    assert not till.frozen


def test_opened_does_not_freeze_after_won(till: Till) -> None:
    # given: a look at a disputed payment, whose answer is overtaken by the news that the dispute was won
    purchase, dispute = disputed(till)
    slow = Slow(till, lambda: win(till, dispute))
    # when
    payments.reconcile(till.database, slow, purchase.id, till.stage.now)
    # then: it was asked once more, and the fan is free
    assert slow.asked == 2
    assert not till.frozen
    assert [row.status for row in till.disputes] == ["won"]
    assert till.available == 1_000
    till.stage.audit()


def test_opened_by_a_poll_and_by_a_webhook_does_not_either(till: Till) -> None:
    purchase, dispute = disputed(till)
    event = till.world.emit("payment_intent.succeeded", {"id": purchase.gateway_ref})
    till.receive(event)
    webhooks.act_on(
        till.database, Slow(till, lambda: win(till, dispute)), "stripe", event["id"], till.stage.now
    )
    assert not till.frozen
    assert till.row(purchase.id).status == "succeeded"


def test_succeeded_does_not_thaw_after_disputed(till: Till) -> None:
    purchase = till.buy()
    stage = till.stage
    request = stage.ask(till.fan, stage.live()[1], 5)

    def dispute() -> None:
        till.world.dispute(purchase.gateway_ref or "")
        assert till.hear_all("charge.dispute.created") == ["done"]

    assert poll_request_payments(till.database, Slow(till, dispute), request.request_id, stage.now) == 0
    assert till.frozen
    assert till.row(purchase.id).status == "disputed"
    assert till.available == 0
    stage.audit()


def test_pending_and_failed_do_not_undo_a_success(till: Till) -> None:
    # given: the checkout runs out at one moment, and was paid in the one before
    purchase = till.begin()
    reference = till.row(purchase.purchase_id).gateway_ref or ""
    expired = Payment(reference=reference, status="failed", purchase_id=purchase.purchase_id, detail="expired")
    before = till.stage.run(lambda tx: payments.seen(tx, purchase.purchase_id))
    till.world.pay(reference)
    till.hear_all("checkout.session.completed")
    # when
    applied = till.stage.run(
        lambda tx: payments.apply(tx, purchase.purchase_id, expired, till.stage.now, before=before)
    )
    # then
    assert (applied.overtaken, applied.turned_bad) == (True, False)
    assert till.available == 1_000
    assert not till.frozen


def test_an_older_sum_of_refunds_gives_nothing_back(till: Till) -> None:
    purchase = till.buy()
    till.world.refund({"payment_intent": purchase.gateway_ref, "amount": "480"})

    def second() -> None:
        till.world.refund({"payment_intent": purchase.gateway_ref, "amount": "480"})
        till.hear_all("charge.refunded")

    payments.reconcile(till.database, Slow(till, second), purchase.id, till.stage.now)
    assert till.available == 800
    assert till.row(purchase.id).refunded_outside_minor == 960
    till.stage.audit()


def test_a_payment_that_changes_all_the_time_is_looked_at_later(till: Till) -> None:
    purchase = till.buy()
    amounts = iter(range(1, 10))

    def changes() -> None:
        till.world.refund({"payment_intent": purchase.gateway_ref, "amount": str(next(amounts) * 48)})
        till.hear_all("charge.refunded")

    # given: a first refund, without which an answer that knows of none would be no news
    changes()
    with pytest.raises(Unavailable):
        payments.reconcile(till.database, Slow(till, changes, times=8), purchase.id, till.stage.now)
    till.stage.audit()


def test_an_answer_without_its_question_is_judged_by_its_time(till: Till) -> None:
    purchase, dispute = disputed(till)
    asked_at = till.stage.now
    till.stage.later(seconds=2)
    win(till, dispute)
    opened = Payment(
        reference=purchase.gateway_ref or "",
        status="disputed",
        dispute=Dispute(reference=dispute, status="opened", reason="fraudulent", amount_minor=4_800),
    )
    assert till.stage.run(lambda tx: payments.apply(tx, purchase.id, opened, asked_at)).overtaken
    assert not till.frozen
    # one that is asked for later is news: the bank has opened it again
    later = till.stage.now.replace(hour=23)
    assert till.stage.run(lambda tx: payments.apply(tx, purchase.id, opened, later)).turned_bad
    assert till.frozen
    till.stage.audit()


def test_success_alone_does_not_end_a_dispute(till: Till) -> None:
    """Only the news that it was won does."""
    purchase, _ = disputed(till)
    good = Payment(reference=purchase.gateway_ref or "", status="succeeded")
    till.stage.run(lambda tx: payments.apply(tx, purchase.id, good, till.stage.now))
    assert till.frozen
    assert till.row(purchase.id).status == "disputed"
