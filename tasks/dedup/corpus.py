"""What dedup knows of every document of a run: fixed-width rows in files, no object a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.reader import InputTable, Shard
from tasks.dedup.config import DedupConfig
from tasks.dedup.minhash import band_keys
from tasks.dedup.signing import SignTask, sign_shard
from tasks.dedup.spill import Scratch, Spill
from tasks.stage import StageContext

Ints = NDArray[np.int64]
Ids = NDArray[np.bytes_]  # doc_ids, UTF-8 in a fixed width

ROWS_A_SHARD = 8_192  # a row group: a smaller shard would have the whole group decompressed again for itself
SHARDS_AT_ONCE = 4_096

# Where a document stands in the order of survivors. `source` and `file` are codes: see `Corpus`.
ORIGIN = np.dtype(
    [
        ("characters", "<i8"),
        ("offset", "<i8"),
        ("place", "<u4"),
        ("source", "<u4"),
        ("file", "<u4"),
        ("shingles", "<i4"),
    ]
)
TEXT = np.dtype([("key", "<u8"), ("low", "<u8"), ("row", "<i8")])  # the two halves of a text hash, and its row


@dataclass(frozen=True)
class Corpus:
    """The documents of a run, by row number.

    Attributes:
        ids: their doc_ids.
        origin: `ORIGIN` of each.
        sources, files: the names behind the codes of `origin`.
        texts: `TEXT` of each.
        signatures: (rows, permutations).
        keys: a spill a band: the keys of all rows.
    """

    rows: int
    ids: Ids
    origin: NDArray[np.void]
    sources: list[str]
    files: list[str]
    texts: Spill
    signatures: Spill
    keys: list[Spill]

    def survivor_order(self, rows: Ints) -> Ints:
        """Places in `rows`, best first: source as in `prefer`, then the longest text, then the smallest doc_id.

        Rows of one doc_id (the same record read twice) follow by source, WARC file and offset.
        """
        facts = self.origin[rows]
        source, file = _ranks(self.sources)[facts["source"]], _ranks(self.files)[facts["file"]]
        order: Ints = np.lexsort(
            (rows, facts["offset"], file, source, self.ids[rows], -facts["characters"], facts["place"])
        )
        return order


def read_corpus(context: StageContext, documents: InputTable, scratch: Scratch) -> Corpus:
    """Sign all documents, and keep what the later steps need of them."""
    config: DedupConfig = context.config
    rows = documents.rows
    ids, origin, sources, files = _read_origins(documents, rows, config.prefer, scratch)
    signatures, texts = scratch.spill(np.uint32, config.permutations), scratch.spill(TEXT)
    keys = [scratch.spill(np.uint64) for _ in range(config.bands)]
    first = 0
    tasks = [SignTask(shard, config.shingle, config.permutations) for shard in documents.shards(ROWS_A_SHARD)]
    for part in context.map_with_progress(sign_shard, tasks, "signing documents"):
        stop = first + len(part.characters)
        origin["characters"][first:stop], origin["shingles"][first:stop] = part.characters, part.shingles
        texts.append(_text_records(part.text_hash, first))
        signatures.append(part.signatures)
        for band, column in enumerate(band_keys(part.signatures, config.bands, config.rows).T):
            keys[band].append(column)
        first = stop
    return Corpus(rows, ids, origin, sources, files, texts, signatures, keys)


def _read_origins(
    documents: InputTable, rows: int, prefer: Sequence[str], scratch: Scratch
) -> tuple[Ids, NDArray[np.void], list[str], list[str]]:
    width = 1
    for batch in documents.batches(["doc_id"], rows=ROWS_A_SHARD):
        width = max(width, pc.max(pc.binary_length(batch.column("doc_id"))).as_py() or 1)
    ids, origin = scratch.column(f"S{width}", rows), scratch.column(ORIGIN, rows)
    sources: dict[str, int] = {}
    files: dict[str, int] = {}
    first = 0
    for batch in documents.batches(["doc_id", "source", "warc_file", "warc_offset"], rows=ROWS_A_SHARD):
        stop = first + batch.num_rows
        ids[first:stop] = fixed_width(batch.column("doc_id"), width)
        source = _codes(batch.column("source"), sources)
        origin["source"][first:stop], origin["file"][first:stop] = source, _codes(batch.column("warc_file"), files)
        names = list(sources)
        places = np.array([prefer.index(name) if name in prefer else len(prefer) for name in names], dtype=np.uint32)
        origin["place"][first:stop] = places[source]
        # After all others, as where Arrow sorts null.
        offset = pc.fill_null(batch.column("warc_offset"), np.iinfo(np.int64).max)
        origin["offset"][first:stop] = offset.to_numpy()
        first = stop
    return ids, origin, list(sources), list(files)


def _codes(column: pa.ChunkedArray, known: dict[str, int]) -> NDArray[np.uint32]:
    """A number for each distinct string, in order of appearance."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = [name or "" for name in encoded.dictionary.to_pylist()]
    numbers = np.array([known.setdefault(name, len(known)) for name in names], dtype=np.uint32)
    codes: NDArray[np.uint32] = numbers[encoded.indices.to_numpy()]
    return codes


def _ranks(names: Sequence[str]) -> Ints:
    """For each name its place among the sorted ones."""
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks


def _text_records(text_hash: NDArray[np.bytes_], first: int) -> NDArray[np.void]:
    records = np.empty(len(text_hash), dtype=TEXT)
    records["key"], records["low"] = hex_halves(text_hash)
    records["row"] = np.arange(first, first + len(text_hash))
    return records


def hex_halves(text_hash: NDArray[np.bytes_]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """128-bit hashes of 32 hex digits as two numbers each: numbers order as the digits do."""
    digits = np.ascontiguousarray(text_hash).view(np.uint8).reshape(len(text_hash), 32)
    nibbles = (digits & 15) + 9 * (digits >> 6)
    words = np.ascontiguousarray((nibbles[:, 0::2] << 4) | nibbles[:, 1::2]).view(">u8")
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def halves_hex(key: NDArray[np.uint64], low: NDArray[np.uint64]) -> pa.Array:
    """`hex_halves` back, as strings."""
    octets = np.stack([key, low], axis=1).astype(">u8").view(np.uint8).reshape(len(key), 16)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.ascontiguousarray(digits[np.stack([octets >> 4, octets & 15], axis=2)]).reshape(len(key), 32)
    return strings(text.view("S32").reshape(-1))


def fixed_width(column: pa.ChunkedArray, width: int) -> Ids:
    """Strings of at most `width` bytes as a NumPy array, null as an empty one."""
    found = np.zeros((len(column), width), dtype=np.uint8)
    first = 0
    for chunk in column.chunks:
        values = pc.fill_null(chunk, "").cast(pa.large_binary())
        offsets = np.frombuffer(values.buffers()[1], dtype=np.int64, count=len(values) + 1, offset=values.offset * 8)
        used = np.arange(width) < np.diff(offsets)[:, None]
        if values.buffers()[2] is not None:
            data = np.frombuffer(values.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
            found[first : first + len(values)][used] = data
        first += len(values)
    return found.view(f"S{width}").reshape(-1)


def strings(values: Ids) -> pa.Array:
    """`fixed_width` back."""
    return pa.array(values, pa.binary()).cast(pa.string())


def shard_groups(shards: Sequence[Shard]) -> Iterator[Sequence[Shard]]:
    """The shards, a bounded number at a time: what is asked of each of them is held in memory."""
    for start in range(0, len(shards), SHARDS_AT_ONCE):
        yield shards[start : start + SHARDS_AT_ONCE]
