"""What a stage shows when it ends: its manifest as a table, and the curves of a training stage."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from artifacts.store import Artifact
from flows.ui.publish import Log, Maker, Shown, account, cell, key_of, publish, share
from tasks.execution import Outcome

CURVES = ("pretrain", "sft", "reward", "ppo", "ppo_without_ptx")


def publish_stage(outcome: Outcome, log: Log) -> None:
    """The artifacts of a stage that was built or reused. The curves of a reused one were shown when it was built."""
    makers: list[Maker] = [partial(manifest_table, outcome)]
    if outcome.stage in CURVES and not outcome.reused:
        makers.append(partial(curves, outcome.artifact))
    publish(makers, log)


def manifest_table(outcome: Outcome) -> Shown:
    """`<stage>-manifest`: what the artifact is, what it was made from, and its row account with the reasons."""
    artifact, manifest = outcome.artifact, outcome.artifact.manifest
    status = "reused" if outcome.reused else f"built in {outcome.seconds:.1f} s"
    counts, code, run = manifest.counts, manifest.code, manifest.run
    size = sum(entry.bytes for entry in manifest.files.values())
    # The UI shows ten rows at first: what is asked most stands above.
    rows: list[tuple[str, Any]] = [("artifact", artifact.ref), ("status", status), ("path", artifact.path)]
    if counts.rows_in is not None:
        reasons = [
            f"{reason} {number:,} ({share(number, counts.rows_in)})" for reason, number in by_number(counts.reasons)
        ]
        rows += [
            ("rows", account(counts.rows_in, counts.kept, counts.dropped, counts.failed)),
            ("reasons", ", ".join(reasons) or "none"),
        ]
    rows += [
        *((f"input {entry.name}", entry.artifact) for entry in manifest.inputs),
        ("content", manifest.content),
        ("version and seed", f"stage version {manifest.stage_version}, seed {manifest.seed}"),
        ("files", f"{len(manifest.files)}, {size:,} bytes"),
        ("built", f"{run.finished} on {run.host}" + (f", run {run.run_id}" if run.run_id else "")),
        ("code", f"{code.get('version', '')} {code.get('commit', '')}".strip()),
        *(
            (f"source {entry.name}", f"{entry.licence or 'no licence named'}, {entry.bytes:,} bytes")
            for entry in manifest.sources[:SOURCES]
        ),
    ]
    if len(manifest.sources) > SOURCES:
        rows.append(("more sources", f"{len(manifest.sources) - SOURCES:,}, in the manifest"))
    said = account(counts.rows_in, counts.kept, counts.dropped, counts.failed)
    description = f"`{artifact.ref}` {status}" + (f". {said}" if said else "")
    table = [{"field": name, "value": str(value)} for name, value in rows]
    return Shown(key_of(outcome.stage, "manifest"), table, description)


SOURCES = 20  # rows; a crawl has thousands of files


def by_number(reasons: dict[str, int]) -> list[tuple[str, int]]:
    """Reasons, the most frequent first."""
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def curves(artifact: Artifact) -> Shown | None:
    """`<stage>-curves`: loss, reward and KL over the steps, as images in Markdown with their text beside them.

    Not Prefect's image artifact: it wants a public URL, and writes a `data:` URL out in full over half the page.
    """
    # Drawing imports matplotlib, which most stages never need.
    from flows.report.collect import series
    from flows.report.png import draw_png
    from flows.report.training import LOSSES, ROLES, loss_plot, ppo_plots

    stage, table = artifact.stage, series(artifact)
    if stage in LOSSES:
        plots = [plot for plot in [loss_plot(stage, table, artifact.manifest.metrics)] if plot is not None]
    else:
        plots = ppo_plots([(ROLES[stage], table, 0)])
    if not plots:
        return None
    parts = [f"Artifact `{artifact.ref}`"]
    for plot in plots:
        image = base64.b64encode(draw_png(plot)).decode("ascii")
        said = cell(f"{plot.title}. {plot.describe}")
        parts += [f"## {cell(plot.title)}", f"![{said}](data:image/png;base64,{image})", cell(plot.describe)]
    first = plots[0]
    return Shown(key_of(stage, "curves"), "\n\n".join(parts) + "\n", f"{cell(first.title)}: {cell(first.describe)}")
