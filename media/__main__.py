"""``python -m media``: one media node, until SIGTERM or SIGINT.

A stop is like a crash that had time to say where the meters stand: no session ends by it, clients are let
go with 1012 and come back to the next boot, which is told by ``SyncRooms`` what to open.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvloop

from media import garbage
from media.control import CommandDesk, ControlLine
from media.node import Node
from media.port import Port, PortError
from media.signaling import SignalingServer
from models import log
from models.config import Settings, SettingsError, load_settings
from models.messages.events import AnyEvent

STOP_SECONDS = 2.5
SMALL_BUFFER = 1 << 20
"""Bytes; with less a moment's stand-still loses packets (docs/media.md, "Network")."""


async def serve(settings: Settings, stopped: asyncio.Event) -> None:
    """Run a node until ``stopped`` is set."""
    port = Port(
        settings.media_addresses, settings.media_udp_port, settings.media_announced_addresses,
        native=settings.media_engine == "native",
    )  # fmt: skip
    try:
        await _serve(settings, stopped, port)
    finally:
        port.close()


async def _serve(settings: Settings, stopped: asyncio.Event, port: Port) -> None:
    line: ControlLine

    def publish(event: AnyEvent) -> None:
        line.publish(event)

    if port.receive_buffer < SMALL_BUFFER:
        log.event("small_receive_buffer", level=logging.WARNING, bytes=port.receive_buffer)
    node = Node(settings, publish, port)
    line = ControlLine(
        settings.amqp_url,
        node_id=node.node_id,
        boot_id=node.boot_id,
        desk=CommandDesk(node.carry_out),
        on_ready=node.ready,
    )
    server = SignalingServer(node)
    await server.start(settings.media_host, settings.media_port)
    node.start()
    line.start()
    garbage.settle()
    log.event(
        "media_started",
        engine="native" if port.native is not None else "python",
        node_id=node.node_id,
        boot_id=node.boot_id,
        port=settings.media_port,
        udp_port=port.number,
        addresses=len(port.gates),
    )
    await stopped.wait()
    log.event("media_stopping", rooms=len(node.rooms))
    try:
        async with asyncio.timeout(STOP_SECONDS):
            node.suspend()
            await asyncio.gather(line.stop(), server.stop(), node.close())
    except TimeoutError:
        log.event("media_stop_cut_short", level=logging.WARNING)


async def main(settings: Settings) -> None:
    """Serve until a signal says stop."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await serve(settings, stopped)


if __name__ == "__main__":
    try:
        chosen = load_settings()
    except SettingsError as error:
        sys.exit(str(error))
    log.configure("media", chosen.log_level)
    # What these have to say of a broker that is away is said once, by us.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main(chosen))
        except PortError as error:
            # The address is the operator's own; without the port there is no media, and /readyz says so.
            sys.exit(f"The media node cannot open its UDP port (MEDIA_UDP_PORT, MEDIA_ADDRESSES): {error}")
