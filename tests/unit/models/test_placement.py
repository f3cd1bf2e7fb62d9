"""The arithmetic of placement: most room left first, nothing counted twice or forgotten."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models.services.placement import NodeLoad, choose

NODES = st.lists(
    st.builds(
        NodeLoad,
        node_id=st.sampled_from([f"media-{number}" for number in range(9)]),
        capacity=st.integers(2, 400),
        reported=st.integers(0, 450),
        placed=st.integers(0, 60),
        seated=st.integers(0, 450),
    ),
    max_size=9,
    unique_by=lambda node: node.node_id,
)


@given(NODES, st.integers(1, 20))
def test_the_one_with_the_most_room_left_and_none_where_it_does_not_fit(nodes: list[NodeLoad], seats: int) -> None:
    chosen = choose(nodes, seats)
    fitting = {node.node_id: node.left for node in nodes if node.left >= seats}
    if chosen is None:
        assert not fitting
    else:
        assert fitting[chosen] == max(node.left for node in nodes)


@given(NODES)
def test_the_order_in_which_nodes_are_listed_decides_nothing(nodes: list[NodeLoad]) -> None:
    assert choose(nodes, 2) == choose(reversed(nodes), 2)


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 100))
def test_rooms_that_are_opened_before_anybody_reports_are_spread_evenly(
    count: int, rooms: int, reported: int
) -> None:
    # given nodes alike, whose reports do not change while rooms are opened
    nodes = {f"media-{n}": NodeLoad(node_id=f"media-{n}", capacity=400, reported=reported) for n in range(count)}
    placed: Counter[str] = Counter(dict.fromkeys(nodes, 0))
    for _ in range(rooms):
        chosen = choose(nodes.values(), 2)
        assert chosen is not None
        placed[chosen] += 1
        nodes[chosen] = msgspec.structs.replace(nodes[chosen], placed=2 * placed[chosen])
    # then none has more than one room more than another
    assert max(placed.values()) - min(placed.values()) <= 1


@given(st.integers(2, 50), st.integers(2, 50))
def test_a_house_takes_as_many_rooms_as_fit_and_not_one_more(first: int, second: int) -> None:
    nodes = {"a": NodeLoad(node_id="a", capacity=first), "b": NodeLoad(node_id="b", capacity=second)}
    opened = 0
    while (chosen := choose(nodes.values(), 2)) is not None:
        nodes[chosen] = msgspec.structs.replace(nodes[chosen], placed=nodes[chosen].placed + 2)
        opened += 1
    assert opened == first // 2 + second // 2
