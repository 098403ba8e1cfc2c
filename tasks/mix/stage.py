"""The mix stage: rows of tokens in training order, and the table of epochs by source that GPT-3 prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artifacts.errors import RunError, UserError
from artifacts.tables import DECISIONS, DOCUMENTS, SEQUENCES, SPANS, TOKENS
from tasks.mix.config import MixConfig
from tasks.mix.corpus import Corpus, read_corpus
from tasks.mix.packing import pack
from tasks.mix.plan import Ints, Segments, Stream, cut, hold_out, rows_by_weight, stream_of, training_order
from tasks.stage import Stage, StageContext, Summary
from tasks.text.tokens import end_token, load_tokenizer, token_bytes, token_type, vocabulary_size

ROWS_A_BATCH = 2_048


@dataclass(frozen=True)
class Part:
    """One source's share of the training rows: its documents, their pieces by row, and its tokens available.

    `epochs` (rows,): the epoch of each row's first token, from 0.
    """

    source: str
    weight: float
    rows: int
    documents: int
    available: int
    segments: Segments
    epochs: Ints


@dataclass(frozen=True)
class Shape:
    """How rows are written."""

    length: int
    type: pa.DataType
    bytes: npt.NDArray[np.int32]  # by token id
    end: int


def run(ctx: StageContext) -> Summary:
    """Training rows in `data`, rows of documents that are never trained on in `heldout`, a decision a document.

    Raises:
        UserError: a weight or budget names a source that is not there, or is less than a row.
        RunError: no document has text, or a source has none but what is held out.
    """
    config: MixConfig = ctx.config
    tokenizer = load_tokenizer(str(ctx.model("tokenizer") / "tokenizer.json"))
    vocabulary = vocabulary_size(tokenizer)
    shape = Shape(config.sequence_length, token_type(vocabulary), token_bytes(tokenizer), end_token(tokenizer))
    corpus = read_corpus(ctx, shape.end, np.dtype(shape.type.to_pandas_dtype()))
    pools = _pools(config, corpus)
    heldout = hold_out(pools, corpus.doc_ids, corpus.lengths, config.heldout_fraction, config.sequence_length, ctx.seed)
    parts = _parts(config, corpus, pools, heldout, ctx.seed)

    _write_training(ctx, corpus, parts, shape)
    heldout_metrics, shown = _write_heldout(ctx, corpus, heldout, shape, config.heldout_tokens)
    _write_decisions(ctx, corpus, pools, heldout, parts, shown)
    rows = sum(part.rows for part in parts)
    table = [_table_row(part, corpus, rows, config.sequence_length) for part in parts]
    packed = {name: sum(row[name] for row in table) for name in PACKING}
    return Summary(
        metrics={
            "rows": rows,
            "sequence_length": config.sequence_length,
            "tokens": rows * config.sequence_length,
            "vocabulary": vocabulary,
            "documents_encoded_here": corpus.encoded_here,
            "packing": {"method": config.packing, **packed, **_shares(packed, rows * config.sequence_length)},
            "sources": table,
            "heldout": heldout_metrics,
        }
    )


def _pools(config: MixConfig, corpus: Corpus) -> dict[str, list[int]]:
    """The documents with text of each source in the mix."""
    present = sorted(set(corpus.sources))
    field, wanted = ("budgets", list(config.budgets)) if config.budgets else ("weights", list(config.weights))
    absent = [source for source in wanted if source not in present]
    if not present:
        raise RunError("mix: there are no documents; look at the decisions of the stages before")
    if absent:
        raise UserError(
            f"mix.{field}: no document of source {', '.join(map(repr, absent))}; sources present: {', '.join(present)}"
        )
    pools: dict[str, list[int]] = {source: [] for source in present if not wanted or source in wanted}
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
    train = {}
    for source, pool in pools.items():
        held = set(heldout[source])
        train[source] = [row for row in pool if row not in held]
    tokens = {source: float(corpus.lengths[documents].sum()) for source, documents in train.items()}
    weights = dict(config.budgets or config.weights) or tokens
    counts = _row_counts(config, weights)
    total = sum(weights[source] for source in sorted(weights))
    length, parts = config.sequence_length, []
    for source in sorted(pools):
        count = counts[source]
        if config.packing == "best_fit":
            segments, epochs = pack(train[source], corpus.doc_ids, corpus.lengths, count, length, seed)
        else:
            stream = stream_of(train[source], corpus.doc_ids, corpus.lengths, count * length, seed)
            segments = cut(stream, count, length)
            epochs = np.arange(count, dtype=np.int64) * length // stream.epoch_tokens
        share, available = weights[source] / total, int(tokens[source])
        parts.append(Part(source, share, count, len(train[source]), available, segments, epochs))
    return parts


def _row_counts(config: MixConfig, weights: Mapping[str, float]) -> dict[str, int]:
    """Rows of each source: of its budget, or its share of `tokens`."""
    length = config.sequence_length
    small = [source for source, budget in config.budgets.items() if budget < length]
    if small:
        raise UserError(f"mix.budgets.{small[0]}: {config.budgets[small[0]]} tokens are less than one row of {length}")
    if config.budgets:
        return {source: budget // length for source, budget in config.budgets.items()}
    if config.tokens < length:
        raise UserError(f"mix.tokens: {config.tokens} tokens are less than one row of {length}")
    return rows_by_weight(weights, config.tokens // length)


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
    within = np.arange(segments.length.sum(), dtype=np.int64) - np.repeat(
        np.cumsum(segments.length) - segments.length, segments.length
    )
    # What no span covers is padding, and holds end tokens.
    tokens = np.full(count * shape.length, shape.end, dtype=corpus.tokens.dtype)
    place = np.repeat(segments.row * shape.length + segments.start, segments.length) + within
    tokens[place] = corpus.tokens[
        np.repeat(corpus.starts[segments.document] + segments.offset, segments.length) + within
    ]
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


# What packing did, in tokens and documents: see `_table_row`.
PACKING = ("tokens_drawn", "tokens_padding", "tokens_cut", "documents_drawn", "documents_cut", "documents_too_long")


def _table_row(part: Part, corpus: Corpus, rows: int, length: int) -> dict[str, Any]:
    """One line of table 2.2 of Brown et al. (2020), and what packing did.

    `tokens_drawn`: real ones; `tokens_cut`: those of documents that would fit a row and are not whole in one
    (`documents_cut`); documents of more than a row can only be cut (`documents_too_long`). A document counts once a
    visit, as often as it begins in a row.
    """
    pieces = part.segments
    whole, fits = pieces.length == corpus.lengths[pieces.document], corpus.lengths[pieces.document] <= length
    drawn = int(pieces.length.sum())
    return {
        "source": part.source,
        "documents": part.documents,
        "tokens": part.available,
        "weight": part.weight,
        "rows": part.rows,
        "share": part.rows / rows,
        "tokens_drawn": drawn,
        "epochs": drawn / part.available,
        "tokens_padding": part.rows * length - drawn,
        "tokens_cut": int(pieces.length[fits & ~whole].sum()),
        "documents_drawn": int((pieces.offset == 0).sum()),
        "documents_cut": int((fits & ~whole & (pieces.offset == 0)).sum()),
        "documents_too_long": int((~fits & (pieces.offset == 0)).sum()),
    }


def _shares(packed: Mapping[str, int], tokens: int) -> dict[str, float]:
    """Padding as a share of all tokens, cut tokens and documents as shares of those drawn."""
    return {
        "padding_share": packed["tokens_padding"] / tokens,
        "cut_share": packed["tokens_cut"] / packed["tokens_drawn"],
        "documents_cut_share": packed["documents_cut"] / max(1, packed["documents_drawn"]),
    }


STAGE = Stage(
    name="mix",
    version=1,
    config=MixConfig,
    reads={"documents": DOCUMENTS, "tokenizer": TOKENS},
    writes={"data": SEQUENCES, "heldout": SEQUENCES, "decisions": DECISIONS},
    run=run,
)
