"""The data stages: ingest, dedup, quality, decontaminate, tokenize and mix, deciding by dice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from artifacts.sources import Source
from artifacts.tables import DECISIONS, DOCUMENTS, PAIRS, SEQUENCES, TOKENIZER, TOKENS
from tasks.stage import Stage, StageConfig, StageContext, Summary

from .pages import BATCH, CRAWL_FILES, CURATED_FILES, Ints, doc_id_of, origins, pages

ROW = 512  # tokens a row of sequences


class Config(StageConfig):
    """Of every stage here; `label` makes another recipe."""

    documents: int = 1_000_000
    label: str = ""


def decisions(doc_id: Any, kept: Any, **more: Any) -> pa.Table:
    rows = len(doc_id)
    columns = {field.name: pa.nulls(rows, field.type) for field in DECISIONS.schema}
    columns |= {"failed": pa.array(np.zeros(rows, np.bool_)), "doc_id": doc_id, "kept": kept, **more}
    return pa.table(columns, schema=DECISIONS.schema)


def external(name: str, source: str, role: str, licence: str, manifest: str) -> Source:
    digest = sha256(name.encode()).hexdigest()
    url = f"https://example.org/{name}"
    return Source(name, Path("/nowhere"), digest, 10**8, source, manifest, role, licence, url)


def _sources(_: Config) -> list[Source]:
    crawl = [external(f"crawl-{n:02d}.warc.gz", "crawl", "crawl", "CC-BY-4.0", "webcrawl") for n in range(CRAWL_FILES)]
    return crawl + [external(f"book-{n}.txt", "books", "curated", "CC0-1.0", "books") for n in range(CURATED_FILES)]


def _ingest(context: StageContext) -> Summary:
    """Keeps every page, and meets 15% more records that it drops, some of them without a name."""
    total = context.config.documents
    reasons = np.array(["http_status", "lang", "too_short", "duplicate_record", "truncated_record"], dtype=object)
    for first in range(0, total, BATCH):
        context.progress(first, total, "pages")
        table = pages(context.seed, first, min(BATCH, total - first), total)
        context.writer("data").write(table)
        context.writer("decisions").write(
            decisions(table["doc_id"], np.ones(len(table), np.bool_), reason=["kept"] * len(table), url=table["url"])
        )
        draw = np.random.default_rng([context.seed, 4, first])
        count = len(table) * 15 // 100
        chosen = draw.choice(5, count, p=[0.5, 0.3, 0.18, 0.015, 0.005])
        failed = chosen == 4
        urls = [f"http://www{n % 5_000}.example.org/gone/{first}-{n}.html" for n in draw.integers(0, 10**9, count)]
        named = [None if lost else url for url, lost in zip(urls, failed, strict=True)]
        context.writer("decisions").write(
            decisions(
                [doc_id_of(url, -1) for url in urls],
                np.zeros(count, np.bool_),
                failed=failed,
                reason=reasons[chosen].tolist(),
                score=pa.array(draw.random(count), mask=chosen != 1),
                threshold=pa.array(np.full(count, 0.5), mask=chosen != 1),
                detail=[f"crawl-00.warc.gz@{n}" if lost else None for n, lost in enumerate(failed)],
                url=named,
            )
        )
    return Summary(metrics={"records": total})


def _batches(context: StageContext) -> Iterator[tuple[int, pa.Table]]:
    first = 0
    for table in context.input("documents").batches(rows=BATCH):
        context.progress(first, None, "documents")
        yield first, table.combine_chunks()
        first += len(table)


def _dedup(context: StageContext) -> Summary:
    for first, table in _batches(context):
        found = origins(context.seed, first, len(table))
        kept, near = found.unique, ~found.unique & ~found.exact
        ids = table["doc_id"].combine_chunks()
        words = pc.add(pc.count_substring(table["text"], " "), 1).to_numpy()
        similar = np.where(found.exact, 1.0, (words - 9) / (words + 1))
        context.writer("data").write(table.filter(pa.array(kept)))
        context.writer("decisions").write(
            decisions(
                ids,
                kept,
                reason=pa.array(np.where(found.exact, "exact_duplicate", "near_duplicate"), mask=kept),
                score=pa.array(similar, mask=kept),
                threshold=pa.array(np.where(found.exact, 1.0, 0.8), mask=kept),
                detail=pc.if_else(pa.array(kept), pa.scalar(None, pa.string()), ids.take(pa.array(found.origin))),
            )
        )
        one, other = ids.filter(pa.array(near)), ids.take(pa.array(found.origin[near]))
        swapped = pc.greater(one, other)
        context.writer("pairs").write(
            pa.table(
                {
                    "doc_a": pc.if_else(swapped, other, one),
                    "doc_b": pc.if_else(swapped, one, other),
                    "jaccard": similar[near],
                    "accepted": np.ones(near.sum(), np.bool_),
                },
                schema=PAIRS.schema,
            )
        )
    return Summary()


def _quality(context: StageContext) -> Summary:
    for first, table in _batches(context):
        draw = np.random.default_rng([context.seed, 5, first])
        curated = pc.equal(table["source"], "books").to_numpy()
        score, dice = draw.beta(2, 2, len(table)), draw.pareto(3.0, len(table))
        kept = curated | (dice > 1 - score) | (score > 0.6)
        context.writer("data").write(table.filter(pa.array(kept)))
        reason = np.where(curated, "curated", "quality").astype(object)
        context.writer("decisions").write(
            decisions(
                table["doc_id"],
                kept,
                reason=pa.array(reason, pa.string(), mask=kept & ~curated),
                score=score,
                threshold=1 - dice,
                draw=dice,
            )
        )
    return Summary()


def _decontaminate(context: StageContext) -> Summary:
    for first, table in _batches(context):
        kept = np.random.default_rng([context.seed, 6, first]).random(len(table)) > 0.002
        context.writer("data").write(table.filter(pa.array(kept)))
        reason = pa.array(np.full(len(table), "contaminated"), mask=kept)
        context.writer("decisions").write(decisions(table["doc_id"], kept, reason=reason))
    return Summary()


def _tokenize(context: StageContext) -> Summary:
    """A token a word."""
    context.path("model/tokenizer.json").write_text("{}")
    for first, table in _batches(context):
        lengths = pc.add(pc.count_substring(table["text"], " "), 1).to_numpy()
        draw = np.random.default_rng([context.seed, 7, first])
        tokens = (draw.random(lengths.sum()) ** 3 * 16_384).astype(np.uint16)
        lists = pa.ListArray.from_arrays(np.append(0, np.cumsum(lengths)).astype(np.int32), pa.array(tokens))
        context.writer("data").write(pa.table({"doc_id": table["doc_id"], "source": table["source"], "tokens": lists}))
        context.writer("decisions").write(decisions(table["doc_id"], np.ones(len(table), np.bool_)))
    return Summary(metrics={"vocabulary": 16_384})


def _mix(context: StageContext) -> Summary:
    """The crawl once and the curated files twice, in rows of 512 tokens; 0.5% of the documents are held out."""
    known = context.input_table("tokenizer", "data").read()
    ids, tokens = known["doc_id"].combine_chunks(), known["tokens"].combine_chunks()
    values = tokens.values.to_numpy()
    begins = tokens.offsets.to_numpy().astype(np.int64)
    begins, lengths = begins[:-1], np.diff(begins)
    draw = np.random.default_rng([context.seed, 8, len(context.config.label)])
    held = draw.random(len(ids)) < 0.005
    books = pc.equal(known["source"], "books").to_numpy()

    def rows(source: str, documents: Ints, epoch: int) -> pa.Table:
        return _rows(source, documents, epoch, ids, lengths, begins, values)

    parts = [rows("crawl", draw.permutation(np.flatnonzero(~books & ~held)), 0)]
    parts += [rows("books", draw.permutation(np.flatnonzero(books & ~held)), epoch) for epoch in (0, 1)]
    table = pa.concat_tables(parts)
    order = draw.permutation(len(table))
    for first in range(0, len(order), BATCH):
        context.writer("data").write(table.take(pa.array(order[first : first + BATCH])))
    context.writer("heldout").write(rows("crawl", np.flatnonzero(held), 0))
    reason = pa.array(np.full(len(ids), "heldout"), mask=~held)
    context.writer("decisions").write(decisions(ids, np.ones(len(ids), np.bool_), reason=reason))
    return Summary(metrics={"rows": len(order)})


def _rows(
    source: str, documents: Ints, epoch: int, ids: pa.Array, lengths: Ints, begins: Ints, values: Any
) -> pa.Table:
    """The documents one behind the other, cut into whole rows; what is left over at the end is not written."""
    size = lengths[documents]
    ends = np.cumsum(size)
    count = int(ends[-1]) // ROW if len(ends) else 0
    cuts = np.unique(np.concatenate([ends - size, np.arange(count + 1) * ROW]))
    cuts = cuts[cuts <= count * ROW]
    starts, length = cuts[:-1], np.diff(cuts)
    place = np.searchsorted(ends, starts, side="right")
    offset = starts - (ends - size)[place]
    within = np.arange(count * ROW) - np.repeat(starts, length)
    tokens = values[np.repeat(begins[documents[place]] + offset, length) + within]
    spans = pa.StructArray.from_arrays(
        [
            ids.take(pa.array(documents[place])),
            pa.array(starts % ROW, pa.int32()),
            pa.array(length, pa.int32()),
            pa.array(offset, pa.int64()),
        ],
        names=["doc_id", "start", "length", "offset"],
    )
    bounds = pa.array(np.searchsorted(starts // ROW, np.arange(count + 1)).astype(np.int32))
    return pa.table(
        {
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens, pa.uint16()), ROW),
            "spans": pa.ListArray.from_arrays(bounds, spans),
            "source": pa.array([source] * count, pa.string()),
            "epoch": pa.array(np.full(count, epoch, np.int32)),
        }
    )


def stage(name: str, run: Callable[[StageContext], Summary], reads: Any, writes: Any, sources: Any = None) -> Stage:
    return Stage(name, 1, Config, reads, writes, run, sources=sources)


_DOCUMENTS = {"data": DOCUMENTS, "decisions": DECISIONS}
INGEST = stage("ingest", _ingest, {}, _DOCUMENTS, _sources)
DEDUP = stage("dedup", _dedup, {"documents": DOCUMENTS}, {**_DOCUMENTS, "pairs": PAIRS})
QUALITY = stage("quality", _quality, {"documents": DOCUMENTS}, _DOCUMENTS)
DECONTAMINATE = stage("decontaminate", _decontaminate, {"documents": DOCUMENTS}, _DOCUMENTS)
TOKENIZE = stage(
    "tokenize", _tokenize, {"documents": DOCUMENTS}, {"data": TOKENS, "decisions": DECISIONS, "model": TOKENIZER}
)
MIX = stage(
    "mix",
    _mix,
    {"documents": DOCUMENTS, "tokenizer": TOKENS},
    {"data": SEQUENCES, "heldout": SEQUENCES, "decisions": DECISIONS},
)
