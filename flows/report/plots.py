"""Plots as inline SVG that takes its colours from the page, so that one drawing serves light, dark and print; and as
PNG for pages that are not ours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

# Colours that stand for the page's own (style.css); they never reach the reader.
INK, FAINT = "#010203", "#010204"
SERIES = ("#010211", "#010212", "#010213", "#010214")
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)"} | {
    c: f"var(--series-{n})" for n, c in enumerate(SERIES, start=1)
}

# What a PNG has in their place: the colours of the light page (style.css).
_PAINTED = {INK: "#1f2328", FAINT: "#d9dde1"} | dict(
    zip(SERIES, ("#2a78d6", "#d95926", "#178a62", "#7a5bd0"), strict=True)
)

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crawl2chat",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


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


def draw(plot: Plot, number: int) -> Markup:
    """Curves as SVG. `number` keeps the ids of several figures on one page apart."""
    with matplotlib.rc_context(_SETTINGS):
        return _svg(_curves(plot, {}), plot.title, plot.describe, number)


def draw_png(plot: Plot) -> bytes:
    """Curves as a PNG of 520 by 300 pixels on white, for pages that take no SVG of ours."""
    settings = {
        name: _PAINTED.get(value, value) if isinstance(value, str) else value for name, value in _SETTINGS.items()
    }
    settings |= {"axes.facecolor": "white", "figure.facecolor": "white"}
    stream = io.BytesIO()
    with matplotlib.rc_context(settings):
        _curves(plot, _PAINTED).savefig(stream, format="png", dpi=100, metadata={"Software": None})
    small = io.BytesIO()
    # 64 colours are enough for a curve and its edges: a third of the bytes.
    Image.open(stream).convert("RGB").quantize(64).save(small, "PNG", optimize=True)
    return small.getvalue()


def _curves(plot: Plot, colours: dict[str, str]) -> Figure:
    """The figure; `colours` replaces those that stand for the page's own."""
    figure, axes = _figure(plot.x_label, plot.y_label)
    for line in plot.lines:
        colour = SERIES[line.colour % len(SERIES)]
        colour = colours.get(colour, colour)
        if line.style == "band":
            axes.plot(line.x, line.y, color=colour, alpha=0.3, linewidth=0.9)
        else:
            marker = "o" if line.style == "dots" or len(line.x) == 1 else None
            axes.plot(line.x, line.y, color=colour, marker=marker, markersize=4, label=line.label)
    for level in plot.levels:
        axes.axhline(level.y, color=colours.get(INK, INK), linewidth=1, linestyle=(0, (4, 3)))
        # Written inside the axes and not in the legend: it is read where it stands.
        axes.annotate(
            level.label, (1, level.y), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
        )
    axes.margins(y=0.12)
    if sum(bool(line.label) for line in plot.lines if line.style != "band") > 1:
        axes.legend(loc="best", fontsize=9)
    return figure


def draw_histogram(
    title: str,
    describe: str,
    edges: Sequence[float],
    stacks: Sequence[tuple[str, Sequence[float]]],
    labels: tuple[str, str],
    number: int,
) -> Markup:
    """Bars of counts between `edges`, the stacks on top of one another, with a gap between them."""
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _figure(*labels)
        widths = [(right - left) * 0.9 for left, right in pairwise(edges)]
        centres = [(left + right) / 2 for left, right in pairwise(edges)]
        bottom = [0.0] * len(centres)
        for place, (label, counts) in enumerate(stacks):
            axes.bar(centres, counts, widths, bottom=bottom, color=SERIES[place % len(SERIES)], label=label)
            bottom = [low + count for low, count in zip(bottom, counts, strict=True)]
        if len(stacks) > 1:
            axes.legend(loc="best", fontsize=9)
        return _svg(figure, title, describe, number)


def _figure(x_label: str, y_label: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0)
    return figure, axes


def _svg(figure: Figure, title: str, describe: str, number: int) -> Markup:
    stream = io.StringIO()
    # No metadata: it holds the time and links.
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r'\bid="([^"]+)"', rf'id="p{number}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>p{number}-", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    label = escape(f"{title}. {describe}")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
