"""The peer of the forwarding bench: Debian's Janus, its videoroom plugin, over its WebSocket interface.

It does what ours does, as far as it can: transport-wide feedback to publishers, levels of sound and who speaks,
repeats. What it negotiates with the bench's clients is printed by the bench.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from bench.node_process import favour

PORT = 8188
START_SECONDS = 20
LIBRARY = "/usr/lib/x86_64-linux-gnu/janus"
ROOM = 1234
_UNUSED = {
    "plugins": ("audiobridge", "echotest", "streaming", "sip", "nosip", "recordplay", "textroom", "videocall",
                "voicemail", "duktape", "lua"),
    "transports": ("http", "mqtt", "nanomsg", "pfunix", "rabbitmq"),
}  # fmt: skip


class Janus:
    """One session with a running Janus."""

    def __init__(self, process: subprocess.Popen[bytes], participants: int) -> None:
        self._process = process
        self._participants = participants
        self._numbers = itertools.count(1)
        self._socket = self._open()
        self._session = self._ask(janus="create")["data"]["id"]
        self._handles: dict[int, int] = {}
        on = dict.fromkeys(("transport_wide_cc_ext", "audiolevel_ext", "audiolevel_event"), True)
        off = dict.fromkeys(("videoorient_ext", "playoutdelay_ext"), False)  # nobody offers them
        room = {"request": "create", "room": ROOM, "publishers": 100, "bitrate": 0, "videocodec": "vp8"}
        self._message(self._attach(), room | on | off)

    def _open(self) -> ClientConnection:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                address, protocols = f"ws://127.0.0.1:{PORT}", ["janus-protocol"]
                # No pings: nobody answers while the load runs in this thread.
                return connect(address, subprotocols=protocols, ping_interval=None)  # type: ignore[arg-type]
            except OSError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.1)

    async def ask(self, method: str, who: int, text: str) -> str:
        """What :data:`bench.forwarding_load.Ask` is."""
        if method == "publish":
            handle = self._attach()
            self._message(handle, {"request": "join", "ptype": "publisher", "room": ROOM, "id": ROOM + who})
            body = {"request": "configure", "audio": True, "video": True}
            return str(self._message(handle, body, {"type": "offer", "sdp": text})["jsep"]["sdp"])
        if method == "subscribe":
            handle = self._handles[who] = self._attach()
            feeds = [{"feed": ROOM + other} for other in range(self._participants) if other != who]
            body = {"request": "join", "ptype": "subscriber", "room": ROOM, "streams": feeds}
            return str(self._message(handle, body)["jsep"]["sdp"])
        self._message(self._handles[who], {"request": "start"}, {"type": "answer", "sdp": text})
        return ""

    def cpu_seconds(self) -> float:
        """Processor time of all its threads, in user mode and in the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _attach(self) -> int:
        answer = self._ask(janus="attach", plugin="janus.plugin.videoroom", session_id=self._session)
        return int(answer["data"]["id"])

    def _message(self, handle: int, body: dict[str, Any], jsep: dict[str, str] | None = None) -> dict[str, Any]:
        more = {"jsep": jsep} if jsep else {}
        return self._ask(janus="message", session_id=self._session, handle_id=handle, body=body, **more)

    def _ask(self, **message: Any) -> dict[str, Any]:
        transaction = str(next(self._numbers))
        self._socket.send(json.dumps(message | {"transaction": transaction}))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=START_SECONDS))
            if answer.get("transaction") != transaction or answer["janus"] == "ack":
                continue
            if answer["janus"] == "error" or "error" in answer.get("plugindata", {}).get("data", {}):
                raise RuntimeError(f"Janus: {answer}")
            return answer


@contextmanager
def running(directory: Path, address: str, core: int, participants: int) -> Iterator[Janus]:
    """Janus on one core, offering ``address`` only; it ignores the loopback interface."""
    unused = {kind: ",".join(f"libjanus_{name}.so" for name in names) for kind, names in _UNUSED.items()}
    (directory / "janus.jcfg").write_text(
        f"""general: {{ configs_folder = "{directory}" plugins_folder = "{LIBRARY}/plugins"
            transports_folder = "{LIBRARY}/transports" events_folder = "{LIBRARY}/events"
            loggers_folder = "{LIBRARY}/loggers" debug_level = 2 }}
        certificates: {{ }} media: {{ ipv6 = false }}
        nat: {{ ice_enforce_list = "{address}" ice_ignore_list = "vmnet" full_trickle = false }}
        plugins: {{ disable = "{unused["plugins"]}" }} transports: {{ disable = "{unused["transports"]}" }}"""
    )
    (directory / "janus.plugin.videoroom.jcfg").write_text("general: { }")
    (directory / "janus.transport.websockets.jcfg").write_text(
        f'general: {{ json = "compact" ws = true ws_port = {PORT} ws_ip = "127.0.0.1" wss = false }}'
        " admin: { admin_ws = false }"
    )
    janus = ["janus", "-F", str(directory), "-C", str(directory / "janus.jcfg")]
    command = ["taskset", "-c", str(core), *janus]
    with (directory / "janus.log").open("wb") as log:
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=nothing, stdout=log, stderr=log, start_new_session=True)
    favour(process.pid)
    try:
        yield Janus(process, participants)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
