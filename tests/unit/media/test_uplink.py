"""What a publisher is told whose line has become far narrower than what it sends."""

from __future__ import annotations

from media.uplink import DOUBLES_MS, HOLD_MS, LEAST, WIDE, WINDOW_MS, Uplink

TICK_MS = 100


class Sender:
    """Packets of 1,000 bytes, 200 a second, and what the node looks at ten times a second."""

    def __init__(self) -> None:
        self.uplink = Uplink()
        self.now_ms = self.due = self.came = self.told = 0

    def run(self, ms: int, loss: float) -> None:
        for _ in range(ms // TICK_MS):
            self.now_ms += TICK_MS
            self.due += 20
            self.came += round(20 * (1 - loss))
            self.told += self.uplink.look(self.due, self.came, 1_000 * self.came, self.now_ms)


def test_who_loses_no_more_than_radio_does_is_not_held_back() -> None:
    sender = Sender()
    sender.run(10_000, 0.0)
    sender.run(10_000, 0.2)
    assert (sender.uplink.bitrate, sender.told) == (None, 0)


def test_who_sends_far_too_much_is_told_at_once_what_comes_through_and_is_free_again_soon() -> None:
    sender = Sender()
    sender.run(3_000, 0.0)
    sender.run(WINDOW_MS, 0.8)
    # A fifth of 1.6 Mbit/s comes
    assert sender.told == 1
    assert sender.uplink.bitrate is not None
    assert 0.8 * 320_000 < sender.uplink.bitrate < 320_000
    held = sender.uplink.bitrate
    sender.run(HOLD_MS - 2 * TICK_MS, 0.0)
    assert sender.uplink.bitrate == held
    # Then it doubles, until nobody needs to know
    sender.run(TICK_MS, 0.0)
    assert sender.uplink.bitrate == 2 * held
    sender.run(DOUBLES_MS * 4, 0.0)
    assert sender.uplink.bitrate is None
    assert held * 16 >= WIDE
    assert sender.told == 1


def test_a_cap_only_falls_while_the_flood_lasts_and_never_to_nothing() -> None:
    sender = Sender()
    sender.run(1_000, 0.0)
    sender.run(WINDOW_MS, 0.8)
    first = sender.uplink.bitrate
    sender.run(2 * WINDOW_MS, 0.4)
    assert sender.uplink.bitrate == first, "more came through, but that was lost, too"
    sender.run(3_000, 1.0)
    assert sender.uplink.bitrate == LEAST


def test_few_packets_say_nothing() -> None:
    uplink = Uplink()
    assert not any(uplink.look(4 * tick, 0, 0, TICK_MS * tick) for tick in range(40))
