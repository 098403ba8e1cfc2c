"""The report's section about quality: rules, scores, thresholds, the keep rate, and examples of text at each score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from artifacts.query import columns, query
from artifacts.store import Artifact
from flows.report.collect import Subject
from flows.report.plots import Line, Plot, draw, draw_histogram
from flows.report.sections import Table

EXAMPLES = 2  # of each decile
EXCERPT = 280  # characters


def quality(subject: Subject) -> Table | None:
    """Rules and counts, the score histogram, the classifier on held-out documents, thresholds, the keep rate, texts."""
    metrics = subject.metrics("quality")
    histogram, heuristics = metrics.get("histogram"), metrics.get("heuristics")
    if not histogram and not heuristics:
        return None
    found: Table = {
        "rule": metrics.get("rule"),
        "heuristics": heuristics,
        "plot": None,
        "describe": "",
        "heldout": {},
        "curve": None,
        "thresholds": metrics.get("thresholds") or [],
        "keep": _keep(subject, metrics.get("keep")),
        "deciles": [],
    }
    if histogram:
        kept, dropped = sum(histogram["kept"]), sum(histogram["dropped"])
        found["describe"] = (
            f"{kept:,} crawl documents kept, {dropped:,} dropped, by the classifier's score from 0 to 1."
        )
        stacks = [("kept", histogram["kept"]), ("dropped", histogram["dropped"])]
        labels = ("score (1: like the curated class)", "crawl documents")
        edges = histogram["edges"]
        found["plot"] = draw_histogram("Quality scores", found["describe"], edges, stacks, labels)
        heldout = metrics.get("heldout", {})
        found["heldout"] = {name: value for name, value in heldout.items() if isinstance(value, int | float)}
        found["deciles"] = deciles(subject)
    if found["thresholds"]:
        describe = "Precision and recall of score >= threshold on held-out documents, by threshold."
        found["curve"] = {"plot": _curve(found["thresholds"], describe), "describe": describe}
    return found


def _curve(rows: Sequence[Mapping[str, Any]], describe: str) -> Any:
    plot = Plot("Thresholds", describe, "threshold", "share")
    for place, name in enumerate(("recall", "even_precision", "crawl_kept")):
        points = [(row["threshold"], row[name]) for row in rows if row.get(name) is not None]
        label = {"even_precision": "precision at even odds", "crawl_kept": "crawl at or above"}.get(name, name)
        plot.lines.append(Line(label, [x for x, _ in points], [y for _, y in points], "line", place))
    return draw(plot)


def _keep(subject: Subject, keep: Mapping[str, Any] | None) -> Table | None:
    """The keep rate with its expectation, and what all stages so far kept of the records read."""
    if not keep or not keep.get("documents"):
        return None
    error = keep["standard_error"]
    ingest, artifact = subject.stages.get("ingest"), subject.stages["quality"]
    read = ingest.manifest.counts.rows_in if ingest else None
    return {
        **keep,
        "error_share": error / keep["documents"],
        "errors_off": (keep["kept"] - keep["expected"]) / error if error else None,
        "of_records": artifact.manifest.counts.kept / read if read and artifact.manifest.counts.kept else None,
    }


def deciles(subject: Subject) -> list[Table]:
    """Some documents of each tenth of the judged ones, by score: the text is that of the stage's input."""
    artifact = subject.stages["quality"]
    if not {"doc_id", "score", "reason", "kept"} <= columns(artifact, "decisions"):
        return []
    ranked = """with judged as (
            select doc_id, kept, score, ntile(10) over (order by score, doc_id) as decile
            from t where score is not null and (reason is null or reason = 'quality'))
        select decile, doc_id, kept, score, count(*) over tenth as documents, min(score) over tenth as low,
            max(score) over tenth as high
        from judged window tenth as (partition by decile)
        qualify row_number() over (partition by decile order by md5(doc_id)) <= ?
        order by decile desc, md5(doc_id)"""
    chosen = query(artifact, "decisions", ranked, [EXAMPLES])
    texts = _texts(subject, artifact, [row["doc_id"] for row in chosen])
    found: dict[int, Table] = {}
    for row in chosen:
        tenth = found.setdefault(
            row["decile"], {**{k: row[k] for k in ("decile", "documents", "low", "high")}, "rows": []}
        )
        url, text = texts.get(row["doc_id"], ("", None))
        tenth["rows"].append(
            {"doc_id": row["doc_id"], "kept": row["kept"], "score": row["score"], "url": url, "text": text}
        )
    return list(found.values())


def _texts(subject: Subject, artifact: Artifact, doc_ids: list[str]) -> dict[str, tuple[str, str]]:
    """URL and the beginning of the text by doc_id, from those of the stage's inputs that the store still has."""
    inputs = {entry.artifact for entry in artifact.manifest.inputs}
    wanted = "select doc_id, url, left(text, ?) as text from t where doc_id in (select unnest(?))"
    found = {}
    for source in subject.artifacts:
        if source.ref in inputs and "text" in columns(source):
            for row in query(source, "data", wanted, [EXCERPT, doc_ids]):
                found[row["doc_id"]] = (row["url"] or "", row["text"])
    return found
