"""What dedup's workers do with a shard: sign every document, and later the shingles of some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from artifacts.reader import Shard
from tasks.dedup.minhash import Signature, sign_rows, signature
from tasks.text.batches import Block, slow_ngrams, text_blocks
from tasks.text.shingles import Hashes, distinct_rows, ngram_rows

TEXT_HASH = "S32"  # 32 hex digits


@dataclass(frozen=True)
class SignTask:
    shard: Shard
    shingle: int
    permutations: int


@dataclass(frozen=True)
class Signed:
    """One entry a document of the shard. `shingles` counts n-grams with repetitions; 0 for a text without words."""

    text_hash: NDArray[np.bytes_]
    characters: NDArray[np.int64]
    shingles: NDArray[np.int32]
    signatures: Signature  # (documents, permutations)


def sign_shard(task: SignTask) -> Signed:
    """Hash, length and signature of each document of a shard."""
    return sign_column(task.shard.read(["text"]).column("text"), task.shingle, task.permutations)


def sign_column(texts: pa.ChunkedArray, shingle: int, permutations: int) -> Signed:
    """Hash, length and signature of each text of a column; a null is an empty text."""
    signatures = np.empty((len(texts), permutations), dtype=np.uint32)
    characters = np.empty(len(texts), dtype=np.int64)
    shingles = np.empty(len(texts), dtype=np.int32)
    digests: list[bytes] = []
    for block in text_blocks(texts):
        rows = slice(block.first, block.first + len(block.ok))
        ngrams, bounds = _ngrams(block, shingle)
        sign_rows(ngrams, bounds, signatures[rows])
        characters[rows] = block.characters
        shingles[rows] = bounds[:, 1] - bounds[:, 0]
        digests += _digests(block)
        for row in _left_out(block):
            text = texts[row].as_py() or ""
            normal, hashes = slow_ngrams(text, shingle)
            signatures[row], shingles[row] = signature(hashes, permutations), len(hashes)
            digests[row] = _digest(text, normal)
    raw = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
    return Signed(_HEX[raw].reshape(-1, 32).view(TEXT_HASH).reshape(-1), characters, shingles, signatures)


def _ngrams(block: Block, n: int) -> tuple[Hashes, NDArray[np.int64]]:
    """(n-gram hashes of a block's texts one after the other, where each text's begin and end)."""
    out = np.empty(int(block.unit_bounds[-1, 1]), dtype=np.uint64)
    bounds = np.empty((len(block.ok), 2), dtype=np.int64)
    ngram_rows(block.units, block.unit_bounds, n, out, bounds)
    return out, bounds


def _digests(block: Block) -> list[bytes]:
    data, blake2b = block.normal.data, hashlib.blake2b
    return [blake2b(data[begin:end], digest_size=16).digest() for begin, end in block.normal_bounds.tolist()]


def _left_out(block: Block) -> list[int]:
    """Rows of the column that compiled code could not read, and those without a letter or number."""
    empty = block.normal_bounds[:, 0] == block.normal_bounds[:, 1]
    found: list[int] = (block.first + np.flatnonzero(empty)).tolist()
    return found


_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint8).reshape(256, 2)


def text_hash(text: str, normal: str) -> str:
    """BLAKE2b-128 of the normalised text, as 32 hex digits: equal for exact duplicates.

    Texts without a letter or number all normalise to nothing; they count as equal only if their characters are, white
    space aside.
    """
    return _digest(text, normal).hex()


def _digest(text: str, normal: str) -> bytes:
    content = normal or "\0" + " ".join(text.split())
    return hashlib.blake2b(content.encode("utf8", errors="surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class ShingleTask:
    shard: Shard
    rows: NDArray[np.int64]  # within the shard, ascending
    shingle: int


@dataclass(frozen=True)
class ShingleSets:
    """The shingle sets of the rows asked for, one after the other: `lengths` says where each ends."""

    lengths: NDArray[np.int64]
    shingles: Hashes


def shingle_rows(task: ShingleTask) -> ShingleSets:
    """The distinct shingles, ascending, of some documents of a shard."""
    return shingle_column(task.shard.read(["text"]).column("text").take(pa.array(task.rows)), task.shingle)


def shingle_column(texts: pa.ChunkedArray, shingle: int) -> ShingleSets:
    """The distinct shingles, ascending, of each text of a column."""
    lengths = np.zeros(len(texts), dtype=np.int64)
    parts: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    for block in text_blocks(texts):
        ngrams, bounds = _ngrams(block, shingle)
        # NumPy sorts a row with vector instructions, several times as fast as a sort that Numba compiles.
        for begin, end in bounds.tolist():
            ngrams[begin:end].sort()
        distinct_rows(ngrams, bounds, ngrams)
        lengths[block.first : block.first + len(block.ok)] = bounds[:, 1] - bounds[:, 0]
        done = 0
        for row in np.flatnonzero(~block.ok).tolist():
            found = np.unique(slow_ngrams(texts[block.first + row].as_py(), shingle)[1])
            parts += [ngrams[done : bounds[row, 0]], found]
            done, lengths[block.first + row] = int(bounds[row, 0]), len(found)
        parts.append(ngrams[done : bounds[-1, 1]])
    return ShingleSets(lengths, np.concatenate(parts))


def shingle_tasks(shards: Sequence[Shard], rows: NDArray[np.int64], shingle: int) -> list[ShingleTask]:
    """The work for some rows of a table, given ascending: only shards that hold one of them are opened."""
    tasks = []
    for shard in shards:
        first, last = np.searchsorted(rows, [shard.first_row, shard.first_row + shard.rows])
        if first < last:
            tasks.append(ShingleTask(shard, rows[first:last] - shard.first_row, shingle))
    return tasks
