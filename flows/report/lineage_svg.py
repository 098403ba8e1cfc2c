"""The lineage graph as inline SVG: layers from top to bottom, long edges led around the boxes between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup, escape

from artifacts.graph import Graph

WIDTH, HEIGHT = 148.0, 42.0
GAP_X, GAP_Y = 22.0, 44.0
LANE = 26.0  # the room that an edge passing through a layer takes


@dataclass
class _Slot:
    """A box, or the place where a long edge crosses a layer."""

    layer: int
    box: bool
    x: float = 0.0
    above: list[_Slot] = field(default_factory=list)
    below: list[_Slot] = field(default_factory=list)

    @property
    def width(self) -> float:
        return WIDTH if self.box else LANE


def lineage_svg(graph: Graph) -> Markup:
    """SVG of a lineage graph. Its nodes must come before what they feed, as `artifacts.graph.graph` gives them."""
    pairs = list(dict.fromkeys((edge.start, edge.end) for edge in graph.edges))
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for edge in graph.edges:
        labels[edge.start, edge.end].append(edge.label)
    layers = _layers(graph, pairs)
    slots = {node.id: _Slot(layers[node.id], True) for node in graph.nodes}
    paths = {pair: _chain(slots[pair[0]], slots[pair[1]]) for pair in pairs}
    rows = _rows([*slots.values(), *(slot for path in paths.values() for slot in path[1:-1])])
    _order(rows)
    width = _place(rows)
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 8
    parts = [_edge(paths[pair], ", ".join(labels[pair])) for pair in pairs]
    for node in graph.nodes:
        slot = slots[node.id]
        parts.append(_box(slot, node.label, f"{node.kind}{' focus' if node.focus else ''}"))
    names = ", ".join(node.label.replace("\n", " ") for node in graph.nodes)
    return Markup(
        f'<svg class="lineage" role="img" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'aria-label="{escape("Lineage graph: " + names)}">{"".join(parts)}</svg>'
    )


def _layers(graph: Graph, pairs: list[tuple[str, str]]) -> dict[str, int]:
    above: dict[str, list[str]] = defaultdict(list)
    for start, end in pairs:
        above[end].append(start)
    layers: dict[str, int] = {}
    for node in graph.nodes:
        layers[node.id] = max((layers.get(start, -1) + 1 for start in above[node.id]), default=0)
    # What nothing feeds stands right above what it feeds first.
    for node in reversed(graph.nodes):
        fed = [layers[end] for start, end in pairs if start == node.id]
        if fed and not above[node.id]:
            layers[node.id] = min(fed) - 1
    lowest = min(layers.values(), default=0)
    return {name: layer - lowest for name, layer in layers.items()}


def _chain(start: _Slot, end: _Slot) -> list[_Slot]:
    path = [start, *(_Slot(layer, False) for layer in range(start.layer + 1, end.layer)), end]
    for upper, lower in pairwise(path):
        upper.below.append(lower)
        lower.above.append(upper)
    return path


def _rows(slots: list[_Slot]) -> list[list[_Slot]]:
    rows: list[list[_Slot]] = [[] for _ in range(max((slot.layer for slot in slots), default=0) + 1)]
    for slot in slots:
        rows[slot.layer].append(slot)
    return rows


def _order(rows: list[list[_Slot]]) -> None:
    """Barycentre ordering, down and up in turn (Sugiyama et al. 1981), to have few crossings."""
    position = {id(slot): float(place) for row in rows for place, slot in enumerate(row)}

    def middle(slot: _Slot, near: list[_Slot]) -> float:
        places = [position[id(other)] for other in near]
        return sum(places) / len(places) if places else position[id(slot)]

    for sweep in range(8):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            keys = {id(slot): middle(slot, slot.above if down else slot.below) for slot in row}
            row[:] = sorted(row, key=_by(keys))
            position.update({id(slot): float(place) for place, slot in enumerate(row)})


def _by(keys: dict[int, float]) -> Callable[[_Slot], float]:
    return lambda slot: keys[id(slot)]


def _place(rows: list[list[_Slot]]) -> float:
    """Give every slot its x (centre): near its neighbours, in order, without overlap. Returns the drawing's width."""
    for row in rows:
        at = 0.0
        for slot in row:
            slot.x = at + slot.width / 2
            at += slot.width + GAP_X
    for sweep in range(12):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = []
            for slot in row:
                near = slot.above + slot.below
                wanted.append(sum(other.x for other in near) / len(near) if near else slot.x)
            _spread(row, wanted)
    left = min(slot.x - slot.width / 2 for row in rows for slot in row) - 8
    for row in rows:
        for slot in row:
            slot.x -= left
    return max(slot.x + slot.width / 2 for row in rows for slot in row) + 8


def _spread(row: list[_Slot], wanted: list[float]) -> None:
    """Centres as near to the wanted ones as the order and the widths allow, seen from both sides."""

    def apart(a: _Slot, b: _Slot) -> float:
        return (a.width + b.width) / 2 + GAP_X

    forward, backward = list(wanted), list(wanted)
    for i in range(1, len(row)):
        forward[i] = max(forward[i], forward[i - 1] + apart(row[i - 1], row[i]))
    for i in range(len(row) - 2, -1, -1):
        backward[i] = min(backward[i], backward[i + 1] - apart(row[i], row[i + 1]))
    for slot, low, high in zip(row, backward, forward, strict=True):
        slot.x = (low + high) / 2


def _top(slot: _Slot) -> float:
    return 4 + slot.layer * (HEIGHT + GAP_Y)


def _edge(path: list[_Slot], label: str) -> str:
    start, end = path[0], path[-1]
    x, y = start.x, _top(start) + HEIGHT
    commands = [f"M{x:.1f},{y:.1f}"]
    for slot in path[1:]:
        target = _top(slot)
        bend = (target - y) / 2
        commands.append(f"C{x:.1f},{y + bend:.1f} {slot.x:.1f},{target - bend:.1f} {slot.x:.1f},{target:.1f}")
        x, y = slot.x, target
        if slot is not end:
            y = target + HEIGHT
            commands.append(f"L{x:.1f},{y:.1f}")
    return f'<path class="edge" d="{" ".join(commands)}"><title>{escape(label)}</title></path>'


def _box(slot: _Slot, label: str, kind: str) -> str:
    name, _, detail = label.partition("\n")
    x, y = slot.x - WIDTH / 2, _top(slot)
    shown = name if len(name) <= 20 else f"{name[:19]}…"
    second = f'<text class="detail" x="{slot.x:.1f}" y="{y + 33:.1f}">{escape(detail)}</text>' if detail else ""
    return (
        f'<g class="{escape(kind)}"><title>{escape(label)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{WIDTH}" height="{HEIGHT}" rx="{4 if "source" not in kind else 20}"/>'
        f'<text x="{slot.x:.1f}" y="{y + (18 if detail else 26):.1f}">{escape(shown)}</text>{second}</g>'
    )
