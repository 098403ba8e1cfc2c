"""The sections of a report on decontaminate, pii and mix: what was cut, replaced and packed; None without the stage."""

from __future__ import annotations

from typing import Any

from artifacts.query import Table as Audited
from artifacts.query import ask
from flows.report.collect import Subject

Table = dict[str, Any]


def contamination(subject: Subject) -> list[Table] | None:
    """For each evaluation set what decontaminate met of it; `share met` is of the items long enough to look for.

    Items that were met are the dirty ones of Brown et al. (2020), appendix C; the table `items` names them.
    """
    sets = subject.metrics("decontaminate").get("sets") or {}
    return [
        {
            "set": name,
            "items": row["items"],
            "looked for": row["items_checked"],
            "met": row["items_met"],
            "share met": f"{row['items_met'] / row['items_checked']:.2%}" if row["items_checked"] else "–",
            "documents touched": row["documents_met"],
            "n-grams": row["ngrams"],
            "n-grams met": row["ngrams_met"],
            "commonplace": row["ngrams_commonplace"],
            "bad records": row["bad_records"],
        }
        for name, row in sets.items()
    ] or None


def cutting(subject: Subject) -> Table:
    """What became of the documents that share something with an evaluation set."""
    metrics = subject.metrics("decontaminate")
    names = ("documents", "documents_cut", "documents_dropped", "characters_removed")
    return {name: metrics[name] for name in names if name in metrics}


def pii(subject: Subject) -> Table | None:
    """Replacements and documents by kind, and by source."""
    metrics = subject.metrics("pii")
    if not metrics:
        return None
    artifact = subject.stages["pii"]
    # pii keeps every document, so that row n of one table is row n of the other.
    by_source = """select source, count(*) as documents, count(reason) as changed, coalesce(sum(score), 0)::bigint as
        replaced from d join t using (row) group by source order by source"""
    tables = {"d": Audited(artifact, "data"), "t": Audited(artifact, "decisions")}
    kinds = [
        {"kind": kind, "replaced": count, "documents": metrics["documents_with"][kind]}
        for kind, count in metrics["replaced"].items()
    ]
    return {
        "kinds": kinds,
        "documents": metrics["documents"],
        "changed": metrics["documents_changed"],
        "sources": ask(tables, by_source),
    }


def mix(subject: Subject) -> Table | None:
    """The rows of the mix table (Brown et al. 2020, table 2.2), and what packing cut and padded."""
    metrics = subject.metrics("mix")
    if not metrics.get("sources"):
        return None
    return {"sources": metrics["sources"], "packing": metrics.get("packing")}
