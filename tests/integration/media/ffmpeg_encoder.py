"""FFmpeg's own WHIP muxer as an encoder, in a process of its own: ``URL KEY CERTIFICATE PRIVATE_KEY``.

It shares nothing with what the node is made of: its ICE, its DTLS (GnuTLS) and its packets are its own. It sends
H.264 in its Main profile with a key frame every two seconds and asks for no other, until its input ends. The
certificate is given, as the one that it makes itself under GnuTLS is of a curve that OpenSSL does not take.
"""

from __future__ import annotations

import fractions
import sys
import threading
import time

import av

WIDTH, HEIGHT, FPS, RATE, SAMPLES = 160, 120, 15, 48_000, 960
HANDSHAKE_MS = 100_000


def publish(url: str, key: str, certificate: str, private_key: str, over: threading.Event) -> None:
    """Be on the air until it is ``over``; ends with a DELETE."""
    options = {
        "authorization": key, "cert_file": certificate, "key_file": private_key,
        "handshake_timeout": str(HANDSHAKE_MS),
    }  # fmt: skip
    with av.open(url, "w", format="whip", options=options) as output:
        picture = output.add_stream("libx264", rate=FPS)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.codec_context.gop_size = 2 * FPS
        picture.options = {"preset": "veryfast", "tune": "zerolatency", "profile": "main", "bf": "0"}
        sound = output.add_stream("libopus", rate=RATE)
        sound.layout, sound.bit_rate = "stereo", 64_000
        began, pictures, sounds = time.monotonic(), 0, 0
        while not over.wait(0.005):
            now = time.monotonic() - began
            while pictures / FPS <= now:
                output.mux(picture.encode(_picture(pictures)))
                pictures += 1
            while sounds * SAMPLES / RATE <= now:
                output.mux(sound.encode(_silence(sounds)))
                sounds += 1


def _picture(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([number * 5 & 0xFF]) * plane.buffer_size)
    frame.pts, frame.time_base = number, fractions.Fraction(1, FPS)
    return frame


def _silence(number: int) -> av.AudioFrame:
    frame = av.AudioFrame(format="flt", layout="stereo", samples=SAMPLES)
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    frame.sample_rate, frame.pts, frame.time_base = RATE, number * SAMPLES, fractions.Fraction(1, RATE)
    return frame


def main() -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.is_set():
        try:
            publish(*sys.argv[1:5], over)
        except (OSError, av.error.FFmpegError) as error:
            # A room that is not open yet is said to come soon: encoders try again by themselves.
            print(f"{type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
            over.wait(1)


if __name__ == "__main__":
    main()
