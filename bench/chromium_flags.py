"""With which flags every bench starts Chromium: a fake camera and microphone, no questions, nothing of its own on
the net."""

from __future__ import annotations

FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ALWAYS_AWAKE = ["--disable-background-timer-throttling", "--disable-renderer-backgrounding"]
"""For pages that nobody looks at, and which time something."""
