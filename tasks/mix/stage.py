"""The mix stage: rows of tokens in training order, and the table of epochs by source that GPT-3 prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artifacts.errors import RunError, UserError
from artifacts.tables import DECISIONS, DOCUMENTS, SEQUENCES, SPANS, TOKENS
from tasks.mix.config import MixConfig
from tasks.mix.corpus import Corpus, read_corpus
from tasks.mix.plan import Ints, Segments, Stream, cut, hold_out, rows_by_weight, stream_of, training_order
from tasks.stage import Stage, StageContext, Summary
from tasks.text.tokens import end_token, load_tokenizer, token_bytes, token_type, vocabulary_size

ROWS_A_BATCH = 2_048


@dataclass(frozen=True)
class Part:
    """One source's share of the training rows: its documents, their pieces by row, and its tokens available."""

    source: str
    weight: float
    rows: int
    documents: int
    available: int
    segments: Segments
    epochs: Ints  # (rows,) the epoch of each row's first token, from 0


@dataclass(frozen=True)
class Shape:
    """How rows are written."""

    length: int
    type: pa.DataType
    bytes: npt.NDArray[np.int32]  # by token id


def run(ctx: StageContext) -> Summary:
    """Training rows in `data`, rows of documents that are never trained on in `heldout`, a decision a document.

    Raises:
        UserError: a weight names a source that is not there, or `tokens` is less than a row.
        RunError: no document has text, or a source has none but what is held out.
    """
    config: MixConfig = ctx.config
    tokenizer = load_tokenizer(str(ctx.model("tokenizer") / "tokenizer.json"))
    vocabulary = vocabulary_size(tokenizer)
    shape = Shape(config.sequence_length, token_type(vocabulary), token_bytes(tokenizer))
    corpus = read_corpus(ctx, end_token(tokenizer), np.dtype(shape.type.to_pandas_dtype()))
    pools = _pools(config, corpus)
    heldout = hold_out(pools, corpus.doc_ids, corpus.lengths, config.heldout_fraction, config.sequence_length, ctx.seed)
    parts = _parts(config, corpus, pools, heldout, ctx.seed)

    _write_training(ctx, corpus, parts, shape)
    heldout_metrics, shown = _write_heldout(ctx, corpus, heldout, shape, config.heldout_tokens)
    _write_decisions(ctx, corpus, pools, heldout, parts, shown)
    rows = sum(part.rows for part in parts)
    table = [_table_row(part, rows, config.sequence_length) for part in parts]
    return Summary(
        metrics={
            "rows": rows,
            "sequence_length": config.sequence_length,
            "tokens": rows * config.sequence_length,
            "vocabulary": vocabulary,
            "documents_encoded_here": corpus.encoded_here,
            "sources": table,
            "heldout": heldout_metrics,
        }
    )


def _pools(config: MixConfig, corpus: Corpus) -> dict[str, list[int]]:
    """The documents with text of each source in the mix."""
    present = sorted(set(corpus.sources))
    absent = [source for source in config.weights if source not in present]
    if not present:
        raise RunError("mix: there are no documents; look at the decisions of the stages before")
    if absent:
        raise UserError(
            f"mix.weights: no document of source {', '.join(map(repr, absent))}; sources present: {', '.join(present)}"
        )
    pools: dict[str, list[int]] = {source: [] for source in present if not config.weights or source in config.weights}
    for row, source in enumerate(corpus.sources):
        if source in pools and corpus.lengths[row]:
            pools[source].append(row)
    empty = [source for source, pool in pools.items() if not pool]
    if empty:
        raise RunError(f"mix: no document of source {', '.join(map(repr, empty))} has any text")
    return pools


def _parts(
    config: MixConfig, corpus: Corpus, pools: dict[str, list[int]], heldout: dict[str, list[int]], seed: int
) -> list[Part]:
    """Each source's rows, in the order of source names."""
    rows = config.tokens // config.sequence_length
    if not rows:
        raise UserError(f"mix.tokens: {config.tokens} tokens are less than one row of {config.sequence_length}")
    train = {}
    for source, pool in pools.items():
        held = set(heldout[source])
        train[source] = [row for row in pool if row not in held]
    weights = dict(config.weights) or {
        source: float(corpus.lengths[documents].sum()) for source, documents in train.items()
    }
    counts = rows_by_weight(weights, rows)
    total = sum(weights[source] for source in sorted(weights))
    parts = []
    for source in sorted(pools):
        count = counts[source]
        stream = stream_of(train[source], corpus.doc_ids, corpus.lengths, count * config.sequence_length, seed)
        parts.append(
            Part(
                source=source,
                weight=weights[source] / total,
                rows=count,
                documents=len(train[source]),
                available=stream.epoch_tokens,
                segments=cut(stream, count, config.sequence_length),
                epochs=np.arange(count, dtype=np.int64) * config.sequence_length // stream.epoch_tokens,
            )
        )
    return parts


def _write_training(ctx: StageContext, corpus: Corpus, parts: list[Part], shape: Shape) -> None:
    """The `data` table: rows of all sources, interleaved, in training order."""
    order = training_order([part.rows for part in parts], ctx.seed)
    # The k-th occurrence of a source in the order is its row k.
    numbers = np.zeros(len(order), dtype=np.int64)
    for index, part in enumerate(parts):
        numbers[order == index] = np.arange(part.rows)
    for first in range(0, len(order), ROWS_A_BATCH):
        ctx.progress(first, len(order), "writing rows in training order")
        chosen = slice(first, first + ROWS_A_BATCH)
        labels, places = order[chosen], numbers[chosen]
        tables, position = [], np.zeros(len(labels), dtype=np.int64)
        done = 0
        for index, part in enumerate(parts):
            mine = np.flatnonzero(labels == index)
            tables.append(
                _rows(corpus, part.segments.of_rows(places[mine]), part.epochs[places[mine]], part.source, shape)
            )
            position[mine] = np.arange(done, done + len(mine))
            done += len(mine)
        ctx.writer("data").write(pa.concat_tables(tables).take(pa.array(position)))
    ctx.progress(len(order), len(order), "writing rows in training order")


