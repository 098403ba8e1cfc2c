"""Plots as PNG, drawn by matplotlib, for pages that take no SVG of ours. A report does without the import."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from flows.report.plots import Plot

# The colours of the light page (style.css).
INK, FAINT = "#1f2328", "#d9dde1"
SERIES = ("#2a78d6", "#d95926", "#178a62", "#7a5bd0")

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "white",
    "figure.facecolor": "white",
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


def draw_png(plot: Plot) -> bytes:
    """Curves as a PNG of 520 by 300 pixels on white."""
    stream = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        _curves(plot).savefig(stream, format="png", dpi=100, metadata={"Software": None})
    small = io.BytesIO()
    # 64 colours are enough for a curve and its edges: a third of the bytes.
    Image.open(stream).convert("RGB").quantize(64).save(small, "PNG", optimize=True)
    return small.getvalue()


def _curves(plot: Plot) -> Figure:
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.tick_params(length=0)
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
    return figure
