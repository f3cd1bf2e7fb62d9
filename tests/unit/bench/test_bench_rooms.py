"""The arithmetic of ``bench-joins``, ``bench-cut`` and ``bench-first-frame``, and the plot."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.callers import Line
from bench.cut_load import p99
from bench.first_frame import at
from bench.joins import Sample, slope_an_hour
from bench.node_process import Figures
from bench.plots import Panel, write_svg
from media import rtp
from media.codecs import vp8_keyframe


def sample(seconds: float, tasks: int) -> Sample:
    figures = Figures(
        rss_kib=2048, descriptors=9, tasks=tasks, port=(1, 2, 3), participants=1, objects={"srtp": 4},
        cpu_seconds=1.0,
    )  # fmt: skip
    return Sample(seconds, 7, 6, figures)


def test_what_grows_shows_in_the_slope_of_an_hour_and_what_does_not_has_none() -> None:
    samples = [sample(5.0 * number, 100 + number) for number in range(10)]
    assert slope_an_hour(samples, "tasks") == pytest.approx(720.0)
    assert slope_an_hour(samples, "RSS MiB") == pytest.approx(0.0)
    assert samples[0].values()["port tables"] == 6


def test_percentiles_of_few_values_are_among_the_worst() -> None:
    values = [float(number) for number in range(30, 0, -1)]
    assert p99(values) == 30.0
    assert at(values, 0.95) == 29.0


def test_a_plot_has_its_caption_and_a_point_for_each_value(tmp_path: Path) -> None:
    # given
    path = tmp_path / "plot.svg"
    # when
    panels = [Panel("RSS", [1.0, 2.0, 4.0]), Panel("none", [0.0, 0.0, 0.0])]
    write_svg(path, "a < b", [0.0, 5.0, 10.0], panels, 2.5)
    # then
    plot = ElementTree.parse(path).getroot()
    names = {element.tag.rpartition("}")[2] for element in plot}
    assert {"title", "rect", "polyline", "line"} <= names
    assert [element.text for element in plot if element.tag.endswith("title")] == ["a < b"]
    curves = [element.attrib["points"].split() for element in plot if element.tag.endswith("polyline")]
    assert [len(points) for points in curves] == [3, 3]
    highest, lowest = (float(point.partition(",")[2]) for point in (curves[0][2], curves[0][0]))
    assert highest < lowest


def test_what_callers_send_is_rtp_that_starts_a_key_frame() -> None:
    line = Line(ssrc=77, payload_type=97)
    packets = [line.packet(1200, 9_000) for _ in range(2)]
    assert [len(packet) for packet in packets] == [1200, 1200]
    assert [int.from_bytes(packet[2:4], "big") for packet in packets] == [1, 2]
    bounds = rtp.payload_bounds(packets[1])
    assert bounds == (12, 1200)
    assert vp8_keyframe(packets[1][12:])
