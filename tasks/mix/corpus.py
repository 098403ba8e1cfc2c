"""The tokens of the documents to mix: joined by doc_id and text, encoded where they are missing, laid out in one file.

The file is mapped into memory, not read into it: a mix may hold more tokens than memory does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import BinaryIO

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
        tokens: documents' tokens, mapped from a file in the stage's work folder; a document's end token is behind it.
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
    doc_ids, sources, keys = _names(documents)
    path = ctx.work / "mix-tokens"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        known, known_lengths = _write_known(ctx.input("tokenizer"), stream, end, dtype)
        found = pc.fill_null(pc.index_in(keys, value_set=known), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        missing = np.flatnonzero(found < 0)
        fresh_lengths = _write_fresh(ctx, documents, missing, stream, end, dtype)
    own = np.concatenate([known_lengths, fresh_lengths]) + 1  # with the end token
    found[missing] = len(known_lengths) + np.arange(len(missing))
    lengths = np.where(own[found] > 1, own[found], 0)
    starts = (np.cumsum(own) - own)[found]
    tokens = np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype=dtype)
    return Corpus(doc_ids.to_pylist(), doc_ids, sources, tokens, starts, lengths, len(missing))


def _names(documents: InputTable) -> tuple[pa.Array, list[str], pa.ChunkedArray]:
    """(doc_id, source, and doc_id with the digest of its text) of every document."""
    doc_ids: list[pa.Array] = []
    sources: list[str] = []
    keys: list[pa.Array] = []
    for batch in documents.batches(["doc_id", "source", "text"]):
        names = batch.column("doc_id").combine_chunks()
        digests = [text_digest(text or "") for text in batch.column("text").to_pylist()]
        doc_ids.append(names)
        sources += map(sys.intern, batch.column("source").to_pylist())
        keys.append(pc.binary_join_element_wise(names, pa.array(digests, pa.string()), " "))
    named = pa.chunked_array(doc_ids, pa.string()).combine_chunks()
    return named, sources, pa.chunked_array(keys, pa.string())


def _write_known(
    table: InputTable, stream: BinaryIO, end: int, dtype: np.dtype[np.unsignedinteger]
) -> tuple[pa.ChunkedArray, Ints]:
    """Write the tokens of a tokenizer's artifact, an end token behind each document.

    Returns (keys as of `_names`, tokens without the end token), a document each, in the order written.
    """
    keys: list[pa.Array] = []
    lengths = [np.zeros(0, dtype=np.int64)]
    for batch in table.batches(["doc_id", "text_digest", "tokens"]):
        keys.append(pc.binary_join_element_wise(*(batch.column(c) for c in ("doc_id", "text_digest")), " "))
        tokens = batch.column("tokens").combine_chunks()
        sizes = np.diff(tokens.offsets.to_numpy()).astype(np.int64)
        _write(stream, tokens.flatten().to_numpy(), sizes, end, dtype)
        lengths.append(sizes)
    chunks = [chunk for key in keys for chunk in key.chunks]
    return pa.chunked_array(chunks, pa.string()), np.concatenate(lengths)


def _write_fresh(
    ctx: StageContext,
    documents: InputTable,
    rows: Ints,
    stream: BinaryIO,
    end: int,
    dtype: np.dtype[np.unsignedinteger],
) -> Ints:
    """Encode the given documents (ascending), write them as `_write_known` does; returns their numbers of tokens."""
    path = str(ctx.model("tokenizer") / "tokenizer.json")
    jobs = []
    for shard in documents.shards(512):
        here = rows[(rows >= shard.first_row) & (rows < shard.first_row + shard.rows)]
        if len(here):
            jobs.append(MissingJob(shard, tuple((here - shard.first_row).tolist()), path))
    lengths = [np.zeros(0, dtype=np.int64)]
    if jobs:
        for encoded in ctx.map_with_progress(encode_missing, jobs, "encoding documents that were not tokenized"):
            sizes = np.array([len(ids) for ids in encoded], dtype=np.int64)
            _write(stream, np.concatenate(encoded), sizes, end, dtype)
            lengths.append(sizes)
    return np.concatenate(lengths)


def _write(stream: BinaryIO, tokens: Tokens, sizes: Ints, end: int, dtype: np.dtype[np.unsignedinteger]) -> None:
    out = np.full(len(tokens) + len(sizes), end, dtype=dtype)
    out[np.arange(len(tokens)) + np.repeat(np.arange(len(sizes)), sizes)] = tokens
    stream.write(out.tobytes())
