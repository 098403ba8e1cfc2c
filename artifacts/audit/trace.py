"""Following rows through training: which optimizer steps read a page, and which files a model has read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from artifacts.audit.files import files_read, records_by_file
from artifacts.audit.pages import Page, roots
from artifacts.audit.reads import Read, Touch, is_model, reads_of, rows_of, times_read
from artifacts.graph import StoreGraph, inputs_first
from artifacts.query import Table, ask, columns, query, side_by_side
from artifacts.store import Artifact

__all__ = ["Read", "is_model", "reads_of", "trace_artifact", "trace_pages"]

# The spans of the table t, a row each.
SPANS = "select row, unnest(spans, recursive := true) from t"


def trace_pages(whole: StoreGraph, pages: Sequence[Page]) -> dict[str, Any]:
    """See `artifacts.lineage.trace`."""
    wanted = sorted({page.doc_id for page in pages if page.doc_id})
    # Any crawl may hold the page too: a document keeps its doc_id.
    below = whole.descendants(roots(whole))
    # Equal tables of two recipes are one table: what follows was trained once.
    holders = list({a.content: a for a in below if "spans" in columns(a)}.values())
    models = [a for a in whole.artifacts if is_model(a)]
    readers = [(model, read) for model in inputs_first(whole, set(models)) for read in reads_of(whole, model)]
    touched: dict[Artifact, Touch] = defaultdict(Touch)
    rows_of_page: dict[str, list[dict[str, Any]]] = defaultdict(list)
    heldout: dict[str, int] = defaultdict(int)
    sequences, holding = 0, []
    ordered = inputs_first(whole, set(holders))
    tables = [(artifact, table) for artifact in ordered for table in ("data", "heldout")]
    held = dict(zip(tables, side_by_side(partial(_rows_with, *table, wanted) for table in tables), strict=True))
    for artifact in ordered:
        found = held[artifact, "data"]
        holding += [artifact] if found else []
        sequences += len({row for row, _ in found})
        own = [(model, read) for model, read in readers if read.artifact.content == artifact.content]
        for (row, doc_id), places in found.items():
            entry: dict[str, Any] = {"artifact": artifact.ref, "row": row, "spans": places, "steps": []}
            for model, read in own:
                if steps := read.steps_of(row):
                    entry["steps"].append({"artifact": model.ref, "steps": steps})
                    touched[model].steps.update(steps)
                    touched[model].tokens += len(steps) * sum(place["length"] for place in places)
            rows_of_page[doc_id].append(entry)
        for _, doc_id in held[artifact, "heldout"]:
            heldout[doc_id] += 1
    descended = inputs_first(whole, {a for a in whole.descendants(holding) if is_model(a)})
    documents = [
        {
            "doc_id": page.doc_id,
            "url": page.url,
            "sequences": rows_of_page[page.doc_id or ""],
            "heldout": heldout[page.doc_id or ""],
        }
        for page in pages
    ]
    return {
        "documents": documents,
        "sequences": sequences,
        "models": [touched[model].row(model) for model in descended],
        "sources": _sources_of_pages(whole, pages, rows_of_page),
    }


def _rows_with(artifact: Artifact, table: str, doc_ids: Sequence[str]) -> dict[tuple[int, str], list[dict[str, int]]]:
    """(row number, doc_id) to the places in the row that hold the document's tokens, in row order."""
    if "spans" not in columns(artifact, table):
        return {}
    found: dict[tuple[int, str], list[dict[str, int]]] = {}
    sql = f"from ({SPANS}) where doc_id in (select unnest(?)) order by row, start"
    for span in query(artifact, table, sql, [list(doc_ids)]) if doc_ids else ():
        place = {name: span[name] for name in ("start", "length", "offset")}
        found.setdefault((span["row"], span["doc_id"]), []).append(place)
    return found


