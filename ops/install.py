"""Install what a bare Debian lacks, or say what is missing and which command installs it.

``python3 -m ops.install run`` for running, ``… test`` for testing as well. Runs on the system's Python
with the standard library alone, before there is a virtual environment. As root it installs; as anybody
else it names the command. Installing twice costs a fraction of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NOT_BUILT = """
The native media engine was NOT built; the compiler's words are above. Greenroom runs without it, but a media node
then carries about a quarter of what it could, and says engine_not_built or engine_unloadable when it starts.
Once the compiler works:  .venv/bin/python -m media.fastpath.build
"""
POLICY = Path("/usr/sbin/policy-rc.d")


class Need(NamedTuple):
    """A program, where it is found, and the Debian package that brings it."""

    name: str
    package: str
    places: tuple[str, ...]


RUN = (
    Need("Python's venv", "python3-venv", ("/usr/lib/python3*/ensurepip/__init__.py",)),
    Need("RabbitMQ", "rabbitmq-server", ("/usr/lib/rabbitmq/bin/rabbitmq-server",)),
    Need("FFmpeg", "ffmpeg", ("/usr/bin/ffmpeg", "/usr/local/bin/ffmpeg")),
    # For the media plane's native half, which is built here.
    Need("a C compiler", "gcc", ("/usr/bin/cc", "/usr/bin/gcc")),
    Need("the C library's headers", "libc6-dev", ("/usr/include/stdio.h",)),
)
TEST = (
    Need("PostgreSQL", "postgresql", ("/usr/lib/postgresql/*/bin/initdb",)),
    Need("coturn", "coturn", ("/usr/bin/turnserver",)),
    Need("Chromium", "chromium", ("/usr/bin/chromium",)),
    # Playwright's driver is linked against it.
    Need("libatomic", "libatomic1", ("/usr/lib/*/libatomic.so.1",)),
    Need("a text font", "fonts-dejavu-core", ("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",)),
    # Spectators' files behind nginx, as deploy/nginx has it.
    Need("nginx", "nginx-light", ("/usr/sbin/nginx",)),
    Need("nginx's JavaScript", "libnginx-mod-http-js", ("/usr/lib/nginx/modules/ngx_http_js_module.so",)),
    Need("an emoji font", "fonts-noto-color-emoji", ("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",)),
)


def main() -> int:
    """Exit status 0 when everything is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purpose", choices=("run", "test"))
    purpose = parser.parse_args().purpose
    if sys.version_info < (3, 11):  # noqa: UP036 (the system's Python, not the project's)
        print("Greenroom needs Python 3.11 or later; this is", sys.version.split()[0])
        return 1
    missing = [need for need in (*RUN, *(TEST if purpose == "test" else ())) if not _present(need)]
    if missing and not _install_packages(missing):
        return 1
    failed = _install_environment("requirements-dev.txt" if purpose == "test" else "requirements.txt")
    if failed or _built():
        return failed
    print(NOT_BUILT, file=sys.stderr)
    # Who runs can do without what is built, slower; who tests cannot.
    return 0 if purpose == "run" else 1


def _present(need: Need) -> bool:
    return any(any(Path("/").glob(place.lstrip("/"))) for place in need.places)


def _install_packages(missing: list[Need]) -> bool:
    names = ", ".join(need.name for need in missing)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *(need.package for need in missing)]
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        install = f"sudo apt-get update && sudo {' '.join(command)}"
        print(f"Missing: {names}.\nInstall with:\n\n    {install}\n\nand run this again.")
        return False
    print(f"Installing {names} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for step in (["apt-get", "update", "-q"], command):
            done = subprocess.run(
                step, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"{' '.join(step)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
                return False
    return True


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep packages from starting the system services that they bring: we run our own, elsewhere."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _install_environment(requirements: str) -> int:
    """A virtual environment with exactly the pinned packages; remembered by the pins' hash."""
    wanted = _fingerprint(requirements)
    stamp = VENV / "installed"
    # What the tests need includes what running needs.
    if stamp.exists() and stamp.read_text() in (wanted, _fingerprint("requirements-dev.txt")):
        return 0
    print(f"Installing the Python packages of {requirements} …", flush=True)
    # A fresh interpreter: ensurepip may have arrived after this one started.
    if not (VENV / "bin" / "python").exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False)
        if made.returncode:
            print("The virtual environment could not be made; remove .venv and try again.")
            return made.returncode
    done = subprocess.run(
        [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", ROOT / requirements],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:
        stamp.write_text(wanted)
    return done.returncode


def _built() -> bool:
    """Build what is ours and not Python; done already, it costs a fraction of a second."""
    command = [str(VENV / "bin" / "python"), "-W", "ignore", "-m", "media.fastpath.build"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def _fingerprint(requirements: str) -> str:
    pins = "".join((ROOT / name).read_text() for name in ("requirements.txt", requirements))
    return f"{requirements} {hashlib.sha256(pins.encode()).hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
