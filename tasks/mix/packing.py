"""Packing documents into rows without cutting those that fit (Ding et al. 2024, "Fewer Truncations Improve Language
Modeling", section 3): best fit, longest first; what is left of a row is padding.

A document longer than a row is cut into whole rows and a rest, and the rest is packed like a document.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.mix.plan import Ints, Segments, epoch_order, shuffled
from tasks.text.compiled import compiled


def pack(
    documents: Sequence[int], doc_ids: Sequence[str], lengths: Ints, rows: int, row_tokens: int, seed: int
) -> tuple[Segments, Ints]:
    """(the pieces in the first `rows` rows of a source, the epoch of each row).

    Every epoch has all documents, in as many rows as the first; its rows are in an order of their own. Pieces in a row
    follow the epoch's order of documents, so that short documents do not always stand last. A function of doc_ids,
    lengths, `rows`, `row_tokens` and the seed.
    """
    document = np.asarray(documents, dtype=np.int64)
    which, offset, length = _pieces(lengths[document], row_tokens)
    row_of_rank = best_fit(-np.sort(-length), row_tokens)
    an_epoch = int(row_of_rank.max()) + 1
    parts: list[tuple[Ints, ...]] = [(np.zeros(0, dtype=np.int64),) * 4]
    for epoch in range(-(-rows // an_epoch)):
        rank = np.empty(len(document), dtype=np.int64)
        rank[epoch_order(doc_ids, document, seed, epoch)] = np.arange(len(document))
        by_length = np.lexsort((offset, rank[which], -length))
        # The rows of every epoch hold the same lengths; which documents of one length is another draw each time.
        row = np.empty(len(length), dtype=np.int64)
        row[by_length] = shuffled(an_epoch, seed, f"mix-rows-{epoch}")[row_of_rank]
        row += epoch * an_epoch
        chosen = np.flatnonzero(row < rows)
        order = chosen[np.lexsort((offset[chosen], rank[which[chosen]], row[chosen]))]
        parts.append((row[order], document[which[order]], length[order], offset[order]))
    row, found, size, place = (np.concatenate(column) for column in zip(*parts, strict=True))
    before = np.cumsum(size) - size
    start = before - before[np.searchsorted(row, row)]
    return Segments(row, found, start, size, place), np.arange(rows, dtype=np.int64) // an_epoch


def _pieces(lengths: Ints, row_tokens: int) -> tuple[Ints, Ints, Ints]:
    """(number of the document, place in it, tokens) of every piece of at most a row."""
    counts = -(-lengths // row_tokens)
    which = np.repeat(np.arange(len(lengths), dtype=np.int64), counts)
    number = np.arange(len(which), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    offset = number * row_tokens
    return which, offset, np.minimum(row_tokens, lengths[which] - offset)


def best_fit(lengths: Ints, row_tokens: int) -> Ints:
    """The row of each length: the fullest one that still has room, or a new one; of equally full ones, the last begun.

    Args:
        lengths: (N,) from 1 to `row_tokens`, descending ("best fit decreasing", Johnson 1974: at most 11/9 of the least
            possible number of rows, and a few).
    """
    return _best_fit(np.ascontiguousarray(lengths, dtype=np.int64), row_tokens)


@compiled
def _best_fit(lengths: npt.NDArray[np.int64], capacity: int) -> npt.NDArray[np.int64]:
    # Rows of equal room are a chain, the last begun first; `newest[room]` is its head. Finding the least room that is
    # enough walks over rooms, at most one row's worth of them.
    newest = np.full(capacity + 1, -1, dtype=np.int64)
    older = np.empty(len(lengths), dtype=np.int64)
    found = np.empty(len(lengths), dtype=np.int64)
    rows = 0
    for place in range(len(lengths)):
        length = lengths[place]
        room = length
        while room < capacity and newest[room] < 0:
            room += 1
        if room < capacity:
            row = newest[room]
            newest[room] = older[row]
        else:
            room = capacity
            row = rows
            rows += 1
        found[place] = row
        older[row] = newest[room - length]
        newest[room - length] = row
    return found
