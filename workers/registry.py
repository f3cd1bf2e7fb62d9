"""Which actors there are, on which queue, and what each may not retry. They only unpack and call."""

from __future__ import annotations

import dramatiq
from dramatiq.middleware import CurrentMessage

from models.clock import utc_now
from models.db import Database
from models.gateways.base import PaymentGateway
from models.messages.codec import UnknownMessage
from models.messages.routing import MEDIA_EVENTS_ACTOR, MEDIA_EVENTS_QUEUE
from models.services import payouts, webhooks
from workers import events, payments, rules, subscriptions
from workers.broker import Broker


def declare_actors(broker: Broker, db: Database, gateway: PaymentGateway) -> None:
    """Tell ``broker`` what to call for each message."""

    # A message that this release cannot read stays unreadable: to the dead letters, at once.
    @dramatiq.actor(
        broker=broker,
        actor_name=MEDIA_EVENTS_ACTOR,
        queue_name=MEDIA_EVENTS_QUEUE,
        throws=(UnknownMessage,),
    )
    def on_media_event(body: str) -> None:
        events.on_media_event(db, body, utc_now())

    @dramatiq.actor(broker=broker, actor_name="apply_auto_accept", queue_name="rules")
    def apply_auto_accept(request_id: str) -> None:
        rules.apply_auto_accept(db, request_id, _message_id(), utc_now())

    @dramatiq.actor(broker=broker, actor_name="poll_session_payments", queue_name="payments")
    def poll_session_payments(session_id: str) -> None:
        payments.poll_session_payments(db, gateway, session_id, utc_now())

    @dramatiq.actor(broker=broker, actor_name="poll_request_payments", queue_name="payments")
    def poll_request_payments(request_id: str) -> None:
        payments.poll_request_payments(db, gateway, request_id, utc_now())

    @dramatiq.actor(broker=broker, actor_name="reconcile_purchase", queue_name="payments")
    def reconcile_purchase(purchase_id: str) -> None:
        payments.reconcile_purchase(db, gateway, purchase_id, utc_now())

    @dramatiq.actor(broker=broker, actor_name="on_gateway_event", queue_name="payments")
    def on_gateway_event(name: str, event_id: str) -> None:
        webhooks.act_on(db, gateway, name, event_id, utc_now())

    @dramatiq.actor(broker=broker, actor_name="send_refund", queue_name="payments")
    def send_refund(refund_id: str) -> None:
        payments.send_refund(db, gateway, refund_id, utc_now())

    @dramatiq.actor(broker=broker, actor_name="renew_subscription", queue_name="payments")
    def renew_subscription(subscription_id: str, period: str) -> None:
        subscriptions.renew_subscription(db, gateway, subscription_id, int(period), utc_now())

    @dramatiq.actor(broker=broker, actor_name="send_payout", queue_name="payments")
    def send_payout(payout_id: str) -> None:
        payouts.send(db, gateway, payout_id, utc_now())


def _message_id() -> str:
    message = CurrentMessage.get_current_message()
    if message is None:
        raise RuntimeError("an actor runs outside a worker")
    return str(message.message_id)
