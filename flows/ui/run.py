"""What a run shows when it ends, well or not: funnel, drop reasons, lineage, and where its files are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from prefect import get_run_logger

from artifacts.graph import Edge, Graph, StoreGraph, graph, mermaid
from artifacts.store import Artifact, Store
from flows.records import RunRecord, report_path
from flows.ui.publish import Maker, Shown, account, cell, copyable, markdown_table, publish, share
from flows.ui.stage import by_number

Row = Mapping[str, Any]


@contextmanager
def showing(store: Store, record: RunRecord, pipeline: str | None = None) -> Iterator[None]:
    """Surrounds a run inside of its flow: its record names the flow run, and when it ends, well or in an error, its
    artifacts are published.

    What was interrupted or cancelled shows nothing more: it must end at once. `pipeline` is the name of the pipeline;
    a run of a single stage has none.
    """
    if record.prefect_flow_run is None:  # from the command line: the record is older than the flow
        record.save(store)
    try:
        yield
    except Exception as error:
        publish_run(store, record, pipeline, str(error) or type(error).__name__)
        raise
    publish_run(store, record, pipeline)


def publish_run(store: Store, record: RunRecord, pipeline: str | None = None, error: str = "") -> None:
    """The artifacts of a run as far as it came; `error` is why it ended early."""
    rows, run = record.stages, record.run
    artifacts = [artifact_of(store, row) for row in rows]
    makers: list[Maker] = [partial(drop_reasons, artifacts, run), partial(lineage, store, artifacts, run)]
    if pipeline is not None:
        makers = [partial(funnel, rows, run, pipeline, error), *makers, partial(paths, store, rows, run, error)]
    publish(makers, get_run_logger())


def artifact_of(store: Store, row: Row) -> Artifact:
    """The artifact of a row: its path ends with `<stage>/<recipe>.<content>`."""
    stage, _, folder = "/".join(str(row["path"]).rstrip("/").rsplit("/", 2)[-2:]).partition("/")
    recipe, _, content = folder.partition(".")
    return Artifact(store, stage, recipe, content)


def funnel(rows: Sequence[Row], run: str, name: str, error: str) -> Shown:
    """`funnel`: how many rows went into each stage, and what came out."""
    columns = ("stage", "rows in", "kept", "share", "dropped", "failed", "status", "seconds")
    lines = [
        [
            row["stage"],
            *(row[key] for key in ("rows_in", "kept")),
            bar(row["kept"], row["rows_in"]),
            *(row[key] for key in ("dropped", "failed")),
            "reused" if row["reused"] else "built",
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    table = markdown_table(columns, lines, ("rows in", "kept", "dropped", "failed", "seconds"))
    built = sum(not row["reused"] for row in rows)
    title = f"Pipeline {cell(name)}, run `{run}`: {built} stages built, {len(rows) - built} reused"
    parts = [title, *([f"**It ended early.** {cell(error)}"] if error else []), table]
    last = next((row for row in reversed(rows) if row["rows_in"] is not None), None)
    said = f"{cell(name)}: {len(rows)} {'stage' if len(rows) == 1 else 'stages'}" + (", ended early" if error else "")
    if last is not None:
        said += f"; {cell(last['stage'])}, {account(*(last[key] for key in ('rows_in', 'kept', 'dropped', 'failed')))}"
    return Shown("funnel", "\n\n".join(parts) + "\n", said)


def bar(part: int | None, whole: int | None) -> str:
    """A share as a bar of ten blocks and in percent; empty if there is none."""
    found = share(part, whole)
    if found is None or part is None or not whole:
        return ""
    full = max(10 * part // whole, 1 if part else 0)  # full only if all are there
    return f"{'█' * full}{'░' * (10 - full)} {found}"


def drop_reasons(artifacts: Sequence[Artifact], run: str) -> Shown | None:
    """`drop-reasons`: what each stage dropped or could not read, by reason, with the share of the stage's rows."""
    rows = [
        {
            "stage": artifact.stage,
            "reason": reason,
            "rows": f"{number:,}",
            "share of its rows": share(number, counts.rows_in),
        }
        for artifact in artifacts
        for counts in [artifact.manifest.counts]
        for reason, number in by_number(counts.reasons)
    ]
    dropped = sum((a.manifest.counts.dropped or 0) + (a.manifest.counts.failed or 0) for a in artifacts)
    if not rows:
        return None
    return Shown("drop-reasons", rows, f"{dropped:,} rows dropped or failed in {_stages(artifacts)}; run `{run}`")


def _stages(artifacts: Sequence[Artifact]) -> str:
    return artifacts[0].stage if len(artifacts) == 1 else f"{len(artifacts)} stages"


def lineage(store: Store, artifacts: Sequence[Artifact], run: str) -> Shown | None:
    """`lineage`: which artifact was made from which, as a Mermaid graph; of a single stage all that is above it too."""
    if not artifacts:
        return None
    if len(artifacts) == 1:
        whole = graph(store, [*StoreGraph(store).ancestors(artifacts[0]), artifacts[0]])
        title = f"What `{artifacts[0].ref}` was made from; run `{run}`"
    else:
        whole = graph(store, artifacts)
        title = f"{len(artifacts)} artifacts and what they were made from; run `{run}`"
    table = markdown_table(("stage", "artifact"), [(artifact.stage, artifact.ref) for artifact in artifacts])
    text = f"{title}\n\n```mermaid\n{mermaid(merged(whole))}```\n\n{table}\n"
    return Shown("lineage", text, title)


def merged(whole: Graph) -> Graph:
    """The graph with one edge between two nodes, labelled with all the inputs that it stands for."""
    labels: dict[tuple[str, str], list[str]] = {}
    for edge in whole.edges:
        labels.setdefault((edge.start, edge.end), []).append(edge.label)
    return Graph(whole.nodes, [Edge(start, end, ", ".join(found)) for (start, end), found in labels.items()])


def paths(store: Store, rows: Sequence[Row], run: str, error: str) -> Shown:
    """`report`: where the run's report, its record and its artifacts lie, to copy from."""
    parts = ["## Report", copyable(str(report_path(store, run)))]
    if error:
        parts.append(f"The run ended early: write it with `crawl2chat report {run} --store STORE`.")
    parts += ["## Record of the run", copyable(store.join(f"runs/{run}.json")), "## Artifacts"]
    parts.append(copyable("\n".join(str(row["path"]) for row in rows)) if rows else "None were made.")
    return Shown("report", "\n\n".join(parts) + "\n", f"Paths of report, record and artifacts; run `{run}`")
