"""A node's figures for Prometheus: counters by kind of room, how open rooms do, and everybody in them.

Every label set is bounded: nodes, kinds, causes and grades are few words; a room has series only while it is open,
and at most ``MOST_ROOMS`` have; a participant is a number in its room, given again when it has left. No user is
named. Read at scrape time from what rooms sampled; knows no packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from media.quality import ORDER
from media.rooms import Room
from media.stats import DROPPED, MEANINGS, add
from models.clock import monotonic_ms
from models.messages.figures import Figures, Seat

KINDS = ("live", "private", "battle")
MOST_ROOMS = 50
"""A scrape holds Python up for as long as it takes: six milliseconds for so many rooms, and one for ten seats."""
Metric = CounterMetricFamily | GaugeMetricFamily
Key = tuple[str, ...]
"""A room's id, and a participant's number in it."""
Value = Callable[[tuple[Seat, ...]], float | None]


def kind_of(room_id: str) -> str:
    """By the first word of its id."""
    word = room_id.partition("-")[0]
    return word if word in KINDS else "other"


class NodeFigures(Collector):
    """One node's collector; ``rooms``: those that are open now."""

    def __init__(
        self, node_id: str, rooms: Callable[[], Collection[Room]], untold: Callable[[], int] = lambda: 0,
        *, most_seats: int = 0,
    ) -> None:  # fmt: skip
        """``untold``: of how many packets and datagrams the native engine could not tell us. ``most_seats``: how
        many participants have series of their own."""
        self._node_id = node_id
        self._rooms = rooms
        self._untold = untold
        self._most_seats = most_seats
        self._ended: dict[str, dict[str, int]] = {}
        """Totals of the rooms that were, by kind, so that no counter falls when a room closes."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def ended(self, room: Room) -> None:
        """The room is over: keep what it counted."""
        add(self._ended.setdefault(kind_of(room.room_id), {}), room.outside.totals())

    def text(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: to be registered must not read anything."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Called for each scrape."""
        rooms = sorted(self._rooms(), key=lambda room: room.room_id)
        now_ms = monotonic_ms()
        totals = {room.room_id: room.outside.totals() for room in rooms}
        seats = {room.room_id: room.outside.seats(now_ms) for room in rooms[:MOST_ROOMS]}
        told = _first(seats, self._most_seats)
        yield from self._counters(totals)
        yield from self._people(rooms)
        yield from self._per_room(seats, totals)
        yield from self._per_seat(told)
        people = sum(len(room.participants) for room in rooms)
        for name, meaning, missing in (
            ("rooms_untold", "Open rooms that have no series of their own", len(rooms) - len(seats)),
            ("participants_untold", "Participants that have none", people - len(told)),
        ):
            untold = GaugeMetricFamily(f"greenroom_media_{name}", meaning, labels=["node"])
            untold.add_metric([self._node_id], max(0, missing))
            yield untold
        records = CounterMetricFamily(
            "greenroom_media_engine_untold_records", "What the native engine had no room to tell", labels=["node"]
        )
        records.add_metric([self._node_id], self._untold())
        yield records

    def _counters(self, of_rooms: dict[str, dict[str, int]]) -> Iterable[Metric]:
        totals = {kind: dict(counted) for kind, counted in self._ended.items()}
        for room_id, counted in of_rooms.items():
            add(totals.setdefault(kind_of(room_id), {}), counted)
        dropped = CounterMetricFamily(
            "greenroom_media_dropped_packets", "Packets that were not forwarded, by cause",
            labels=["node", "kind", "cause"],
        )  # fmt: skip
        for name, meaning in MEANINGS.items():
            family = CounterMetricFamily(f"greenroom_media_{name}", meaning, labels=["node", "kind"])
            for kind, counted in sorted(totals.items()):
                if name in DROPPED:
                    dropped.add_metric([self._node_id, kind, name], counted.get(name, 0))
                else:
                    family.add_metric([self._node_id, kind], counted.get(name, 0))
            if name not in DROPPED:
                yield family
        yield dropped

    def _people(self, open_rooms: Iterable[Room]) -> Iterable[Metric]:
        labels = ["node", "kind"]
        rooms = GaugeMetricFamily("greenroom_media_rooms", "Rooms that are open here", labels=labels)
        people = GaugeMetricFamily("greenroom_media_participants", "Seats that are taken", labels=labels)
        grades = GaugeMetricFamily(
            "greenroom_media_participant_quality", "Participants by how they are connected",
            labels=[*labels, "quality"],
        )  # fmt: skip
        for kind in (*KINDS, "other"):
            mine = [room for room in open_rooms if kind_of(room.room_id) == kind]
            graded = Counter(grade for room in mine for grade in room.outside.grades())
            rooms.add_metric([self._node_id, kind], len(mine))
            people.add_metric([self._node_id, kind], sum(len(room.participants) for room in mine))
            for quality in ORDER:
                grades.add_metric([self._node_id, kind, quality], graded[quality])
        return rooms, people, grades

    def _per_room(
        self, seats: dict[str, tuple[Seat, ...]], totals: dict[str, dict[str, int]]
    ) -> Iterable[Metric]:
        of: dict[Key, tuple[Seat, ...]] = {(room_id,): taken for room_id, taken in seats.items()}
        for name, meaning, value in (*_SUMS, *_FIGURES):
            yield self._gauge(f"room_{name}", f"Of {_WHOSE['room']}: {meaning}", of, value)
        yield from self._counted("room", {(room_id,): totals[room_id] for room_id in seats})

    def _per_seat(self, seats: dict[Key, Seat]) -> Iterable[Metric]:
        of: dict[Key, tuple[Seat, ...]] = {key: (seat,) for key, seat in seats.items()}
        for name, meaning, value in _FIGURES:
            yield self._gauge(f"participant_{name}", f"Of {_WHOSE['participant']}: {meaning}", of, value)
        yield from self._counted("participant", {key: seat.totals for key, seat in seats.items()})

    def _gauge(
        self, name: str, meaning: str, of: dict[Key, tuple[Seat, ...]], value: Value
    ) -> Metric:
        family = GaugeMetricFamily(f"greenroom_media_{name}", meaning, labels=_labels(name))
        for key, taken in of.items():
            if (found := value(taken)) is not None:
                family.add_metric([self._node_id, kind_of(key[0]), *key], found)
        return family

    def _counted(self, whose: str, totals: dict[Key, dict[str, int]]) -> Iterable[Metric]:
        for name in COUNTED:
            meaning = f"Of {_WHOSE[whose]}: {MEANINGS[name]}"
            family = CounterMetricFamily(f"greenroom_media_{whose}_{name}", meaning, labels=_labels(whose))
            for key, counted in totals.items():
                family.add_metric([self._node_id, kind_of(key[0]), *key], counted.get(name, 0))
            yield family
        dropped = CounterMetricFamily(
            f"greenroom_media_{whose}_dropped_packets",
            f"Of {_WHOSE[whose]}: packets that were not forwarded, by cause",
            labels=[*_labels(whose), "cause"],
        )
        for key, counted in totals.items():
            for cause in DROPPED:
                dropped.add_metric([self._node_id, kind_of(key[0]), *key, cause], counted.get(cause, 0))
        yield dropped


