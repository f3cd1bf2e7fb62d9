"""``make demo``: the whole house in a temporary directory, a real file as creator, every way to end.

No browser: outside clients publish, ask, receive and decode over real ICE and DTLS. Prints a timeline in
milliseconds, each receipt and the ledger's audit; the exit status is 1 when anything is not as promised.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from demo import PASSWORD
from demo.cases import CASES, MINIMUM, RATE, Stage
from demo.media_file import media_file
from demo.peer import Peer
from ops.house import ROOT, House, HouseError
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode

MINUTE_SECONDS = 5
NAMES = ("media", "worker", "clock", "web")


def main() -> int:
    """0 when everything was as promised."""
    # Ctrl-C and SIGTERM both unwind, so that nothing is left running.
    signal.signal(signal.SIGTERM, _interrupt)
    clip = media_file(Path(os.environ.get("VAR_DIR", ROOT / "var")))
    with tempfile.TemporaryDirectory(prefix="greenroom-demo-") as directory:
        directory_path = Path(directory)
        house = House(
            environment(directory_path),
            var=directory_path,
            names=NAMES,
            broker=RabbitNode(directory_path / "rabbitmq", free_port(PORT_OFFSETS)),
        )
        try:
            house.start()
            threading.Thread(target=house.watch, name="watch", daemon=True).start()
            problems = asyncio.run(play(house, clip))
            problems += audit(house)
        except KeyboardInterrupt:
            problems = ["interrupted"]
        except Exception as error:
            traceback.print_exc()
            problems = [f"{type(error).__name__}: {error}"]
        finally:
            house.stop()
        if problems:
            show_logs(house)
    print("\n".join(["", "NOT AS PROMISED:", *problems] if problems else ["", "Everything was as promised."]))
    return 1 if problems else 0


def environment(var: Path) -> dict[str, str]:
    """A house of its own on free ports of this machine, with short minutes."""
    port, media_port = free_port(), free_port()
    return {
        "DATABASE_URL": os.environ.get("DATABASE_URL", f"sqlite:///{var / 'greenroom.db'}"),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DEMO": "1",
        "MINUTE_SECONDS": str(MINUTE_SECONDS),
        "MEDIA_HOST": "127.0.0.1",
        "MEDIA_PORT": str(media_port),
        "MEDIA_ADDRESSES": "127.0.0.1",
        "MEDIA_UDP_PORT": "0",
    }


async def play(house: House, clip: Path) -> list[str]:
    """Go live and play every case; what was not as promised."""
    url = house.environment["PUBLIC_URL"]
    async with Peer(url) as creator, Peer(url) as fan, Peer(url) as buyer, Peer(url) as integrator:
        for peer, handle in ((creator, "creator_a"), (fan, "fan_a"), (buyer, "fan_b")):
            await peer.sign_in(f"{handle}@demo.test", PASSWORD)
        integrator.token = await asyncio.to_thread(integrator_token, house)
        stage = Stage(
            creator=creator,
            fan=fan,
            buyer=buyer,
            integrator=integrator,
            clip=clip,
            minute_ms=MINUTE_SECONDS * 1000,
        )
        await go_public(stage)
        for number, (name, case) in enumerate(CASES, 1):
            print(f"\n{number}. {name}", flush=True)
            stage.case = name
            try:
                await case(stage)
            except Exception as error:
                stage.check(False, f"{type(error).__name__}: {error}")
                traceback.print_exc()
                break
        if stage.put_out is not None and not stage.problems:
            await asyncio.wait_for(stage.put_out, 15)
        await creator.call("DELETE", f"/api/streaming/streams/{stage.stream['streamId']}")
        return stage.problems


async def go_public(stage: Stage) -> None:
    """The creator goes live with the file; a viewer decodes it and has to leave when it goes private."""
    stage.case = "public stream"
    terms = {"enabled": True, "ratePerMinute": RATE, "minMinutes": MINIMUM, "autoAccept": "manual"}
    await stage.creator.call("PUT", "/api/streaming/private-settings", terms)
    live_at = time.monotonic()
    stage.stream = await stage.creator.call("POST", "/api/streaming/streams", {"title": "Demo"})
    room_id = stage.stream["roomId"]
    on_air = await stage.creator.join(room_id, publish=stage.clip)
    viewer = await stage.buyer.join(room_id)
    await asyncio.wait_for(viewer.first_frame.wait(), 15)
    first_ms = ((viewer.seen.first_frame_at or 0.0) - live_at) * 1000
    print(f"\nGo live → a viewer's first decoded frame: {first_ms:,.0f} ms")

    async def put_out() -> None:
        ended = await viewer.ended
        stage.check(ended.reason == "STREAM_PRIVATE", f"the viewer was told {ended.reason}")
        late = (viewer.seen.last_packet_at or 0.0) - ended.at
        stage.check(late < 0.25, f"the viewer received for {late * 1000:.0f} ms after being put out")
        await stage.buyer.forget(viewer)
        await on_air.ended
        await stage.creator.forget(on_air)

    stage.put_out = asyncio.create_task(put_out())


def audit(house: House) -> list[str]:
    """The ledger's own check, on the live system."""
    print("\nLedger audit", flush=True)
    try:
        print("    " + house.command("-m", "flask", "--app", "web", "ledger", "audit").strip())
    except HouseError as error:
        return [f"ledger audit: {error}"]
    return []


def show_logs(house: House) -> None:
    """The ends of all logs, for whoever has to find out why."""
    for child in house.children.values():
        print(f"\n--- {child.name}\n{child.last_lines(25)}", flush=True)


def integrator_token(house: House) -> str:
    """A fresh token with ``rtc:terminate``, made as an operator makes one."""
    printed = house.command(
        "-m", "flask", "--app", "web", "integrators", "create-token", "demo", "--scope", "rtc:terminate"
    )
    return printed.split()[-1]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
