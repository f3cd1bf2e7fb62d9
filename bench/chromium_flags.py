"""With which flags every bench and test starts Chromium: a fake camera and microphone, no questions, nothing of
its own on the net, and nothing that only a person at the address bar would see."""

from __future__ import annotations

PLAYWRIGHT_DOES_WITHOUT = (
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "TcpPortRandomizationWin",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
    "msForceBrowserSignIn",
    "msEdgeUpdateLaunchServicesPreferredVersion",
)
"""Of two lists Chromium takes the last: what Playwright's own says is repeated in ours."""
# Two pages behind the address bar of each window, whose loading costs twice what the window itself does.
ADDRESS_BAR = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup")
CAMERA = "--use-fake-device-for-media-stream"
FLAGS = [
    "--no-sandbox",
    CAMERA,
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--disable-features={','.join((*PLAYWRIGHT_DOES_WITHOUT, *ADDRESS_BAR))}",
]
ALWAYS_AWAKE = ["--disable-background-timer-throttling", "--disable-renderer-backgrounding"]
"""For pages that nobody looks at, and which time something."""


def with_camera(options: str) -> list[str]:
    """The same flags with a fake camera as Chromium's options say: ``fps=10``, ``device-count=3``."""
    return [f"{flag}={options}" if flag == CAMERA else flag for flag in FLAGS]