def _first(seats: dict[str, tuple[Seat, ...]], most: int) -> dict[Key, Seat]:
    """By room and number, as many as may be told of."""
    all_of_them = ((room_id, seat) for room_id, taken in seats.items() for seat in taken if seat.number)
    return {(room_id, str(seat.number)): seat for room_id, seat in islice(all_of_them, most)}


def _labels(name: str) -> list[str]:
    return ["node", "kind", "room"] + ["seat"] * name.startswith("participant")


def _known(taken: tuple[Seat, ...], name: str) -> list[float]:
    figures: list[Figures] = [seat.figures for seat in taken if seat.figures is not None]
    values = [getattr(each, name) for each in figures]
    return [value for value in values if value is not None]


def _sum(name: str, scale: float) -> Callable[[tuple[Seat, ...]], float | None]:
    return lambda taken: scale * sum(_known(taken, name))


def _worst(name: str, scale: float) -> Callable[[tuple[Seat, ...]], float | None]:
    """None where nobody knows: an unknown loss is not none."""
    return lambda taken: max((scale * value for value in _known(taken, name)), default=None)


def _least(name: str, scale: float) -> Callable[[tuple[Seat, ...]], float | None]:
    return lambda taken: min((scale * value for value in _known(taken, name)), default=None)


def _limited(taken: tuple[Seat, ...]) -> float | None:
    figures = [seat.figures for seat in taken if seat.figures is not None]
    return sum(any(each.pictures[1:]) for each in figures) if figures else None


def _layers(taken: tuple[Seat, ...]) -> float | None:
    """Somebody without simulcast sends one of each picture."""
    figures = [seat.figures for seat in taken if seat.figures is not None]
    lines = [line for each in figures for line in each.lines if line.kind == "video"]
    return sum(max(1, len(line.layers)) for line in lines) if figures else None


COUNTED = ("packets_in", "packets_out", "keyframes", "keyframes_asked")
"""Of all counters, those that rooms and participants have series of their own for, beside what was dropped."""
_WHOSE = {"room": "an open room", "participant": "somebody in a room"}
_FIGURES: tuple[tuple[str, str, Value], ...] = (
    ("in_bits_per_second", "what is sent to us", _sum("kbit_in", 1000)),
    ("out_bits_per_second", "what we send, payload", _sum("kbit_out", 1000)),
    ("in_loss_ratio", "lost before us (the worst)", _worst("loss_in", 0.01)),
    ("out_loss_ratio", "lost behind us (the worst)", _worst("loss_out", 0.01)),
    ("line_bits_per_second", "what the line carries (the narrowest)", _least("kbit_line", 1000)),
    ("round_trip_seconds", "there and back (the worst)", _worst("rtt_ms", 0.001)),
    ("layers", "sizes of pictures that are sent to us", _layers),
)
"""Of several seats, or of one."""
_SUMS: tuple[tuple[str, str, Value], ...] = (
    ("participants", "seats that are taken", len),
    ("limited_participants", "whose line carries less than they want", _limited),
)
