"""The report's section about paragraphs: what was cut, of which source, and which units are repeated most."""

from __future__ import annotations

from artifacts.query import columns, query
from flows.report.collect import Subject
from flows.report.plots import draw_histogram
from flows.report.sections import Table

EXCERPT = 160  # characters of a unit
BINS = 20


def repeats(subject: Subject) -> Table | None:
    """Counts, the account of each source, how much of the documents was cut, and the commonest units with their text;
    None without the stage, or where it is older than its accounts."""
    artifact = subject.stages.get("paragraphs")
    if artifact is None or "sources" not in artifact.manifest.metrics:
        return None
    metrics, config = artifact.manifest.metrics, artifact.manifest.config
    names = ("documents", "documents_cut", "documents_dropped", "units", "units_cut", "characters_removed")
    characters = sum(row["characters"] for row in metrics["sources"].values())
    return {
        **{name: metrics[name] for name in (*names, "units_compared", "units_repeated", "units_exempt")},
        "unit": config["unit"],
        "least": config["min_occurrences"],
        "remaining": config["min_remaining"],
        "share": _share(metrics["characters_removed"], characters),
        "sources": [_source(name, row, name in config["exempt"]) for name, row in metrics["sources"].items()],
        "plot": _plot(subject),
        "most": _most(subject),
    }


def _source(name: str, row: Table, exempt: bool) -> Table:
    return {
        **row,
        "source": name,
        "exempt": exempt,
        "units_share": _share(row["units_cut"], row["units"]),
        "characters_share": _share(row["characters_removed"], row["characters"]),
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "–"


def _plot(subject: Subject) -> Table | None:
    """The documents that lost something, in bins of the share of their characters that was cut."""
    binned = """select kept, least(?, floor(score * ?))::int as place, count(*) as documents
        from t where score > 0 group by all"""
    counts = {True: [0] * BINS, False: [0] * BINS}
    for row in query(subject.stages["paragraphs"], "decisions", binned, [BINS - 1, BINS]):
        counts[row["kept"]][row["place"]] += row["documents"]
    total = sum(counts[True]) + sum(counts[False])
    if not total:
        return None
    describe = f"{total:,} documents lost something, by the share of their characters that was cut."
    edges = [place / BINS for place in range(BINS + 1)]
    stacks = [("kept", counts[True]), *([("dropped", counts[False])] if any(counts[False]) else [])]
    labels = ("share of the document's characters", "documents")
    return {"svg": draw_histogram("What documents lost", describe, edges, stacks, labels), "describe": describe}


def _most(subject: Subject) -> list[Table]:
    """The commonest units, with the beginning of their text on one line; None where the store no longer has it."""
    artifact = subject.stages["paragraphs"]
    found: list[Table] = artifact.manifest.metrics["most_repeated"]
    inputs = {entry.artifact for entry in artifact.manifest.inputs}
    texts: dict[int, str] = {}
    # Characters of SQL are code points, as the stage counts them.
    wanted = """with wanted as (select unnest(?) as place, unnest(?) as id, unnest(?) as first, unnest(?) as size)
        select place, substr(text, first + 1, size) as text from t join wanted on doc_id = id
        where doc_id in (select unnest(?))"""
    ids, sizes = [row["doc_id"] for row in found], [min(row["characters"], EXCERPT + 1) for row in found]
    values = [list(range(len(found))), ids, [row["offset"] for row in found], sizes, sorted(set(ids))]
    for source in subject.artifacts:
        if found and source.ref in inputs and {"doc_id", "text"} <= columns(source):
            texts |= {row["place"]: row["text"] for row in query(source, "data", wanted, values)}
    return [{**row, "text": _excerpt(texts.get(place))} for place, row in enumerate(found)]


def _excerpt(text: str | None) -> str | None:
    if text is None:
        return None
    return " ".join(text[:EXCERPT].split()) + ("…" if len(text) > EXCERPT else "")
