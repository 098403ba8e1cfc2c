"""The tokens of the documents to mix: joined by doc_id and text, encoded where they are missing, laid out flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from artifacts.reader import InputTable, Shard
from tasks.stage import StageContext
from tasks.text.tokens import encode_texts, load_tokenizer, text_digest

Ints = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Corpus:
    """N documents in input order and their tokens, each with one end token behind it.

    Attributes:
        names: `doc_ids` as an Arrow array.
        tokens: all documents' tokens one after the other.
        starts: (N,) where each begins in `tokens`.
        lengths: (N,) its number of tokens with the end token; 0 for a document without text.
        encoded_here: how many were not in the tokenizer's artifact, or had another text there.
    """

    doc_ids: list[str]
    names: pa.Array
    sources: list[str]
    tokens: Tokens
    starts: Ints
    lengths: Ints
    encoded_here: int


@dataclass(frozen=True)
class MissingJob:
    """The rows of one shard that have no tokens yet, and the tokenizer; picklable."""

    shard: Shard
    rows: tuple[int, ...]
    tokenizer: str


def encode_missing(job: MissingJob) -> list[npt.NDArray[np.uint32]]:
    """Token ids of the job's rows, in order."""
    texts = job.shard.read(["text"]).column("text").take(pa.array(job.rows)).to_pylist()
    return encode_texts(load_tokenizer(job.tokenizer), [text or "" for text in texts])


def read_corpus(ctx: StageContext, end: int, dtype: np.dtype[np.unsignedinteger]) -> Corpus:
    """The documents' tokens, from the tokenizer's artifact where that holds the same doc_id with the same text.

    A document whose text changed since it was tokenized (decontamination cuts pieces out) must not be trained on with
    its old tokens, so it is encoded again.
    """
    documents = ctx.input("documents")
    names, digests = _names(documents)
    doc_ids: list[str] = names.column("doc_id").to_pylist()
    known, values, offsets = _known_tokens(ctx.input("tokenizer"))
    keys = pa.array([f"{doc_id} {digest}" for doc_id, digest in zip(doc_ids, digests, strict=True)], pa.string())
    found = pc.fill_null(pc.index_in(keys, value_set=known), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    fresh = _encode(ctx, documents, np.flatnonzero(found < 0))

    lengths = np.zeros(len(doc_ids), dtype=np.int64)
    has = found >= 0
    lengths[has] = np.diff(offsets)[found[has]]
    for row, ids in fresh.items():
        lengths[row] = len(ids)
    lengths[lengths > 0] += 1
    starts = np.cumsum(lengths) - lengths
    tokens = np.full(int(lengths.sum()), end, dtype=dtype)
    for row in np.flatnonzero(lengths).tolist():
        ids = values[offsets[found[row]] : offsets[found[row] + 1]] if has[row] else fresh[row]
        tokens[starts[row] : starts[row] + lengths[row] - 1] = ids
    sources = names.column("source").to_pylist()
    return Corpus(doc_ids, pa.array(doc_ids, pa.string()), sources, tokens, starts, lengths, len(fresh))


def _names(documents: InputTable) -> tuple[pa.Table, list[str]]:
    """(doc_id and source of every document, the digest of its text)."""
    names: list[pa.Table] = []
    digests: list[str] = []
    for batch in documents.batches(["doc_id", "source", "text"]):
        digests += [text_digest(text or "") for text in batch.column("text").to_pylist()]
        names.append(batch.select(["doc_id", "source"]))
    return pa.concat_tables(names) if names else documents.schema.empty_table(), digests


def _known_tokens(table: InputTable) -> tuple[pa.Array, Tokens, Ints]:
    """(keys of doc_id and text digest, all token ids, where each document's begin; one offset more than keys)."""
    keys: list[str] = []
    values: list[Tokens] = []
    lengths: list[Ints] = []
    for batch in table.batches(["doc_id", "text_digest", "tokens"]):
        pairs = zip(batch.column("doc_id").to_pylist(), batch.column("text_digest").to_pylist(), strict=True)
        keys += [f"{doc_id} {digest}" for doc_id, digest in pairs]
        tokens = batch.column("tokens").combine_chunks()
        values.append(tokens.flatten().to_numpy())
        lengths.append(np.diff(tokens.offsets.to_numpy()).astype(np.int64))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))]).astype(np.int64)
    flat = np.concatenate(values) if values else np.zeros(0, dtype=np.uint16)
    return pa.array(keys, pa.string()), flat, offsets


def _encode(ctx: StageContext, documents: InputTable, rows: Ints) -> dict[int, npt.NDArray[np.uint32]]:
    """Token ids of the given documents, by row number."""
    jobs, places = [], []
    path = str(ctx.model("tokenizer") / "tokenizer.json")
    for shard in documents.shards(512):
        here = rows[(rows >= shard.first_row) & (rows < shard.first_row + shard.rows)]
        if len(here):
            jobs.append(MissingJob(shard, tuple((here - shard.first_row).tolist()), path))
            places.append(here.tolist())
    found: dict[int, npt.NDArray[np.uint32]] = {}
    if jobs:
        results = ctx.map_with_progress(encode_missing, jobs, "encoding documents that were not tokenized")
        for place, encoded in zip(places, results, strict=True):
            found.update(zip(place, encoded, strict=True))
    return found
