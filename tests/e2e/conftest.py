"""Real Chromium with a fake camera against a running house."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from bench.chromium_flags import with_camera
from ops.house import House
from ops.supervise import DEMO_PASSWORD

# Ten pictures a second: two videos and their codecs leave a small machine room for the house.
FLAGS = with_camera("fps=10")
# A bound for what never comes, not a measure of how fast it should: machines are slow and shared.
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)

SMALL_CAMERA = """(() => {
  const devices = navigator.mediaDevices;
  const ask = devices?.getUserMedia.bind(devices);
  const size = { width: { ideal: 320 }, height: { ideal: 180 } };
  const smaller = ({ video, ...rest }) => ({ ...rest, video: video && { ...video, ...size } });
  if (ask) devices.getUserMedia = (constraints) => ask(smaller(constraints));
})();"""
"""Where what a camera shows is not looked at, its picture is small, and sent in one size instead of three."""

SignIn = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless, whose camera is a moving test picture and whose microphone beeps.

    One for each module: its driver keeps an event loop in the main thread, which other modules have to have free.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def camera() -> str:
    """A script that each page begins with: none, or a module's own, SMALL_CAMERA."""
    return ""


@pytest.fixture
def new_context(chromium: Browser, camera: str) -> Iterator[Callable[..., BrowserContext]]:
    """A fresh person's browser: own cookies, camera allowed. Closed at the end of the test.

    Somebody who wants no motion: a mark that breathes has the page drawn again and again, a fifth of what a call
    costs.
    """
    contexts: list[BrowserContext] = []

    def make(**options: object) -> BrowserContext:
        wishes: dict[str, object] = {"permissions": ["camera", "microphone"], "reduced_motion": "reduce"}
        context = chromium.new_context(**wishes | options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        if camera:
            context.add_init_script(camera)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def sign_in(new_context: Callable[..., BrowserContext]) -> SignIn:
    """``sign_in(house, "fan_a")``: a page of a demo person, signed in through the form."""

    def enter(house: House, handle: str, **options: object) -> Page:
        page = new_context(**options).new_page()
        page.goto(f"{house.environment['PUBLIC_URL']}/login")
        page.get_by_label("Email", exact=True).fill(f"{handle}@demo.test")
        page.get_by_label("Password", exact=True).fill(DEMO_PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page).not_to_have_url(f"{house.environment['PUBLIC_URL']}/login")
        return page

    return enter
