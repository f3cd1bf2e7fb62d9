"""``make run``: the whole house on this machine, in demo mode unless told otherwise, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from ops.house import ROOT, House, HouseError, secret_key
from ops.rabbitmq import RabbitError, RabbitNode

DEMO_SIGN_INS = (
    ("Creator", "creator_a@demo.test"),
    ("Fan", "fan_a@demo.test"),
    ("Admin", "admin@demo.test"),
)
DEMO_PASSWORD = "greenroom-demo"  # noqa: S105 (printed on purpose; demo mode listens on loopback only)


def main() -> int:
    """Exit status 0 after Ctrl-C, 1 when something did not come up."""
    var = Path(os.environ.get("VAR_DIR", ROOT / "var"))
    environment = _environment(var)
    # A broker of the operator's own is used as it is; ours is private to this directory.
    broker = None if "AMQP_URL" in os.environ else RabbitNode(var / "rabbitmq", int(environment["RABBITMQ_PORT"]))
    demo = environment["DEMO"] == "1"
    names = ("media", "worker", "transcode", "clock", "web", *(("demo",) if demo else ()))
    house = House(environment, var=var, names=names, broker=broker, say=_say)
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            ended.set()
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        house.start()
        _greet(house, demo)
        house.watch()
    except KeyboardInterrupt:
        _say("stopping")
    except (HouseError, RabbitError) as error:
        _say(str(error))
        return 1
    finally:
        ended.set()
        house.stop()
        _say("stopped")
    return 0


def _environment(var: Path) -> dict[str, str]:
    """What the operator set, and this machine's defaults for the rest."""
    given = os.environ
    port = given.get("PORT", "8080")
    return {
        "HOST": given.get("HOST", "127.0.0.1"),
        "PORT": port,
        "DEMO": given.get("DEMO", "1"),
        "PUBLIC_URL": given.get("PUBLIC_URL", f"http://localhost:{port}"),
        "SECRET_KEY": given.get("SECRET_KEY") or secret_key(var),
        "MEDIA_ADDRESSES": given.get("MEDIA_ADDRESSES", "127.0.0.1" if given.get("DEMO", "1") == "1" else ""),
        "RABBITMQ_PORT": given.get("RABBITMQ_PORT", "5872"),
    }


def _greet(house: House, demo: bool) -> None:
    lines = ["", f"Greenroom is at {house.environment['PUBLIC_URL']}"]
    if demo:
        lines += ["", f"Demo sign-ins (password {DEMO_PASSWORD}):"]
        lines += [f"  {role:<8}{address}" for role, address in DEMO_SIGN_INS]
    lines += ["", f"Logs are in {house.var / 'log'}. Ctrl-C stops everything.", ""]
    print("\n".join(lines), flush=True)


def _say(text: str) -> None:
    print(f"greenroom: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
