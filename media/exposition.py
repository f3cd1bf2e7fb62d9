"""A node's figures for Prometheus: counters by kind of room, and how open rooms do.

Every label set is bounded: nodes, kinds, causes and grades are few words; a room has series only while it is open,
and at most ``MOST_ROOMS`` have. No user is named. Read at scrape time from what rooms sampled; knows no packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

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
"""A scrape holds the packets up for as long as it takes: some milliseconds for so many rooms."""
Metric = CounterMetricFamily | GaugeMetricFamily


def kind_of(room_id: str) -> str:
    """By the first word of its id."""
    word = room_id.partition("-")[0]
    return word if word in KINDS else "other"


class NodeFigures(Collector):
    """One node's collector; ``rooms``: those that are open now."""

    def __init__(
        self, node_id: str, rooms: Callable[[], Collection[Room]], untold: Callable[[], int] = lambda: 0
    ) -> None:
        """``untold``: of how many packets and datagrams the native engine could not tell us."""
        self._node_id = node_id
        self._rooms = rooms
        self._untold = untold
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
        yield from self._counters(rooms)
        yield from self._people(rooms)
        yield from self._per_room({room.room_id: room.outside.seats(now_ms) for room in rooms[:MOST_ROOMS]})
        untold = GaugeMetricFamily(
            "greenroom_media_rooms_untold", "Open rooms that have no series of their own", labels=["node"]
        )
        untold.add_metric([self._node_id], max(0, len(rooms) - MOST_ROOMS))
        yield untold
        records = CounterMetricFamily(
            "greenroom_media_engine_untold_records", "What the native engine had no room to tell", labels=["node"]
        )
        records.add_metric([self._node_id], self._untold())
        yield records

    def _counters(self, rooms: Iterable[Room]) -> Iterable[Metric]:
        totals = {kind: dict(counted) for kind, counted in self._ended.items()}
        for room in rooms:
            add(totals.setdefault(kind_of(room.room_id), {}), room.outside.totals())
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

    def _per_room(self, seats: dict[str, tuple[Seat, ...]]) -> Iterable[Metric]:
        return (
            self._gauge("participants", "Seats that are taken", seats, len),
            self._gauge("in_bits_per_second", "What all its participants send", seats, _sum("kbit_in", 1000)),
            self._gauge("out_bits_per_second", "What all are sent, payload", seats, _sum("kbit_out", 1000)),
            self._gauge("in_loss_ratio", "Lost before us, of the worst", seats, _worst("loss_in", 0.01)),
            self._gauge("out_loss_ratio", "Lost behind us, of the worst", seats, _worst("loss_out", 0.01)),
            self._gauge("line_bits_per_second", "The narrowest line to one", seats, _least("kbit_line", 1000)),
            self._gauge("limited_participants", "Whose line carries less than they want", seats, _limited),
            self._gauge("round_trip_seconds", "There and back, of the worst", seats, _worst("rtt_ms", 0.001)),
        )

    def _gauge(
        self, name: str, meaning: str, seats: dict[str, tuple[Seat, ...]],
        value: Callable[[tuple[Seat, ...]], float | None],
    ) -> Metric:  # fmt: skip
        family = GaugeMetricFamily(
            f"greenroom_media_room_{name}", f"Of an open room: {meaning}", labels=["node", "kind", "room"]
        )
        for room_id, taken in seats.items():
            if (found := value(taken)) is not None:
                family.add_metric([self._node_id, kind_of(room_id), room_id], found)
        return family


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
