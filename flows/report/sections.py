"""The sections of a report about data and its account: what the template shows, or None without the stage."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from artifacts.query import query
from flows.report.collect import Subject
from flows.report.plots import Line, Plot, draw, draw_histogram

Table = dict[str, Any]
DATA_STAGES = ("ingest", "dedup", "paragraphs", "quality", "decontaminate", "pii", "tokenize", "mix")


def funnel(subject: Subject) -> Table | None:
    """Rows in, kept, dropped and failed of each stage with decisions, with their reasons and widths of the bars (%)."""
    stages = []
    most = max((a.manifest.counts.rows_in or 0 for a in subject.artifacts if a.stage in DATA_STAGES), default=0)
    for artifact in subject.artifacts:
        counts = artifact.manifest.counts
        if artifact.stage not in DATA_STAGES or counts.rows_in is None:
            continue
        parts = {name: getattr(counts, name) or 0 for name in ("kept", "dropped", "failed")}
        stages.append(
            {
                "stage": artifact.stage,
                "rows_in": counts.rows_in,
                **parts,
                "bars": [(name, 100 * value / most) for name, value in parts.items() if most],
                "reasons": sorted(counts.reasons.items(), key=lambda item: (-item[1], item[0])),
            }
        )
    if not stages:
        return None
    mix, tokenize = subject.metrics("mix"), subject.metrics("tokenize")
    totals = [(row["tokens"], row["documents"]) for row in (tokenize.get("sources") or {}).values()]
    return {
        "stages": stages,
        "tokens": sum(tokens for tokens, _ in totals) or None,
        "mix_tokens": mix.get("tokens"),
        "mix_rows": mix.get("rows"),
        "sequence_length": mix.get("sequence_length"),
    }


def dedup(subject: Subject) -> Table | None:
    """Counts of duplicates, the curve of the candidate probability and the Jaccard values of the pairs compared."""
    artifact = subject.stages.get("dedup")
    if artifact is None:
        return None
    metrics = artifact.manifest.metrics
    numbers = [
        (name, value) for name, value in metrics.items() if isinstance(value, int) and not isinstance(value, bool)
    ]
    plots: list[tuple[Markup, str]] = []  # each with its caption
    threshold = artifact.manifest.config.get("threshold")
    curve = metrics.get("candidate_probability") or {}
    if curve:
        points = sorted((float(similarity), float(value)) for similarity, value in curve.items())
        describe = "Probability that MinHash-LSH compares two documents, by their Jaccard similarity."
        plot = Plot("Candidate probability", describe, "Jaccard similarity", "probability")
        plot.lines = [Line("", [x for x, _ in points], [y for _, y in points], "dots")]
        plots.append((draw(plot), "Pairs of documents that MinHash-LSH compares, by Jaccard similarity."))
    pairs = _jaccard(subject)
    if pairs is not None:
        describe = f"{sum(pairs[0]) + sum(pairs[1]):,} pairs were compared exactly; accepted at {threshold} and above."
        stacks = [("accepted", pairs[0]), ("rejected", pairs[1])]
        edges = [place / 20 for place in range(21)]
        labels = ("Jaccard similarity", "pairs")
        caption = f"Exact Jaccard similarity of the pairs compared; accepted from {threshold} on."
        plots.append((draw_histogram("Compared pairs", describe, edges, stacks, labels), caption))
    return {"numbers": numbers, "plots": plots}


def _jaccard(subject: Subject) -> tuple[list[int], list[int]] | None:
    """Counts in 20 bins of the accepted and the rejected pairs."""
    counts = ([0] * 20, [0] * 20)
    binned = """select accepted, least(19, floor(jaccard * 20))::int as place, count(*) as pairs
        from t where jaccard is not null and accepted is not null group by all"""
    for row in query(subject.stages["dedup"], "pairs", binned):
        counts[0 if row["accepted"] else 1][row["place"]] += row["pairs"]
    return counts if sum(counts[0]) + sum(counts[1]) else None


def sources(subject: Subject) -> list[dict[str, Any]]:
    """Every external file that the stages read, once, with the stages that read it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for artifact in subject.artifacts:
        for source in artifact.manifest.sources:
            entry = found.setdefault(
                (source.name, source.sha256),
                {
                    **source.model_dump(include={"name", "manifest", "role", "licence", "url", "sha256", "bytes"}),
                    "stages": [],
                },
            )
            if artifact.stage not in entry["stages"]:
                entry["stages"].append(artifact.stage)
    return list(found.values())
