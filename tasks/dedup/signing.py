"""What dedup's workers do with a shard: sign every document, and later the shingles of some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifacts.reader import Shard
from tasks.dedup.minhash import Signature, signature
from tasks.text.normalise import normalise
from tasks.text.segment import spaced
from tasks.text.shingles import Hashes, ngram_hashes, unit_hashes

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
    texts = task.shard.read(["text"]).column("text").to_pylist()
    hashes, characters, shingles = [], [], []
    signatures = np.empty((len(texts), task.permutations), dtype=np.uint32)
    for row, text in enumerate(texts):
        text = text or ""
        normal = normalise(text)
        ngrams = ngram_hashes(unit_hashes(spaced(normal)), task.shingle)
        signatures[row] = signature(ngrams, task.permutations)
        hashes.append(text_hash(text, normal))
        characters.append(len(text))
        shingles.append(len(ngrams))
    return Signed(
        np.array(hashes, dtype=TEXT_HASH),
        np.array(characters, dtype=np.int64),
        np.array(shingles, dtype=np.int32),
        signatures,
    )


def text_hash(text: str, normal: str) -> str:
    """BLAKE2b-128 of the normalised text, as 32 hex digits: equal for exact duplicates.

    Texts without a letter or number all normalise to nothing; they count as equal only if their characters are, white
    space aside.
    """
    content = normal or "\0" + " ".join(text.split())
    return hashlib.blake2b(content.encode("utf8", errors="surrogatepass"), digest_size=16).hexdigest()


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
    texts = task.shard.read(["text"]).column("text").take(task.rows).to_pylist()
    sets = [np.unique(ngram_hashes(unit_hashes(spaced(normalise(text or ""))), task.shingle)) for text in texts]
    lengths = np.array([len(found) for found in sets], dtype=np.int64)
    return ShingleSets(lengths, np.concatenate(sets) if sets else np.empty(0, dtype=np.uint64))


def shingle_tasks(shards: Sequence[Shard], rows: NDArray[np.int64], shingle: int) -> list[ShingleTask]:
    """The work for some rows of a table, given ascending: only shards that hold one of them are opened."""
    tasks = []
    for shard in shards:
        first, last = np.searchsorted(rows, [shard.first_row, shard.first_row + shard.rows])
        if first < last:
            tasks.append(ShingleTask(shard, rows[first:last] - shard.first_row, shingle))
    return tasks
