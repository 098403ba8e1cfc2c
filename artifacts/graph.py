"""Which artifact was made from which: the graph of a store, read from its manifests alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass

from artifacts.digest import SHORT
from artifacts.errors import RunError, UserError
from artifacts.manifest import SourceEntry
from artifacts.store import Artifact, Store

Step = Callable[[Artifact], list[tuple[str, Artifact]]]


class StoreGraph:
    """The artifacts of a store and what they were made from. Damaged manifests are left out: `verify` names them.

    Recipes chain on contents: where two recipes of a stage gave the same content, what follows was made from the one
    and reused for the other, and is a child of both.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.artifacts: list[Artifact] = []
        for artifact in store.artifacts():
            try:
                _ = artifact.manifest
            except (RunError, UserError):
                continue
            self.artifacts.append(artifact)
        known = {(a.ref, a.manifest.content): a for a in self.artifacts}
        twins: dict[tuple[str, str], list[Artifact]] = defaultdict(list)
        for artifact in self.artifacts:
            twins[artifact.stage, artifact.content].append(artifact)
        self._parents: dict[Artifact, list[tuple[str, Artifact]]] = {}
        self._children: dict[Artifact, list[tuple[str, Artifact]]] = defaultdict(list)
        for artifact in self.artifacts:
            self._parents[artifact] = []
            for entry in artifact.manifest.inputs:
                equals = twins.get((entry.artifact.partition("@")[0], entry.content[:SHORT]), [])
                above = known.get((entry.artifact, entry.content)) or next(iter(equals), None)
                if above is not None:
                    self._parents[artifact].append((entry.name, above))
                for twin in equals:
                    self._children[twin].append((entry.name, artifact))
        self._used = self._last_used()

    def _last_used(self) -> dict[Artifact, str]:
        """When each artifact was made, or last reused by a recorded run: a rerun of an old config is the newest."""
        used = {artifact: artifact.manifest.run.finished for artifact in self.artifacts}
        by_folder = {artifact.folder: artifact for artifact in self.artifacts}
        for name in self.store.list_dir("runs"):
            try:
                record = json.loads(self.store.read_text(f"runs/{name}"))
                folders = ["/".join(str(row["path"]).rsplit("/", 2)[-2:]) for row in record["stages"]]
                when = str(record["started"])
            except (UserError, OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
            for folder in folders:
                if folder in by_folder:
                    used[by_folder[folder]] = max(used[by_folder[folder]], when)
        return used

    def last_used(self, artifact: Artifact) -> str:
        return self._used[artifact]

    def newest_first(self, artifacts: Iterable[Artifact]) -> list[Artifact]:
        return sorted(artifacts, key=lambda a: (self._used[a], a.manifest.run.finished, a.ref), reverse=True)

    def parents(self, artifact: Artifact) -> list[tuple[str, Artifact]]:
        """(input name, artifact) of what it was made from, in the manifest's order."""
        return self._parents.get(artifact, [])

    def children(self, artifact: Artifact) -> list[tuple[str, Artifact]]:
        """(input name, artifact) of what was made from it directly."""
        return self._children.get(artifact, [])

    def ancestors(self, artifact: Artifact) -> list[Artifact]:
        """All that it was made from, without itself, nearest first."""
        return self._reach([artifact], self.parents)

    def descendants(self, artifacts: Iterable[Artifact]) -> list[Artifact]:
        """All that was made from any of them, without themselves unless made from another, nearest first."""
        return self._reach(list(artifacts), self.children)

    @staticmethod
    def _reach(start: list[Artifact], step: Step) -> list[Artifact]:
        found: dict[Artifact, None] = {}
        waiting = list(start)
        while waiting:
            for _, artifact in step(waiting.pop(0)):
                if artifact not in found:
                    found[artifact] = None
                    waiting.append(artifact)
        return list(found)


@dataclass(frozen=True)
class Node:
    """An artifact or a source in a lineage graph. `id` is unique in the graph, `focus` marks what was asked about.

    `artifact` is an artifact's stage@recipe; `licence` are the licences of a source's files, joined by " AND ".
    """

    id: str
    label: str
    kind: str  # "artifact" or "source"
    stage: str | None = None
    focus: bool = False
    artifact: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Edge:
    """`start` went into `end` under this input name."""

    start: str
    end: str
    label: str


@dataclass(frozen=True)
class Graph:
    nodes: list[Node]
    edges: list[Edge]

    def as_json(self) -> dict[str, list[dict[str, object]]]:
        return {"nodes": [asdict(n) for n in self.nodes], "edges": [asdict(e) for e in self.edges]}


def graph(store: Store, ref: str | Iterable[Artifact]) -> Graph:
    """The artifacts above and below one artifact (or exactly those given), with the sources at the top.

    Sources of one data manifest are one node. Nodes and edges come in a stable order, inputs before what reads them.

    Raises:
        UserError: `ref` names no artifact.
    """
    whole = StoreGraph(store)
    if isinstance(ref, str):
        focus = store.resolve(ref)
        members = {focus, *whole.ancestors(focus), *whole.descendants([focus])}
    else:
        focus, members = None, set(ref)
    ordered = inputs_first(whole, members)
    inside = {(a.stage, a.content): a for a in reversed(ordered)}
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    licences = _licences(ordered)
    for artifact in ordered:
        for source in artifact.manifest.sources:
            identity = _identity(source)
            name = source.manifest or source.name
            nodes.setdefault(identity, Node(identity, name, "source", licence=licences.get(identity)))
            edge = Edge(identity, artifact.folder, source.role or "source")
            if edge not in edges:
                edges.append(edge)
        nodes[artifact.folder] = Node(
            artifact.folder,
            f"{artifact.stage}\n{artifact.recipe[:8]}",
            "artifact",
            artifact.stage,
            artifact == focus,
            artifact.ref,
        )
        for name, parent in whole.parents(artifact):
            # A reused artifact was made from another of the same content, which may not be among the members.
            above = parent if parent in members else inside.get((parent.stage, parent.content))
            if above is not None:
                edges.append(Edge(above.folder, artifact.folder, name))
    return Graph(list(nodes.values()), edges)


def _identity(source: SourceEntry) -> str:
    return f"source:{source.manifest or source.name}"


def _licences(members: Iterable[Artifact]) -> dict[str, str]:
    """Source node to the licences of its files."""
    found: dict[str, set[str]] = defaultdict(set)
    for artifact in members:
        for source in artifact.manifest.sources:
            if source.licence:
                found[_identity(source)].add(source.licence)
    return {identity: " AND ".join(sorted(names)) for identity, names in found.items()}


def inputs_first(whole: StoreGraph, members: Collection[Artifact]) -> list[Artifact]:
    """The members in an order in which everything follows what it was made from; else by age."""
    ordered: dict[Artifact, None] = {}

    def visit(artifact: Artifact) -> None:
        if artifact in ordered or artifact not in members:
            return
        for _, above in whole.parents(artifact):
            visit(above)
        ordered[artifact] = None

    for artifact in sorted(members, key=lambda a: (a.manifest.run.finished, a.ref)):
        visit(artifact)
    return list(ordered)


def mermaid(found: Graph) -> str:
    """The graph in Mermaid's flowchart language, every label quoted: names may hold brackets and keywords."""
    names = {node.id: f"n{number}" for number, node in enumerate(found.nodes)}
    lines = ["flowchart TD"]
    for node in found.nodes:
        opening, closing = ('[("', '")]') if node.kind == "source" else ('["', '"]')
        lines.append(f"    {names[node.id]}{opening}{_quoted(node.label)}{closing}")
    lines += [f'    {names[e.start]} -->|"{_quoted(e.label)}"| {names[e.end]}' for e in found.edges]
    lines += [f"    style {names[node.id]} stroke-width:3px" for node in found.nodes if node.focus]
    return "\n".join(lines) + "\n"


def _quoted(label: str) -> str:
    for character, entity in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        label = label.replace(character, entity)
    return label.replace("\n", "<br/>")
