"""Plots as inline SVG that takes its colours from the page, so that one drawing serves light, dark and print."""

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

# Colours that stand for the page's own (style.css); they never reach the reader.
INK, FAINT = "#010203", "#010204"
SERIES = ("#010211", "#010212", "#010213", "#010214")
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)"} | {
    c: f"var(--series-{n})" for n, c in enumerate(SERIES, start=1)
}

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
        figure, axes = _figure(plot.x_label, plot.y_label)
        for line in plot.lines:
            colour = SERIES[line.colour % len(SERIES)]
            if line.style == "band":
                axes.plot(line.x, line.y, color=colour, alpha=0.3, linewidth=0.9)
            else:
                marker = "o" if line.style == "dots" or len(line.x) == 1 else None
                axes.plot(line.x, line.y, color=colour, marker=marker, markersize=4, label=line.label)
        for level in plot.levels:
            axes.axhline(level.y, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            # Written inside the axes and not in the legend: it is read where it stands.
            axes.annotate(
                level.label, (1, level.y), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
            )
        axes.margins(y=0.12)
        if sum(bool(line.label) for line in plot.lines if line.style != "band") > 1:
            axes.legend(loc="best", fontsize=9)
        return _svg(figure, plot.title, plot.describe, number)


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
