"""`lineage`: the graph above and below an artifact."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.errors import UserError
from flows import show
from flows.cli.app import STORE, JsonOption, StoreOption, app, existing, print_json
from flows.screen import plain

if TYPE_CHECKING:
    from artifacts.graph import Graph
    from artifacts.store import Artifact, Store

RUN = re.compile(r"latest|\d{8}-\d{6}(-[0-9a-f]*)?")


@app.command()
def lineage(
    ref: Annotated[str, typer.Argument(metavar="REF", help="stage@recipe, stage@latest, or a run's id")],
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="A Mermaid flowchart")] = False,
    as_openlineage: Annotated[bool, typer.Option("--openlineage", help="OpenLineage events, one JSON a line")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what an artifact was made from, and what was made from it."""
    from artifacts.graph import graph, mermaid

    if as_mermaid and as_openlineage:
        raise UserError("lineage: give --mermaid or --openlineage, not both")
    place = existing(store)
    asked: str | list[Artifact] = artifacts_of_run(place, ref) if RUN.fullmatch(ref) else ref
    found = graph(place, asked)
    if as_openlineage:
        _print_events(place, found, as_json)
    elif as_mermaid:
        if as_json:
            print_json({"mermaid": mermaid(found)})
        else:
            sys.stdout.write(mermaid(found))
    elif as_json:
        print_json(found.as_json())
    else:
        lineage_text(found)


def artifacts_of_run(store: Store, run: str) -> list[Artifact]:
    """What a run built or reused, by its record.

    Raises:
        UserError: there is no such run, or it has made nothing.
    """
    from flows.records import load_run

    record = load_run(store, run)
    folders = ["/".join(str(row["path"]).rsplit("/", 2)[-2:]) for row in record["stages"]]
    found = [artifact for artifact in store.artifacts() if artifact.folder in folders]
    if not found:
        raise UserError(f"{record['run']}: no artifact of this run is in {store.url}")
    return found


def _print_events(store: Store, found: Graph, as_json: bool) -> None:
    from artifacts.exchange.openlineage import as_line, lineage_events

    members = {node.id for node in found.nodes if node.kind == "artifact"}
    events = lineage_events(store, [artifact for artifact in store.artifacts() if artifact.folder in members])
    if as_json:
        import json

        print_json({"events": [json.loads(as_line(event)) for event in events]})
    else:
        sys.stdout.write("".join(f"{as_line(event)}\n" for event in events))


def lineage_text(found: Graph) -> None:
    """Everything after what it was made from, an input a line; the artifact that was asked about is marked."""
    focus = next((node.id for node in found.nodes if node.focus), None)
    where = _directions(found, focus) if focus else {}
    names = {node.id: node.artifact or node.label for node in found.nodes}
    width = max(len(name) for name in names.values())
    for node in sorted(found.nodes, key=lambda node: node.kind != "source"):
        origins: dict[str, list[str]] = {}
        for edge in found.edges:
            if edge.end == node.id:
                origins.setdefault(names[edge.start], []).append(edge.label)
        lines = [f"{', '.join(labels)} <- {origin}" for origin, labels in origins.items()]
        if node.kind == "source":
            lines = [f"source, licence {node.licence or 'not stated'}"]
        style = "bold" if node.focus else "dim" if node.kind == "source" else ""
        for number, line in enumerate(lines or ["made from nothing"]):
            head = (where.get(node.id, ""), names[node.id]) if number == 0 else ("", "")
            show.out.print(plain(f"{head[0]:<5}  {head[1]:<{width}}  {line}", style=style))


def _directions(found: Graph, focus: str) -> dict[str, str]:
    """Node to "above", ">>>" (the focus) or "below"."""
    directions = {focus: ">>>"}
    for word, start, end in (("above", "end", "start"), ("below", "start", "end")):
        waiting = [focus]
        while waiting:
            here = waiting.pop()
            for edge in found.edges:
                there = getattr(edge, end)
                if getattr(edge, start) == here and there not in directions:
                    directions[there] = word
                    waiting.append(there)
    return directions
