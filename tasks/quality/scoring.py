"""A trained fastText classifier, applied to many texts at once in compiled code.

fastText's Python interface wants one Python string of ready words a document, which costs more than the prediction.
Here the same sum is taken straight from the hashes of a text's units: the rows of its words and word n-grams, averaged,
times the output matrix, through a softmax (Joulin et al. 2017, section 2). The sum is in one order and without fused
operations, so it gives the same bits on every machine, which fastText compiled for the machine at hand does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from artifacts.reader import Shard
from tasks.quality.classifier import CURATED
from tasks.quality.units import Units, units_of
from tasks.text.compiled import compiled
from tasks.text.shingles import unit_hashes

Floats = NDArray[np.float64]

# Rows read and scored at a time: bounds the memory, never a score.
ROWS = 1_024
# fastText's end of a line: a word like others, at the end of every text.
_END = "</s>"
_STEP = np.uint64(116049371)  # of fastText's hash of an n-gram of words


@dataclass(frozen=True)
class Scorer:
    """A model's matrices and its words in an open hash table.

    Attributes:
        keys: (2^k,) uint64, the hash of the word in a slot (`tasks.text.shingles.unit_hashes`).
        rows: (2^k,) int32, the word's row of `inputs`; -1 where the slot is free.
        inputs: (words + buckets, dim) float32.
        direction: (dim,) float32, the curated class's row of the output matrix less the other's.
        first_bucket: the row at which the buckets of word n-grams begin.
        ngrams: the longest n-gram of words.
        end: fastText's hash of the end of a line, and its row (-1 if the model has none).
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.int32]
    inputs: NDArray[np.float32]
    direction: NDArray[np.float32]
    first_bucket: int
    ngrams: int
    end: tuple[int, int]

    def __call__(self, units: Units) -> Floats:
        """P(curated) of each text, in (0, 1), shape (N,)."""
        end_hash, end_row = self.end
        return _score(  # type: ignore[no-any-return]
            units.starts, units.hashes, units.words, self.keys, self.rows, self.inputs, self.direction,
            self.first_bucket, self.ngrams, np.uint32(end_hash), end_row,
        )  # fmt: skip


@lru_cache(maxsize=1)
def load_scorer(path: str) -> Scorer:
    """The scorer of a `classifier.bin`, once a process."""
    import fasttext

    model = fasttext.load_model(path)
    words: list[str] = model.get_words()
    labels: list[str] = model.get_labels()
    output = np.asarray(model.get_output_matrix(), dtype=np.float32)
    curated = labels.index(CURATED)
    keys, rows = _slots(words)
    return Scorer(
        keys=keys,
        rows=rows,
        inputs=np.ascontiguousarray(model.get_input_matrix(), dtype=np.float32),
        direction=output[curated] - output[1 - curated],
        first_bucket=len(words),
        ngrams=int(model.f.getArgs().wordNgrams),
        end=(_word_hash(_END), words.index(_END) if _END in words else -1),
    )


def _slots(words: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    size = 1 << max(4, math.ceil(math.log2(2 * len(words) + 1)))
    return _filled(np.array([unit_hashes(word)[0] for word in words], dtype=np.uint64), size)  # type: ignore[no-any-return]


def _word_hash(word: str) -> int:
    """fastText's hash of an ASCII word: FNV-1a of 32 bits."""
    value = 2166136261
    for byte in word.encode("ascii"):
        value = ((value ^ byte) * 16777619) % 2**32
    return value


def score_texts(model: str, texts: pa.Array) -> Floats:
    """P(curated) of each text of a string array, in (0, 1), shape (N,)."""
    return load_scorer(model)(units_of(texts))


def pieces(shard: Shard, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A shard's rows in record batches of bounded length, in order."""
    end = shard.start + shard.rows
    with pq.ParquetFile(shard.path) as file:
        first = 0
        for batch in file.iter_batches(batch_size=ROWS, row_groups=[shard.row_group], columns=list(columns)):
            low, high = max(shard.start, first), min(end, first + batch.num_rows)
            if low < high:
                yield batch.slice(low - first, high - low)
            first += batch.num_rows
            if first >= end:
                return


@dataclass(frozen=True)
class ScoreJob:
    """One shard of documents and the model to score it with; picklable."""

    shard: Shard
    model: str


def score_shard(job: ScoreJob) -> Floats:
    """Scores of a shard's rows, in order."""
    found = [score_texts(job.model, piece.column("text")) for piece in pieces(job.shard, ["text"])]
    return np.concatenate([np.zeros(0), *found])


@compiled
def _filled(hashes: Any, size: int) -> Any:
    """An open hash table of the words' hashes and their places."""
    keys = np.zeros(size, dtype=np.uint64)
    rows = np.full(size, -1, dtype=np.int32)
    mask = np.uint64(size - 1)
    for row in range(len(hashes)):
        slot = np.int64(hashes[row] & mask)
        while rows[slot] >= 0:
            slot = (slot + 1) % size
        keys[slot], rows[slot] = hashes[row], row
    return keys, rows


@compiled
def _score(
    starts: Any, hashes: Any, words: Any, keys: Any, rows: Any, inputs: Any, direction: Any,
    first_bucket: int, ngrams: int, end_hash: Any, end_row: int,
) -> Any:  # fmt: skip
    """fastText's getLine, addWordNgrams and predict for two classes; see the module's docstring."""
    documents, dim = len(starts) - 1, inputs.shape[1]
    buckets = np.uint64(inputs.shape[0] - first_bucket)
    low = buckets - np.uint64(1)
    power_of_two = buckets & low == np.uint64(0)
    mask = np.uint64(len(keys) - 1)
    scores = np.empty(documents, dtype=np.float64)
    hidden = np.empty(dim, dtype=np.float32)
    for document in range(documents):
        first, end = starts[document], starts[document + 1]
        hidden[:] = np.float32(0)
        count = 0
        for unit in range(first, end):
            slot = np.int64(hashes[unit] & mask)
            while rows[slot] >= 0 and keys[slot] != hashes[unit]:
                slot = (slot + 1) & np.int64(mask)
            row = rows[slot]
            if row >= 0:
                count += 1
                for place in range(dim):
                    hidden[place] += inputs[row, place]
        if end_row >= 0:
            count += 1
            for place in range(dim):
                hidden[place] += inputs[end_row, place]
        # n-grams are hashed from signed 32-bit hashes, widened, as fastText has them.
        for unit in range(first, end):
            value = np.uint64(np.int64(np.int32(words[unit])))
            for follow in range(unit + 1, min(unit + ngrams, end + 1)):
                other = words[follow] if follow < end else end_hash
                value = value * _STEP + np.uint64(np.int64(np.int32(other)))
                # A division takes as long as reading the row.
                row = first_bucket + np.int64(value & low if power_of_two else value % buckets)
                count += 1
                for place in range(dim):
                    hidden[place] += inputs[row, place]
        logit = 0.0
        for place in range(dim):
            logit += np.float64(hidden[place]) * np.float64(direction[place])
        if count:
            logit /= count
        # Both forms of the logistic function, so that neither exponential overflows.
        if logit >= 0:
            scores[document] = 1.0 / (1.0 + math.exp(-logit))
        else:
            scores[document] = math.exp(logit) / (1.0 + math.exp(logit))
    return scores
