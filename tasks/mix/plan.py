"""The arithmetic of a mix: rows by weight, each source's stream over its epochs, and the order of training.

Everything is a function of doc_ids, lengths, weights and the seed; nothing depends on the order of the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.text.hashing import unit_interval

Ints = npt.NDArray[np.int64]


def rows_by_weight(weights: Mapping[str, float], rows: int) -> dict[str, int]:
    """`rows` shared out in proportion to the weights by largest remainder (Hamilton); the sum is exactly `rows`.

    Of equal remainders the source whose name comes first gets the row.
    """
    total = sum(weights[source] for source in sorted(weights))
    shares = {source: weights[source] * rows / total for source in sorted(weights)}
    counts = {source: int(share) for source, share in shares.items()}
    by_remainder = sorted(shares, key=lambda source: (counts[source] - shares[source], source))
    for source in by_remainder[: rows - sum(counts.values())]:
        counts[source] += 1
    return counts


@dataclass(frozen=True)
class Stream:
    """The documents of one source as they follow one another, S visits over one or more epochs.

    Attributes:
        documents: (S,) row numbers of the documents visited.
        starts: (S,) the place in the stream where each visit begins.
        epoch_tokens: the tokens of one epoch: the source's, end tokens included.
    """

    documents: Ints
    starts: Ints
    epoch_tokens: int


def stream_of(documents: Sequence[int], doc_ids: Sequence[str], lengths: Ints, tokens: int, seed: int) -> Stream:
    """A stream of at least `tokens` tokens: every epoch has all documents, in an order of its own.

    The order of an epoch is that of a hash of doc_id, seed and epoch.
    """
    pool = np.asarray(documents, dtype=np.int64)
    available = int(lengths[pool].sum())
    epochs = max(1, -(-tokens // available))
    order = np.concatenate([pool[epoch_order(doc_ids, pool, seed, epoch)] for epoch in range(epochs)])
    ends = np.cumsum(lengths[order])
    return Stream(order, ends - lengths[order], available)


def epoch_order(doc_ids: Sequence[str], documents: Ints, seed: int, epoch: int) -> Ints:
    """The places of `documents` in the order in which an epoch visits them: of a hash of doc_id, seed and epoch."""
    names = [doc_ids[row] for row in documents.tolist()]
    salt = f"mix-{epoch}"
    draws = np.array([unit_interval(name, seed, salt) for name in names])
    order = np.argsort(draws, kind="stable")
    if np.all(np.diff(draws[order]) > 0):
        return order
    return np.lexsort((np.array(names, dtype=np.str_), draws))  # equal draws: by doc_id, whatever the input's order


@dataclass(frozen=True)
class Segments:
    """The spans of R rows, row after row: M pieces of documents.

    Attributes:
        row: (M,) which of the R rows a piece is in, ascending.
        document: (M,) row number of the document.
        start: (M,) its place in the row.
        length: (M,) tokens.
        offset: (M,) its place in the document's own tokens, whose last is the end token.
    """

    row: Ints
    document: Ints
    start: Ints
    length: Ints
    offset: Ints

    def of_rows(self, rows: Ints) -> Segments:
        """The spans of the chosen rows, in the order given, numbered anew from 0."""
        first = np.searchsorted(self.row, rows, side="left")
        counts = np.searchsorted(self.row, rows, side="right") - first
        new_row = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
        within = np.arange(counts.sum(), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
        index = np.repeat(first, counts) + within
        return Segments(new_row, self.document[index], self.start[index], self.length[index], self.offset[index])


def cut(stream: Stream, rows: int, sequence_length: int) -> Segments:
    """The first `rows` rows of a stream: where each document's pieces lie."""
    total = rows * sequence_length
    visits = int(np.searchsorted(stream.starts, total, side="left"))
    # A piece begins where a document or a row does.
    edges = np.union1d(stream.starts[:visits], np.arange(rows, dtype=np.int64) * sequence_length)
    visit = np.searchsorted(stream.starts[:visits], edges, side="right") - 1
    return Segments(
        row=edges // sequence_length,
        document=stream.documents[visit],
        start=edges % sequence_length,
        length=np.diff(np.append(edges, total)),
        offset=edges - stream.starts[visit],
    )


def training_order(rows: Sequence[int], seed: int) -> Ints:
    """The source of each training row, shape (sum of `rows`,), given the number of rows of each source.

    A permutation that depends on the seed and the counts alone. The k-th row of a source in this order is the k-th of
    its stream, so that no source begins an epoch before it has ended the last.
    """
    labels = np.repeat(np.arange(len(rows), dtype=np.int64), np.array(rows, dtype=np.int64))
    return labels[shuffled(len(labels), seed, "mix")]


def shuffled(count: int, seed: int, salt: str) -> Ints:
    """A permutation of 0 to `count` - 1 that depends on the arguments alone."""
    return np.argsort(_splitmix64(np.arange(count, dtype=np.uint64), seed, salt), kind="stable")


def _splitmix64(numbers: npt.NDArray[np.uint64], seed: int, salt: str) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele et al. 2014): a well-mixed 64-bit number for each, the same in every version of numpy."""
    offset = np.uint64(int(unit_interval("order", seed, salt) * 2**53))
    with np.errstate(over="ignore"):
        mixed = (numbers + offset + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def hold_out(
    pools: Mapping[str, Sequence[int]], doc_ids: Sequence[str], lengths: Ints, fraction: float, row: int, seed: int
) -> dict[str, list[int]]:
    """The held-out documents of each source, in the order of the hash that chose them.

    A document is held out if its hash falls below `fraction`, so it stays so when others come or go; but one document
    of a source is always left to train on. If no source's held-out documents fill a row of `row` tokens, the source
    with most tokens gives up more of them.
    """
    draws = {
        source: sorted((unit_interval(doc_ids[doc], seed, "heldout"), doc_ids[doc], doc) for doc in pool)
        for source, pool in sorted(pools.items())
    }
    found = {source: [doc for draw, _, doc in ordered[:-1] if draw < fraction] for source, ordered in draws.items()}
    if fraction > 0 and all(int(lengths[chosen].sum()) < row for chosen in found.values()):
        largest = min(found, key=lambda source: (-int(lengths[list(pools[source])].sum()), source))
        for _, _, doc in draws[largest][len(found[largest]) : -1]:
            if int(lengths[found[largest]].sum()) >= row:
                break
            found[largest].append(doc)
    return found
