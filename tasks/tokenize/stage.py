"""The tokenize stage: a tokenizer in `model/`, and the tokens of every document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.errors import RunError
from artifacts.reader import Shard
from artifacts.tables import DECISIONS, DOCUMENTS, MODEL, TOKENS
from tasks.stage import Stage, StageContext, Summary
from tasks.text.tokens import encode_texts, load_tokenizer, read_tokenizer, text_digest, token_type, vocabulary_size
from tasks.tokenize.config import TokenizeConfig, tokenizer_sources
from tasks.tokenize.train import sample_texts, save_tokenizer, train_tokenizer, with_end_token


@dataclass(frozen=True)
class EncodeJob:
    """One shard of documents and the tokenizer to encode it with; picklable."""

    shard: Shard
    tokenizer: str
    type: pa.DataType


def encode_shard(job: EncodeJob) -> pa.Table:
    """The tokens of a shard's documents, in order: the columns of TOKENS with `bytes` (of UTF-8 text) and
    `text_digest`, by which `mix` knows that a document still has the text that was encoded. No end tokens."""
    table = job.shard.read(["doc_id", "source", "text"])
    texts = [text or "" for text in table.column("text").to_pylist()]
    rows = encode_texts(load_tokenizer(job.tokenizer), texts)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate([np.zeros(0, dtype=np.uint32), *rows])
    return pa.table(
        {
            "doc_id": table.column("doc_id"),
            "source": table.column("source"),
            "tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values).cast(job.type)),
            "bytes": pa.array([len(text.encode()) for text in texts], pa.int64()),
            "text_digest": pa.array([text_digest(text) for text in texts], pa.string()),
        }
    )


def run(ctx: StageContext) -> Summary:
    """Train or take the tokenizer, then encode all documents, in input order; those without a token are dropped.

    Raises:
        RunError: there is no text to train on.
        UserError: the given tokenizer cannot be read.
    """
    config: TokenizeConfig = ctx.config
    table = ctx.input("documents")
    ctx.progress(0, None, "making the tokenizer")
    trained_on: dict[str, int] | None = None
    if ctx.sources:
        tokenizer = with_end_token(read_tokenizer(str(ctx.sources[0].path)))
    else:
        texts, trained_on = sample_texts(table, config.sample_bytes, ctx.seed)
        if not trained_on["bytes"]:
            raise RunError(
                "tokenize: there is no text to train a tokenizer on; look at the decisions of the stages before"
            )
        tokenizer = train_tokenizer(texts, config)
    path = ctx.path("model/tokenizer.json")
    save_tokenizer(tokenizer, path.parent)

    vocabulary = vocabulary_size(tokenizer)
    jobs = [EncodeJob(shard, str(path), token_type(vocabulary)) for shard in table.shards(512)]
    totals: dict[str, dict[str, int]] = {}
    for encoded in ctx.map_with_progress(encode_shard, jobs, "encoding documents"):
        _write(ctx, encoded, totals)
    by_source = {source: totals[source] for source in sorted(totals)}
    everything = {name: sum(row[name] for row in by_source.values()) for name in ("documents", "tokens", "bytes")}
    metrics: dict[str, Any] = {
        "vocabulary": vocabulary,
        "trained_on": trained_on,
        **everything,
        "bytes_per_token": everything["bytes"] / everything["tokens"] if everything["tokens"] else None,
        "sources": by_source,
    }
    return Summary(metrics=metrics)


def _write(ctx: StageContext, encoded: pa.Table, totals: dict[str, dict[str, int]]) -> None:
    """Write a shard's tokens and decisions, and add to the totals by source."""
    lengths = np.diff(encoded.column("tokens").combine_chunks().offsets.to_numpy())
    kept = lengths > 0
    ctx.writer("data").write(encoded.filter(pa.array(kept)))
    rows = len(kept)
    nulls = {field.name: pa.nulls(rows, field.type) for field in DECISIONS.schema}
    columns = {
        **nulls,
        "doc_id": encoded.column("doc_id"),
        "kept": pa.array(kept),
        "failed": pa.array(np.zeros(rows, dtype=np.bool_)),
        "reason": pa.array([None if whole else "empty" for whole in kept], pa.string()),
    }
    ctx.writer("decisions").write(pa.table(columns, schema=DECISIONS.schema))
    sources, sizes = encoded.column("source").to_pylist(), encoded.column("bytes").to_pylist()
    for source, length, size in zip(sources, lengths.tolist(), sizes, strict=True):
        if length:
            total = totals.setdefault(source, {"documents": 0, "tokens": 0, "bytes": 0})
            total["documents"] += 1
            total["tokens"] += length
            total["bytes"] += size


STAGE = Stage(
    name="tokenize",
    version=1,
    config=TokenizeConfig,
    reads={"documents": DOCUMENTS},
    writes={"data": TOKENS, "decisions": DECISIONS, "model": MODEL},
    run=run,
    sources=tokenizer_sources,
)
