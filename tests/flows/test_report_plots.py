"""The drawings of a report: ticks, places of values, lines with gaps, legends, and well-formed SVG."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.report.plots import POINTS, Level, Line, Plot, draw, draw_histogram, ticks

FINITE = st.floats(-1e12, 1e12)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.12, 1.12, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0, 126_000, ["0", "25k", "50k", "75k", "100k", "125k"]),
        (0, 2_100, ["0", "500", "1,000", "1,500", "2,000"]),
        (0, 12.9, ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"]),
        (-1_600, 3_200, ["-1,000", "0", "1,000", "2,000", "3,000"]),
        (0, 6.5e-6, ["0", "2e-06", "4e-06", "6e-06"]),
        (0, 4.1e7, ["0", "10M", "20M", "30M", "40M"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, labels: list[str]) -> None:
    assert list(ticks(low, high).values()) == labels


@given(FINITE, FINITE)
def test_ticks_lie_in_their_range_and_read_as_their_values(low: float, high: float) -> None:
    if high - low <= 1e-6 * max(abs(low), abs(high)) or high - low < 1e-200:
        return
    found = ticks(low, high)
    step = (high - low) / 3
    assert 2 <= len(found) <= 7 and len(set(found.values())) == len(found)
    assert all(low - 1e-6 * step <= tick <= high + 1e-6 * step for tick in found)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def points(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]
        for line in re.findall(r'points="([^"]*)"', svg)
    ]


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    line = Line("", [0, 1, 2, 3, 4], [1.0, 2.0, math.nan, 3.0, math.inf])
    first, second = points(draw(Plot("t", "d", "x", "y", [line])))
    assert len(first) == 2 and len(second) == 1
    assert first[0][0] < first[1][0] < second[0][0] and first[0][1] > first[1][1] > second[0][1]


def test_a_long_line_keeps_its_ends_and_its_extremes() -> None:
    values = [math.sin(step / 50) for step in range(10_000)]
    values[4_321], values[7_777] = 9.0, -9.0
    (drawn,) = points(draw(Plot("t", "d", "x", "y", [Line("", list(range(10_000)), values)])))
    (short,) = points(draw(Plot("t", "d", "x", "y", [Line("", [0, 4_321, 7_777, 9_999], [0, 9.0, -9.0, values[-1]])])))
    assert len(drawn) <= POINTS + 4 and set(short) <= set(drawn)


def test_bars_stand_on_one_another() -> None:
    svg = draw_histogram("t", "d", [0, 0.5, 1], [("kept", [3, 0]), ("dropped", [1, 2])], ("score", "documents"))
    bars = [node.attrib for node in parsed(svg) if node.tag == "rect" and node.get("rx") is None]
    low, high = (next(bar for bar in bars if bar["fill"] == f"var(--series-{number})") for number in (1, 2))
    assert len(bars) == 3 and low["x"] == high["x"]
    assert float(high["y"]) + float(high["height"]) == pytest.approx(float(low["y"]), abs=0.02)
    assert float(low["height"]) == pytest.approx(3 * float(high["height"]), abs=0.05)


def test_texts_are_escaped_and_legends_only_where_there_is_a_choice() -> None:
    two = [Line("<a> & b", [0, 1], [0, 1]), Line('"c"', [0, 1], [1, 0], colour=1), Line("", [0, 1], [1, 1], "band")]
    svg = draw(Plot("<t>", 'say "d" & e', "<x>", "y", two, [Level("level <1>", 0.5)]))
    root = parsed(svg)
    texts = [node.text for node in root if node.tag == "text"]
    assert root.get("aria-label") == '<t>. say "d" & e' and {"<a> & b", '"c"', "<x>", "level <1>"} <= set(texts)
    alone = [node.text for node in parsed(draw(Plot("t", "d", "x", "y", two[:1]))) if node.tag == "text"]
    assert "<a> & b" not in alone


@pytest.mark.parametrize("line", [Line("a", [], []), Line("a", [5], [0.3]), Line("a", [1, 2], [math.nan, math.nan])])
def test_a_figure_of_little_or_nothing_has_its_axes(line: Line) -> None:
    root = parsed(draw(Plot("t", "d", "step", "loss", [line])))
    assert sum(node.tag == "text" for node in root) >= 6
    assert sum(node.tag == "circle" for node in root) == (len(line.x) == 1)
