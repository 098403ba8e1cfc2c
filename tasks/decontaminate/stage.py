"""Decontaminate: what the documents share with evaluation sets is cut out of them.

After GPT-3 (Brown et al. 2020, appendix C), with its numbers as recalled, not as checked in the paper: n-grams of 13
words, lower-cased and without punctuation; the hit and 200 characters on either side removed; pieces under 200
characters dropped; documents cut into more than 10 pieces dropped; n-grams of more than 10 documents ignored as
commonplace. Where GPT-3 made a document of every piece, the pieces stay one document here, joined by a blank line, so
that a row in is a row out and its doc_id keeps its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.reader import InputTable
from artifacts.sources import Source, resolve_sources
from artifacts.tables import DECISIONS, DOCUMENTS, TableKind
from tasks.decontaminate.config import DecontaminateConfig
from tasks.decontaminate.cutting import Cut, CutTask, SearchTask, cut_shard, search_shard
from tasks.decontaminate.index import Index, Ints, build_index
from tasks.stage import Stage, StageContext, Summary

CUT, CONTAMINATED = "decontaminated_cut", "contaminated"
ROWS_A_BATCH = 2_048

# One row an evaluation item: `item` is its record's place in the set, from 0; `dirty` as in GPT-3's appendix C.
ITEMS = TableKind(
    "items",
    pa.schema(
        [
            ("set", pa.string()),
            ("item", pa.int64()),
            ("checked", pa.bool_()),
            ("dirty", pa.bool_()),
            ("ngrams", pa.int64()),
            ("ngrams_met", pa.int64()),
            ("documents_met", pa.int64()),
        ]
    ),
)


def sources(config: DecontaminateConfig) -> list[Source]:
    """The evaluation sets of the config."""
    return resolve_sources(config.against, "evaluation")


def run(context: StageContext) -> Summary:
    """Write the documents without what they share with the evaluation sets, a decision a document, and the items."""
    documents = context.input("documents")
    index = build_index(context.sources, context.config)
    hits = _search(context, documents, index)
    cuts = _cut(context, documents, index, hits)
    changed = _write(context, documents, index, hits, cuts)
    context.writer("items").write(_items(index, hits))
    return Summary(metrics={"documents": documents.rows, **changed, "sets": _set_metrics(index, hits)})


@dataclass(frozen=True)
class _Hits:
    """Every (document, n-gram) that met, without those of commonplace n-grams, ordered by document."""

    rows: Ints
    grams: Ints
    commonplace: Ints  # n-grams met in too many documents, ascending

    def of(self, row: int) -> Ints:
        first, last = np.searchsorted(self.rows, [row, row + 1])
        return self.grams[first:last]


def _search(context: StageContext, documents: InputTable, index: Index) -> _Hits:
    rows, grams = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    if len(index.grams):
        path = str(index.save(context.work))
        tasks = [SearchTask(shard, path) for shard in documents.shards(ROWS_A_BATCH)]
        for found_rows, found_grams in context.map_with_progress(search_shard, tasks, "looking for evaluation items"):
            rows.append(found_rows)
            grams.append(found_grams)
    row, gram = np.concatenate(rows), np.concatenate(grams)
    met_in = np.bincount(gram, minlength=len(index.grams))
    common = met_in > context.config.commonplace
    live = ~common[gram]
    return _Hits(row[live], gram[live], np.flatnonzero(common))


def _cut(context: StageContext, documents: InputTable, index: Index, hits: _Hits) -> dict[int, Cut]:
    rows = np.unique(hits.rows)
    if not len(rows):
        return {}
    config: DecontaminateConfig = context.config
    path = str(index.save(context.work))
    tasks = []
    for shard in documents.shards(ROWS_A_BATCH):
        own = rows[(rows >= shard.first_row) & (rows < shard.first_row + shard.rows)]
        if len(own):
            tasks.append(CutTask(shard, own, path, hits.commonplace, config.window, config.min_piece))
    parts = context.map_with_progress(cut_shard, tasks, "cutting documents")
    return {cut.row: cut for part in parts for cut in part}


def _write(
    context: StageContext, documents: InputTable, index: Index, hits: _Hits, cuts: dict[int, Cut]
) -> dict[str, int]:
    """Documents and decisions in input order; returns how many were cut and dropped, and the characters lost."""
    config: DecontaminateConfig = context.config
    counts = {"documents_cut": 0, "documents_dropped": 0, "characters_removed": 0}
    first = 0
    context.writer("data").write(documents.schema.empty_table())
    for batch in documents.batches(rows=ROWS_A_BATCH):
        texts, decided = batch.column("text").to_pylist(), []
        for row, doc_id in enumerate(batch.column("doc_id").to_pylist()):
            cut = cuts.get(first + row)
            decision = _decision(doc_id, cut, index, hits, config)
            decided.append(decision)
            if cut is None:
                continue
            left = cut.text if decision["kept"] else ""
            counts["characters_removed"] += len(texts[row]) - len(left)
            counts["documents_cut" if decision["kept"] else "documents_dropped"] += 1
            texts[row] = left
        column = batch.schema.get_field_index("text")
        kept = pa.array([decision["kept"] for decision in decided], pa.bool_())
        changed = batch.set_column(column, "text", pa.array(texts, batch.schema.field(column).type))
        context.writer("data").write(changed.filter(kept))
        context.writer("decisions").write(pa.Table.from_pylist(decided, schema=DECISIONS.schema))
        first += batch.num_rows
    return counts


def _decision(doc_id: str, cut: Cut | None, index: Index, hits: _Hits, config: DecontaminateConfig) -> dict[str, Any]:
    """Score: the number of n-grams shared with evaluation items; detail: with which sets, and what became of it."""
    row: dict[str, Any] = dict.fromkeys(DECISIONS.schema.names)
    row |= {"doc_id": doc_id, "kept": True, "failed": False}
    if cut is None:
        return row
    grams = hits.of(cut.row)
    detail = ", ".join(f"{name}: {count}" for name, count in index.sets_of(grams))
    detail += f"; {cut.pieces} piece{'s' if cut.pieces != 1 else ''}"
    row["score"] = float(len(grams))
    row["kept"] = bool(cut.text) and cut.pieces <= config.max_pieces
    row["reason"] = CUT if row["kept"] else CONTAMINATED
    row["detail"] = detail if cut.text else f"{detail}, none of {config.min_piece} characters"
    return row


def _items(index: Index, hits: _Hits) -> pa.Table:
    """Which items were met, and in how many documents: an evaluation on the rest is one on clean items alone."""
    count = len(index.item_set)
    met = np.zeros(len(index.grams), dtype=np.bool_)
    met[hits.grams] = True
    ngrams = np.bincount(index.item, minlength=count)
    ngrams_met = np.bincount(index.item[met[index.gram]], minlength=count)
    # Each hit, once for every item that has the n-gram; then each (item, document) once.
    first = np.searchsorted(index.gram, hits.grams)
    owners = np.searchsorted(index.gram, hits.grams, "right") - first
    place = np.arange(owners.sum()) - np.repeat(np.cumsum(owners) - owners - first, owners)
    pairs = np.unique(np.stack([index.item[place], np.repeat(hits.rows, owners)], axis=1), axis=0)
    columns = {
        "set": pa.array(np.array(index.names, dtype=object)[index.item_set], pa.string()),
        "item": index.item_record,
        "checked": ngrams > 0,
        "dirty": ngrams_met > 0,
        "ngrams": ngrams,
        "ngrams_met": ngrams_met,
        "documents_met": np.bincount(pairs[:, 0], minlength=count),
    }
    return pa.table(columns, schema=ITEMS.schema)


def _set_metrics(index: Index, hits: _Hits) -> dict[str, dict[str, int]]:
    """For each evaluation set: its items, those long enough to look for, those met, and in how many documents."""
    met = np.zeros(len(index.grams), dtype=np.bool_)
    met[hits.grams] = True
    common = np.zeros(len(index.grams), dtype=np.bool_)
    common[hits.commonplace] = True
    figures = {}
    for number, name in enumerate(index.names):
        own = index.item_set[index.item] == number
        grams = np.unique(index.gram[own])
        figures[name] = {
            "items": int((index.item_set == number).sum()),
            "items_checked": len(np.unique(index.item[own])),
            "items_met": len(np.unique(index.item[own & met[index.gram]])),
            "bad_records": int(index.bad_records[number]),
            "ngrams": len(grams),
            "ngrams_met": int(met[grams].sum()),
            "ngrams_commonplace": int(common[grams].sum()),
            "hits": int(np.isin(hits.grams, grams).sum()),
            "documents_met": len(np.unique(hits.rows[np.isin(hits.grams, grams)])),
        }
    return figures


STAGE = Stage(
    name="decontaminate",
    version=2,
    config=DecontaminateConfig,
    reads={"documents": DOCUMENTS},
    writes={"data": DOCUMENTS, "decisions": DECISIONS, "items": ITEMS},
    run=run,
    sources=sources,
    seeded=False,
)
