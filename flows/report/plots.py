"""Plots as inline SVG that takes its colours from the page, so that one drawing serves light, dark and print.

Drawn here and not by matplotlib, which took two of a report's three seconds: lines, dots and bars over two linear axes
are all that a report has. `flows.report.png` draws the same curves with matplotlib, for pages that are not ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT = 374.0, 216.0  # points; the page scales them
FONT, SMALL = 10.0, 9.0
DIGIT = 0.58  # the width of a digit or letter in sizes of the font, rather too wide
COLOURS = 4  # of style.css: --series-1 and on
TICKS = 6  # at most so many intervals between ticks
POINTS = 600  # beyond so many, a line is drawn by the least and greatest of each pixel
Segment = list[tuple[float, float]]
Look = dict[str, str | float]


@dataclass(frozen=True)
class Line:
    """A series: `style` is `line`, `dots` (a line with marks), or `band` (thin and pale, behind the others)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"
    colour: int = 0


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    label: str
    y: float


@dataclass
class Plot:
    """What a figure shows; `describe` is read aloud instead of it."""

    title: str
    describe: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)


def draw(plot: Plot) -> Markup:
    """Curves as SVG."""
    shown = [line for line in plot.lines if line.label and line.style != "band"]
    keys = [(line.label, line.colour) for line in shown] if len(shown) > 1 else []
    xs = _range((x for line in plot.lines for x in line.x), 0.05)
    heights = [y for line in plot.lines for y in line.y]
    ys = _range([*heights, *(level.y for level in plot.levels)], 0.12)
    axes = _Axes(xs, ys, (plot.x_label, plot.y_label), keys)
    parts = [part for line in plot.lines for part in _line(axes, line)]
    parts += [part for level in plot.levels if math.isfinite(level.y) for part in _level(axes, level)]
    return axes.svg(f"{plot.title}. {plot.describe}", parts)


def draw_histogram(
    title: str,
    describe: str,
    edges: Sequence[float],
    stacks: Sequence[tuple[str, Sequence[float]]],
    labels: tuple[str, str],
) -> Markup:
    """Bars of counts between `edges`, the stacks on top of one another, with a gap between them."""
    keys = [(label, place) for place, (label, _) in enumerate(stacks)] if len(stacks) > 1 else []
    most = max((sum(counts) for counts in zip(*(counts for _, counts in stacks), strict=True)), default=0) or 1
    axes = _Axes(_range(edges, 0.04), (0.0, most * 1.05), labels, keys)
    parts, bottom = [], [0.0] * (len(edges) - 1)
    for place, (_, counts) in enumerate(stacks):
        for number, (left, right) in enumerate(pairwise(edges)):
            gap = (right - left) * 0.05
            x, width = axes.x(left + gap), axes.x(right - gap) - axes.x(left + gap)
            low, high = axes.y(bottom[number]), axes.y(bottom[number] + counts[number])
            if counts[number]:
                parts.append(_tag("rect", x=x, y=high, width=width, height=low - high, fill=_colour(place)))
            bottom[number] += counts[number]
    return axes.svg(f"{title}. {describe}", parts)


class _Axes:
    """The plane inside its axes: where a value lies in the drawing, and all that is drawn around the curves."""

    def __init__(
        self,
        xs: tuple[float, float],
        ys: tuple[float, float],
        labels: tuple[str, str],
        keys: Sequence[tuple[str, int]],
    ) -> None:
        self._xs, self._ys, self._labels = xs, ys, labels
        self._y_ticks = ticks(*ys)
        rows = _rows(keys)
        self.left = FONT * 1.9 + max(map(_width, self._y_ticks.values()))
        self.right = WIDTH - 12.0
        self.top = 8.0 + 14.0 * len(rows)
        self.bottom = HEIGHT - FONT * 3.2
        self._legend = [part for number, row in enumerate(rows) for part in _keys(row, self.left, 12.0 + 14.0 * number)]

    def x(self, value: float) -> float:
        return self.left + (value - self._xs[0]) / (self._xs[1] - self._xs[0]) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self._ys[0]) / (self._ys[1] - self._ys[0]) * (self.bottom - self.top)

    def svg(self, describe: str, parts: Iterable[str]) -> Markup:
        whole = "".join([*self._grid(), *parts, *self._words(), *self._legend])
        return Markup(
            f'<svg role="img" aria-label="{escape(describe)}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
            f'font-family="inherit" font-size="{FONT:g}" fill="var(--ink)">{whole}</svg>'
        )

    def _grid(self) -> list[str]:
        faint: Look = {"stroke": "var(--line)"}
        lines = [
            _tag("line", x1=self.left, x2=self.right, y1=self.y(tick), y2=self.y(tick), stroke_width=0.6, **faint)
            for tick in self._y_ticks
        ]
        edge = f"M{_short(self.left)} {_short(self.top)}V{_short(self.bottom)}H{_short(self.right)}"
        return [*lines, _tag("path", d=edge, fill="none", **faint)]

    def _words(self) -> list[str]:
        under, middle = self.bottom + FONT * 1.3, (self.top + self.bottom) / 2
        found = [_text(label, self.x(tick), under, "middle") for tick, label in ticks(*self._xs).items()]
        found += [_text(label, self.left - 4, self.y(y) + FONT * 0.35, "end") for y, label in self._y_ticks.items()]
        found.append(_text(self._labels[0], (self.left + self.right) / 2, HEIGHT - 5, "middle"))
        turned = f"rotate(-90 {_short(FONT)} {_short(middle)})"
        return [*found, _text(self._labels[1], FONT, middle, "middle", transform=turned)]


