"""``make bench-cut``: how long a cut takes, from the wish to the last media packet that the fan receives.

Two figures, each p50 and p99 over real rooms with real ICE and DTLS, in one run on this machine:
*terminate*: from the call of ``terminate-stream`` to the viewer's last packet, and to the confirmation;
*budget end*: from the paid instant, as the session's own clock announced it, to the fan's last packet.
The floor of *terminate* is what the promise cannot do without: an authenticated HTTP call that commits one
small change (a cut is recorded before it is carried out), and a question and an answer over RabbitMQ.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pika
from sqlalchemy.orm import Session

from demo.media_file import media_file
from demo.peer import Peer
from demo.run import environment, integrator_token
from demo.seat import Seat
from models import ledger
from models.clock import utc_now
from models.db import Database
from models.services import accounts
from ops.house import ROOT, House
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode

PASSWORD = "only-for-this-benchmark"
PAIRS = 3
BUDGET_ROUNDS = 8
VIEWERS = 5
TERMINATE_ROUNDS = 6
FLOOR_ROUNDS = 100
# Media has to flow for a moment before it can be seen to stop.
FLOWING_SECONDS = 0.3
# Joins are limited per address, and here everybody comes from one: no join may need a second try.
OPENING_SECONDS = 0.3
SETTINGS_PATH = "/api/streaming/private-settings"
TERMS = {"enabled": True, "ratePerMinute": 1, "minMinutes": 1, "autoAccept": "manual"}


class Cut(msgspec.Struct, frozen=True):
    """One cut; milliseconds from the wish, or from the paid instant."""

    last_packet: float
    told: float
    confirmed: float = 0.0


def main() -> int:
    """Start a house, measure, print."""
    clip = media_file(ROOT / "var")
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        var = Path(directory)
        house = House(
            environment(var),
            var=var,
            names=("media", "worker", "clock", "web"),
            broker=RabbitNode(var / "rabbitmq", free_port(PORT_OFFSETS)),
            say=lambda text: None,
        )
        try:
            house.start()
            threading.Thread(target=house.watch, daemon=True).start()
            make_people(house)
            asyncio.run(measure(house, clip))
        finally:
            house.stop()
    return 0


async def measure(house: House, clip: Path) -> None:
    """Both figures and the floor."""
    floor = await asyncio.to_thread(rabbit_floor, house.environment["AMQP_URL"])
    creators = [await signed_in(house, f"bench_creator_{number}") for number in range(PAIRS)]
    fans = [await signed_in(house, f"bench_fan_{number}") for number in range(max(PAIRS, VIEWERS))]
    integrator = Peer(house.environment["PUBLIC_URL"])
    integrator.token = await asyncio.to_thread(integrator_token, house)
    saving = [await timed(lambda: creators[0].call("PUT", SETTINGS_PATH, TERMS)) for _ in range(FLOOR_ROUNDS)]
    print(f"HTTP call that commits a change   {spread(saving)}")
    print(f"RabbitMQ question and answer      {spread(floor)}")
    cuts = [
        cut for _ in range(TERMINATE_ROUNDS) for cut in await terminate_round(creators[0], fans, integrator, clip)
    ]
    print(f"terminate → confirmed             {spread([cut.confirmed for cut in cuts])}")
    print(f"terminate → viewer told           {spread([cut.told for cut in cuts])}")
    print(f"terminate → viewer's last packet  {spread([cut.last_packet for cut in cuts])}")
    lowest = statistics.median(saving) + statistics.median(floor)
    ratio = statistics.median([cut.confirmed for cut in cuts]) / lowest
    rounds = [await budget_round(creators, fans, clip) for _ in range(BUDGET_ROUNDS)]
    ends = [cut for cuts_of_round in rounds for cut in cuts_of_round]
    print(f"budget end → fan told             {spread([cut.told for cut in ends])}")
    print(f"budget end → fan's last packet    {spread([cut.last_packet for cut in ends])}")
    for peer in (*creators, *fans):
        await peer.close()
    print(f"floor of terminate → confirmed: a committing call and a RabbitMQ round trip, {lowest:.1f} ms")
    print(f"terminate → confirmed, over that floor: {ratio:.2f}")


async def terminate_round(creator: Peer, viewers: list[Peer], integrator: Peer, clip: Path) -> list[Cut]:
    """One public stream whose viewers are cut one after the other."""
    stream = await creator.call("POST", "/api/streaming/streams", {})
    await asyncio.sleep(OPENING_SECONDS)
    on_air = await creator.join(stream["roomId"], publish=clip, decode=False)
    seats = [await viewer.join(stream["roomId"], decode=False) for viewer in viewers]
    await flowing(seats)
    cuts = []
    for viewer, seat in zip(viewers, seats, strict=True):
        wish = {"roomId": stream["roomId"], "userId": viewer.user_id, "reason": "MODERATION"}
        began = time.monotonic()
        await integrator.call("POST", "/api/rtc/terminate-stream", wish)
        confirmed = time.monotonic()
        ended = await asyncio.wait_for(seat.ended, 5)
        cuts.append(
            Cut(
                last_packet=since(began, seat.seen.last_packet_at),
                told=since(began, ended.at),
                confirmed=since(began, confirmed),
            )
        )
        await viewer.forget(seat)
    await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
    await creator.forget(on_air)
    return cuts


async def budget_round(creators: list[Peer], fans: list[Peer], clip: Path) -> list[Cut]:
    """One private stream of one short minute for each pair, at once."""
    pairs = zip(creators, fans[: len(creators)], strict=True)
    return list(await asyncio.gather(*(budget_end(creator, fan, clip) for creator, fan in pairs)))


async def budget_end(creator: Peer, fan: Peer, clip: Path) -> Cut:
    """Run a session to its paid end."""
    stream = await creator.call("POST", "/api/streaming/streams", {})
    wish = {"creatorId": creator.user_id, "streamId": stream["streamId"], "minutes": 1}
    request = await fan.call("POST", "/api/streaming/private-request", wish)
    accepted = await creator.call("POST", "/api/streaming/private-accept", {"requestId": request["requestId"]})
    await asyncio.sleep(OPENING_SECONDS)
    shown, seat = await asyncio.gather(
        creator.join(accepted["roomId"], publish=clip, decode=False),
        fan.join(accepted["roomId"], decode=False),
    )
    ended = await asyncio.wait_for(seat.ended, 30)
    paid_until = paid_instant(seat)
    cut = Cut(last_packet=since(paid_until, seat.seen.last_packet_at), told=since(paid_until, ended.at))
    await fan.receipt(accepted["sessionId"])
    await creator.forget(shown)
    await fan.forget(seat)
    await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
    return cut


def paid_instant(seat: Seat) -> float:
    """When the paid time was over: what the clock messages said, by the one that was heard with least delay."""
    running = [clock for clock in seat.clocks if clock["state"] == "running"]
    return float(min(clock["heardAt"] + (clock["paidMs"] - clock["deliveredMs"]) / 1000 for clock in running))


async def flowing(seats: list[Seat]) -> None:
    """Wait until every seat receives."""
    async with asyncio.timeout(15):
        while not all(seat.seen.packets for seat in seats):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(FLOWING_SECONDS)


async def timed(act: Callable[[], object]) -> float:
    """Milliseconds that an awaitable took."""
    began = time.perf_counter()
    await act()  # type: ignore[misc]
    return (time.perf_counter() - began) * 1000


def rabbit_floor(amqp_url: str) -> list[float]:
    """Milliseconds for a question and its answer over RabbitMQ's direct reply-to, with nothing behind it."""
    stop = threading.Event()
    ready = threading.Event()

    def answer() -> None:
        connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        channel = connection.channel()
        channel.queue_declare("bench.echo", exclusive=True)
        channel.basic_consume(
            "bench.echo",
            lambda ch, _method, properties, body: ch.basic_publish("", properties.reply_to, body),
            auto_ack=True,
        )
        ready.set()
        while not stop.is_set():
            connection.process_data_events(0.2)
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    ready.wait(10)
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    answers = channel.consume("amq.rabbitmq.reply-to", auto_ack=True, inactivity_timeout=5)
    next(channel.consume("amq.rabbitmq.reply-to", auto_ack=True, inactivity_timeout=0.01))
    took = []
    for _ in range(FLOOR_ROUNDS):
        began = time.perf_counter()
        channel.basic_publish("", "bench.echo", b"?", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        next(answers)
        took.append((time.perf_counter() - began) * 1000)
    connection.close()
    stop.set()
    thread.join(10)
    return took


def make_people(house: House) -> None:
    """Accounts and gifts, straight into the database."""
    db = Database(house.environment["DATABASE_URL"])
    password_hash = accounts.hash_password(PASSWORD)
    handles = [("creator", f"bench_creator_{number}") for number in range(PAIRS)]
    handles += [("fan", f"bench_fan_{number}") for number in range(max(PAIRS, VIEWERS))]

    def make(tx: Session) -> None:
        for role, handle in handles:
            person = accounts.create_person(
                tx,
                email=f"{handle}@bench.test",
                handle=handle,
                display_name=handle,
                password_hash=password_hash,
                roles=(role,),
                now=utc_now(),
            )
            if role == "fan":
                ledger.gift(tx, person.user_id, 10_000, key=f"gift:{handle}", cause_id="bench", now=utc_now())

    db.run(make)
    db.close()


async def signed_in(house: House, handle: str) -> Peer:
    """A person's client, with the terms of the benchmark if it is a creator."""
    peer = Peer(house.environment["PUBLIC_URL"])
    await peer.sign_in(f"{handle}@bench.test", PASSWORD)
    if "creator" in handle:
        await peer.call("PUT", SETTINGS_PATH, TERMS)
    return peer


def since(began: float, moment: float | None) -> float:
    """Milliseconds; raises ValueError when it never came."""
    if moment is None:
        raise ValueError("no media was received")
    return (moment - began) * 1000


def spread(values: list[float]) -> str:
    """p50 and p99 of ``values`` in words."""
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return f"p50 {statistics.median(ordered):7.1f} ms   p99 {last:7.1f} ms   n={len(ordered)}"


if __name__ == "__main__":
    sys.exit(main())