def _write_heldout(
    ctx: StageContext, corpus: Corpus, heldout: dict[str, list[int]], shape: Shape, cap: int
) -> tuple[dict[str, Any], set[int]]:
    """The `heldout` table: each source's held-out documents once, in whole rows. Returns (figures, documents in it).

    With more than `cap` tokens, each source is cut to its share of them; what is left of a row at a source's end is
    not written.
    """
    tokens = {source: int(corpus.lengths[documents].sum()) for source, documents in heldout.items()}
    scale = min(1.0, cap / max(1, sum(tokens.values())))
    shown: set[int] = set()
    figures: dict[str, Any] = {}
    for source in sorted(heldout):
        documents = np.array(heldout[source], dtype=np.int64)
        rows = int(tokens[source] * scale) // shape.length
        if scale < 1.0 and not rows and tokens[source] >= shape.length:
            rows = 1
        starts = np.cumsum(corpus.lengths[documents]) - corpus.lengths[documents]
        segments = cut(Stream(documents, starts, tokens[source]), rows, shape.length)
        table = _rows(corpus, segments, np.zeros(rows, dtype=np.int64), source, shape)
        ctx.writer("heldout").write(table)
        shown.update(segments.document.tolist())
        figures[source] = {
            "documents": len(documents),
            "tokens": tokens[source],
            "rows": rows,
            "bytes": int(np.asarray(table.column("bytes")).sum()),
        }
    return {
        "rows": sum(row["rows"] for row in figures.values()),
        "bytes": sum(row["bytes"] for row in figures.values()),
        "sources": figures,
    }, shown


def _rows(corpus: Corpus, segments: Segments, epochs: Ints, source: str, shape: Shape) -> pa.Table:
    """Rows with the columns of SEQUENCES, and `bytes`: the UTF-8 text in the row, from the lengths of its tokens."""
    count = len(epochs)
    within = np.arange(count * shape.length, dtype=np.int64) - np.repeat(
        np.cumsum(segments.length) - segments.length, segments.length
    )
    tokens = corpus.tokens[np.repeat(corpus.starts[segments.document] + segments.offset, segments.length) + within]
    fields = SPANS.value_type
    spans = pa.StructArray.from_arrays(
        [
            corpus.names.take(pa.array(segments.document, pa.int64())),
            pa.array(segments.start, pa.int32()),
            pa.array(segments.length, pa.int32()),
            pa.array(segments.offset, pa.int64()),
        ],
        fields=[fields.field(index) for index in range(fields.num_fields)],
    )
    offsets = np.searchsorted(segments.row, np.arange(count + 1)).astype(np.int32)
    return pa.table(
        {
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens, shape.type), shape.length),
            "spans": pa.ListArray.from_arrays(pa.array(offsets), spans).cast(SPANS),
            "source": pa.array([source] * count, pa.string()),
            "epoch": pa.array(epochs, pa.int32()),
            "bytes": pa.array(shape.bytes[tokens].reshape(count, shape.length).sum(axis=1), pa.int32()),
        }
    )


def _write_decisions(
    ctx: StageContext,
    corpus: Corpus,
    pools: dict[str, list[int]],
    heldout: dict[str, list[int]],
    parts: list[Part],
    shown: set[int],
) -> None:
    """Kept: in at least one row of `data` (no reason) or of `heldout` (`heldout`). Dropped: `not_in_mix`, `empty`,
    `not_drawn` (its source's rows ended before it), `heldout_unused` (held out, but behind the last written row)."""
    rows = len(corpus.doc_ids)
    reasons = np.full(rows, "not_drawn", dtype=object)
    kept = np.zeros(rows, dtype=np.bool_)
    reasons[[row for row, source in enumerate(corpus.sources) if source not in pools]] = "not_in_mix"
    reasons[(corpus.lengths == 0) & (reasons != "not_in_mix")] = "empty"
    for part in parts:
        kept[part.segments.document] = True
        reasons[part.segments.document] = None
    for documents in heldout.values():
        for row in documents:
            kept[row] = row in shown
            reasons[row] = "heldout" if row in shown else "heldout_unused"
    columns = {
        **{field.name: pa.nulls(rows, field.type) for field in DECISIONS.schema},
        "doc_id": pa.array(corpus.doc_ids, pa.string()),
        "kept": pa.array(kept),
        "failed": pa.array(np.zeros(rows, dtype=np.bool_)),
        "reason": pa.array(reasons, pa.string()),
    }
    ctx.writer("decisions").write(pa.table(columns, schema=DECISIONS.schema))


def _table_row(part: Part, rows: int, length: int) -> dict[str, Any]:
    """One line of table 2.2 of Brown et al. (2020)."""
    drawn = part.rows * length
    return {
        "source": part.source,
        "documents": part.documents,
        "tokens": part.available,
        "weight": part.weight,
        "rows": part.rows,
        "share": part.rows / rows,
        "tokens_drawn": drawn,
        "epochs": drawn / part.available,
    }


STAGE = Stage(
    name="mix",
    version=1,
    config=MixConfig,
    reads={"documents": DOCUMENTS, "tokenizer": TOKENS},
    writes={"data": SEQUENCES, "heldout": SEQUENCES, "decisions": DECISIONS},
    run=run,
)