def ticks(low: float, high: float) -> dict[float, str]:
    """Round numbers within a range, 1, 2, 2.5 or 5 times a power of ten apart, and how each is written."""
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    size = next(size for size in (1, 2, 2.5, 5, 10) if (high - low) / (size * power) <= TICKS)
    step = size * power
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    unit, word = next(((u, w) for u, w in ((1e9, "G"), (1e6, "M"), (1e4, "k")) if max(-low, high) >= u), (1.0, ""))
    unit = 1e3 if word == "k" else unit
    places = max(0, (size == 2.5) - math.floor(math.log10(step / unit) + 1e-9))
    if places > 5:
        return {number * step: f"{number * step:.3g}" for number in numbers}
    return {number * step: f"{number * step / unit:,.{places}f}{word if number else ''}" for number in numbers}


def _range(values: Iterable[float], margin: float) -> tuple[float, float]:
    """The least and greatest finite value, and a part of the distance around them; never empty."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = float(min(finite)), float(max(finite))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        around = abs(low) * 0.05 or 0.5
        return low - around, high + around
    return low - (high - low) * margin, high + (high - low) * margin


def _line(axes: _Axes, line: Line) -> list[str]:
    colour = _colour(line.colour)
    look: Look = {"stroke_width": 0.9, "opacity": 0.3} if line.style == "band" else {"stroke_width": 1.8}
    parts = []
    for segment in _segments(line):
        points = " ".join(f"{_short(axes.x(x))},{_short(axes.y(y))}" for x, y in _thinned(segment))
        parts.append(_tag("polyline", points=points, fill="none", stroke=colour, stroke_linejoin="round", **look))
        if line.style == "dots" or len(segment) == 1:
            parts += [_tag("circle", cx=axes.x(x), cy=axes.y(y), r=2, fill=colour) for x, y in segment]
    return parts


def _segments(line: Line) -> list[Segment]:
    """The points of a line; where a value is not finite it is broken."""
    found: list[Segment] = [[]]
    for point in zip(line.x, line.y, strict=True):
        if all(map(math.isfinite, point)):
            found[-1].append(point)
        elif found[-1]:
            found.append([])
    return [segment for segment in found if segment]


def _thinned(segment: Segment) -> Segment:
    """So many points as can be told apart: in each part of the line the first, the lowest, the highest and the last."""
    if len(segment) <= POINTS:
        return segment
    size, found = math.ceil(len(segment) * 4 / POINTS), []
    for start in range(0, len(segment), size):
        part = segment[start : start + size]
        heights = [y for _, y in part]
        chosen = {0, heights.index(min(heights)), heights.index(max(heights)), len(part) - 1}
        found += [part[place] for place in sorted(chosen)]
    return found


def _level(axes: _Axes, level: Level) -> list[str]:
    y = axes.y(level.y)
    look: Look = {"stroke": "var(--ink)", "stroke_width": 1, "stroke_dasharray": "4 3"}
    # Written inside the axes and not in the legend: it is read where it stands.
    said = _text(level.label, axes.right, y - 3, "end", font_size=SMALL)
    return [_tag("line", x1=axes.left, x2=axes.right, y1=y, y2=y, **look), said]


def _rows(keys: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """The entries of a legend in rows that fit the figure."""
    rows: list[list[tuple[str, int]]] = []
    for key in keys:
        if not rows or sum(_width(label) + 26 for label, _ in [*rows[-1], key]) > WIDTH - 60:
            rows.append([])
        rows[-1].append(key)
    return rows


def _keys(row: Sequence[tuple[str, int]], x: float, y: float) -> list[str]:
    parts = []
    for label, colour in row:
        parts.append(_tag("rect", x=x, y=y - 6, width=12, height=4, rx=2, fill=_colour(colour)))
        parts.append(_text(label, x + 16, y, "start", font_size=SMALL))
        x += _width(label) + 26
    return parts


def _colour(number: int) -> str:
    return f"var(--series-{number % COLOURS + 1})"


def _width(text: str) -> float:
    """About the width of a text, in points; characters beyond Latin are as wide as they are high."""
    return sum(FONT if ord(character) > 0x2E7F else FONT * DIGIT for character in text)


def _text(text: str, x: float, y: float, anchor: str, **more: str | float) -> str:
    opened = _tag("text", x=x, y=y, text_anchor=anchor, **more).removesuffix("/>")
    return f"{opened}>{escape(text)}</text>"


def _tag(name: str, **attributes: str | float) -> str:
    said = "".join(
        f' {key.replace("_", "-")}="{escape(value) if isinstance(value, str) else _short(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{said}/>"


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