def _sources_of_pages(
    whole: StoreGraph, pages: Sequence[Page], rows_of_page: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The files that the pages were read from; `tokens` are theirs in all tables of sequences."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    files = {root: files_read(whole, root) for root in {page.root: None for page in pages}}
    for page in pages:
        for source in files[page.root]:
            if source["name"] == page.warc_file:
                entry = entries.setdefault((page.root.ref, source["name"]), source | {"documents": 0, "tokens": 0})
                entry["documents"] += 1
                rows = rows_of_page[page.doc_id or ""]
                entry["tokens"] += sum(place["length"] for row in rows for place in row["spans"])
    return list(entries.values())


def trace_artifact(whole: StoreGraph, artifact: Artifact) -> dict[str, Any]:
    """Up: the files that an artifact comes from, with the documents and tokens of each that training (its own and that
    of the models it was made from) has read, or the prompts and rankings of each that were kept for it. Down: itself,
    if it is a model, and every model made from it."""
    above = inputs_first(whole, {artifact, *whole.ancestors(artifact)})
    reads = [read for model in above for read in reads_of(whole, model)]
    holders = list(dict.fromkeys(read.artifact for read in reads))
    often = {holder: times_read([read for read in reads if read.artifact == holder]) for holder in holders}
    if not reads:
        often = {a: "1" for a in above if "spans" in columns(a)}
    first, sources = roots(whole), []
    for reader in above:
        figures = _figures_by_file(reader, often) if reader in first else None
        records = records_by_file(reader)
        for source in files_read(whole, reader):
            key = (source["name"], source["source"])
            documents, tokens = (None, None) if figures is None else figures.get(key, (0, 0))
            counted = {"documents": documents, "tokens": tokens if often else None}
            sources.append(source | counted | records.get(source["name"], {}))
    models = []
    if is_model(artifact):
        own = reads_of(whole, artifact)
        touch = Touch({step for read in own for step in (0, read.steps - 1) if read.steps > 0})
        touch.tokens = sum(_tokens_read(read) for read in own)
        models.append(touch.row(artifact))
    below = inputs_first(whole, {a for a in whole.descendants([artifact]) if is_model(a)})
    return {
        "documents": [],
        "sequences": sum(_rows_read(holder, times) for holder, times in often.items()),
        "models": models + [Touch().row(model) for model in below],
        "sources": sources,
    }


def _figures_by_file(root: Artifact, often: Mapping[Artifact, str]) -> dict[tuple[str, str], tuple[int, int]]:
    """(file, source) to the (documents, tokens) that reached training, for tables of sequences and how often each of
    their rows was read; without any, all documents of the file."""
    tables = {f"s{number}": Table(holder) for number, holder in enumerate(often)}
    if not often:
        sql = "select warc_file, source, count(*) as documents, 0 as tokens from d group by all"
    else:
        # Spans are summed before the join: joining each and counting distinct documents took a tenth longer.
        parts = " union all ".join(map(_spans_read, tables, often.values()))
        sql = f"""
            with spans as ({parts}), trained as (
                select doc_id, sum(times * length) as tokens from spans where length > 0 group by doc_id
            )
            select warc_file, source, count(*) as documents, sum(tokens)::bigint as tokens
            from trained join d using (doc_id) group by all"""
    rows = ask({"d": Table(root), **tables}, sql)
    return {(row["warc_file"], row["source"]): (row["documents"], row["tokens"]) for row in rows}


def _spans_read(table: str, times: str) -> str:
    """SQL for the spans of those rows of a table that were read, with how often (`times`)."""
    rows = f"select ({times}) as times, spans from {table}"
    return f"select times, unnest(spans, recursive := true) from ({rows}) where times > 0"


def _tokens_read(read: Read) -> int:
    """The tokens that one model read of an artifact's rows, each time counted."""
    sql = f"select sum(times * length)::bigint as tokens from ({_spans_read('t', times_read([read]))})"
    return sum(row["tokens"] or 0 for row in query(read.artifact, "data", sql))


def _rows_read(holder: Artifact, times: str) -> int:
    """How many of its rows were read at all."""
    sql = f"select count(*) as rows from range({rows_of(holder)}) as numbers (row) where ({times}) > 0"
    return sum(row["rows"] for row in ask({}, sql))
