"""Who may send no UDP at all takes part in a call through a TURN server, over TCP: real Chromium, both ways.

The node and a real coturn are in one network namespace, the browser in another, behind a firewall that drops what
is UDP. Namespaces need root.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from bench.chromium_flags import FLAGS
from bench.impaired_net import shell
from media.plane import Peer
from media.port import Port
from models import turn
from models.config import load_settings
from ops.turn import TurnServer
from tests.integration.media.media_clients import wanted_engine
from tests.integration.media.test_chromium import PUBLISH, SUBSCRIBE, blank, reaches

NODE, CLIENT = "10.78.0.1", "10.78.0.2"
SECRET = "known-to-us-and-to-the-turn-server"
_CLONE_NEWNET = 0x40000000
DROP_UDP = (
    "ip rule add pref 100 lookup local", "ip rule del pref 0",
    "ip rule add pref 10 iif node ipproto udp blackhole",
)  # fmt: skip
"""From the client's cable, before it is looked up whose address it is for."""
NOMINATED = """async () => {
  const all = await pc.getStats();
  const pairs = [...all.values()].filter((s) => s.type === 'candidate-pair' && s.nominated);
  return pairs.map((pair) => all.get(pair.localCandidateId)).map((s) => [s.candidateType, s.relayProtocol]);
}"""


def in_a_thread_of_its_own(scene: Callable[[], None]) -> None:
    """A thread is in a namespace by itself, with all that it starts."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            scene()
        except BaseException as error:  # for whoever waits
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@contextmanager
def behind_a_firewall() -> Iterator[list[str]]:
    """This thread moves to the node's place; what a command begins with that is to run at the client's."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo there; exec sleep infinity"], stdout=subprocess.PIPE
    ) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == b"there\n"
            at_client = ["nsenter", "-t", str(client.pid), "-n"]
            there = shlex.join(at_client)
            for command in (
                "ip link set lo up", f"ip link add node type veth peer name line netns {client.pid}",
                f"ip address add {NODE}/24 dev node", "ip link set node up", *DROP_UDP,
                f"{there} ip link set lo up", f"{there} ip address add {CLIENT}/24 dev line",
                f"{there} ip link set line up", f"{there} ip route add default via {NODE}",
            ):  # fmt: skip
                shell(command)
            yield at_client
        finally:
            client.kill()


@contextmanager
def coturn(directory: Path) -> Iterator[TurnServer]:
    server = TurnServer(directory, SECRET, host=NODE, transport="tcp")
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def call(chromium: Path, server: TurnServer) -> None:
    """One page publishes, another one watches."""
    settings = load_settings({"SECRET_KEY": "k" * 32, "TURN_URLS": server.url, "TURN_SECRET": SECRET})
    (told,) = turn.ice_servers(settings, "usr_1", time.time())
    servers = [{"urls": told.urls, "username": told.username, "credential": told.credential}]
    port = Port((NODE,), native=wanted_engine())
    creator, fan = (
        Peer(user_id=name, port=port, on_connected=lambda pc: None, on_lost=lambda pc: None)
        for name in ("usr_creator", "usr_fan")
    )

    def through(script: str) -> str:
        return script.replace("RTCPeerConnection()", f"RTCPeerConnection({json.dumps({'iceServers': servers})})")

    async def page_of(browser: Any, **exposed: Any) -> Page:
        page: Page = await browser.new_page()
        await page.route("**/*", blank)
        await page.goto("http://localhost:9/")
        for name, function in exposed.items():
            await page.expose_function(name, function)
        return page

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        publisher = await page_of(browser, acceptPublish=creator.accept_publish)
        viewer = await page_of(
            browser, offerSubscribe=fan.offer_subscribe, acceptAnswer=fan.accept_subscribe_answer
        )
        await publisher.evaluate(through(PUBLISH), "VP8")
        for track in creator.published.values():
            fan.subscribe(track)
        await viewer.evaluate(through(SUBSCRIBE))
        await reaches(viewer, 20, "inbound-rtp", "framesDecoded", kind="video")
        await reaches(viewer, 50, "inbound-rtp", "packetsReceived", kind="audio")
        # Nothing but the relay was left, though nobody told the browser so
        for page in (publisher, viewer):
            assert await page.evaluate(NOMINATED) == [["relay", "tcp"]]
        assert creator._ingress is not None
        assert fan._egress is not None
        for wire in (creator._ingress.wire, fan._egress.wire):
            assert wire.address[0] == NODE, "what we see is the relay's address"
            assert server.port < wire.address[1] < server.port + 20
        await browser.close()
    await creator.close()
    await fan.close()
    port.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_browser_without_udp_publishes_and_watches_through_the_turn_server(tmp_path: Path) -> None:
    def scene() -> None:
        with behind_a_firewall() as at_client, coturn(tmp_path / "turn") as server:
            chromium = tmp_path / "chromium"
            chromium.write_text(f'#!/bin/sh\nexec {shlex.join(at_client)} /usr/bin/chromium "$@"\n')
            chromium.chmod(0o755)
            asyncio.run(call(chromium, server))

    in_a_thread_of_its_own(scene)
