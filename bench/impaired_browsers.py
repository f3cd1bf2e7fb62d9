"""The two browsers of ``bench-impaired`` behind one small face: go somewhere, run a function there.

Chromium is driven by Playwright. Firefox (Debian's ``firefox-esr``, which the bench says it needs) speaks
WebDriver BiDi itself: a JSON text frame is a command with a number, and one with that number is its answer
(https://www.w3.org/TR/webdriver-bidi/). Its port is open only at the client's place in the net. Knows nothing of
what pages do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import Page as PlaywrightPage
from playwright.async_api import Playwright
from websockets.asyncio.client import ClientConnection, connect

from bench.chromium_flags import ALWAYS_AWAKE, FLAGS
from bench.impaired_net import NODE_ADDRESS, Client

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.1
CHROMIUM, FIREFOX = "/usr/bin/chromium", "/usr/bin/firefox-esr"
FIREFOX_PORT = 9222
"""Each browser is alone at its place."""
MOST_BYTES = 64 * 2**20
_PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.getusermedia.insecure.enabled": True,
    "dom.securecontext.allowlist": NODE_ADDRESS,
    "media.devices.insecure.enabled": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.autoplay.block-webaudio": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "toolkit.telemetry.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "dom.disable_open_during_load": False,
}


class Page(Protocol):
    """What a person does with a page here."""

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """What the function returns, called with ``arg``; both are JSON."""

    async def goto(self, url: str) -> Any:
        """There, and loaded."""

    async def reload(self) -> Any:
        """Once more."""


class Browser(Protocol):
    """A started one, with one page."""

    page: Page

    async def close(self) -> None:
        """End it."""


async def until(page: Page, condition: str) -> None:
    """Wait for a JavaScript expression to be true. TimeoutError when it does not become so."""
    look = f"const look = () => (({condition}) ? resolve(true) : setTimeout(look, 50)); look();"
    async with asyncio.timeout(PATIENCE_SECONDS):
        await page.evaluate(f"() => new Promise((resolve) => {{ {look} }})")


class Chromium:
    """Chromium at a client's place, with a camera and a microphone that play files."""

    def __init__(self, browser: Any, page: PlaywrightPage) -> None:
        self._browser = browser
        self.page: Page = page

    @classmethod
    async def start(
        cls, playwright: Playwright, client: Client, var: Path, url: str, script: str, media: dict[str, Path]
    ) -> Chromium:
        """``script`` runs before every page of ``url``'s; ``media``: what camera and microphone play, by kind."""
        flags = [*FLAGS, *ALWAYS_AWAKE, f"--unsafely-treat-insecure-origin-as-secure={url}"]
        flags += [f"--use-file-for-fake-{kind}-capture={path}" for kind, path in media.items()]
        program = str(client.program(var / f"chromium-{client.address}", CHROMIUM))
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        context = await browser.new_context(permissions=["camera", "microphone"])
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        await context.add_init_script(f"({script})();")
        return cls(browser, await context.new_page())

    async def close(self) -> None:
        """End it."""
        await self._browser.close()


class Firefox:
    """Firefox at a client's place; its fake camera shows colours, its fake microphone hums."""

    def __init__(self, process: subprocess.Popen[bytes], socket: ClientConnection, profile: Path) -> None:
        self._process = process
        self._socket = socket
        self._profile = profile
        self._numbers = itertools.count(1)
        self._context = ""
        self.page: Page = self

    @classmethod
    async def start(cls, client: Client, var: Path, script: str) -> Firefox:
        """``script`` runs before every page's own. FileNotFoundError without Firefox."""
        profile = var / f"firefox-{client.address}"
        profile.mkdir()
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items())
        (profile / "user.js").write_text("".join(lines))
        process = _firefox(client, profile)
        try:
            socket = await cls._connected(client)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        self = cls(process, socket, profile)
        await self._say("session.new", capabilities={})
        tree = await self._say("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]
        await self._say("script.addPreloadScript", functionDeclaration=script)
        return self

    @staticmethod
    async def _connected(client: Client) -> ClientConnection:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    found = await asyncio.to_thread(client.connected, FIREFOX_PORT)
                    address = f"ws://127.0.0.1:{FIREFOX_PORT}/session"
                    return await connect(address, sock=found, max_size=MOST_BYTES, ping_interval=None)
                except OSError:
                    await asyncio.sleep(LOOK_SECONDS)

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """See ``Page``. RuntimeError with what the page threw."""
        function = f"async (text) => JSON.stringify((await ({expression})(JSON.parse(text))) ?? null)"
        answer = await self._say(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[{"type": "string", "value": json.dumps(arg)}],
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] != "success":
            raise RuntimeError(str(answer["exceptionDetails"].get("text")))
        return json.loads(answer["result"]["value"])

    async def goto(self, url: str) -> Any:
        """See ``Page``."""
        return await self._say("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def reload(self) -> Any:
        """See ``Page``."""
        return await self._say("browsingContext.reload", context=self._context, wait="complete")

    async def _say(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                said = json.loads(await self._socket.recv())
                if said.get("id") != number:
                    continue
                if said["type"] == "error":
                    raise RuntimeError(f"{method}: {said['error']}: {said['message']}")
                return said["result"]

    async def close(self) -> None:
        """End it, and forget its profile."""
        await self._socket.close()
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, 10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)


def _firefox(client: Client, profile: Path) -> subprocess.Popen[bytes]:
    command = [*client.enter, FIREFOX, "--headless", "--no-remote", "--profile", str(profile)]
    with (profile / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, f"--remote-debugging-port={FIREFOX_PORT}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "HOME": str(profile)},
        )  # fmt: skip
