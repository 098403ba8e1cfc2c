"""Who is compared with whom: equal text hashes, and the buckets of LSH bands, joined on disk part by part.

A part holds the hashes or keys of one range, so any number of documents is joined in bounded memory; the outcome does
not depend on how many parts there are. Parts come in ascending order, so what was joined is a sorted index as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.dedup.config import Limits
from tasks.dedup.corpus import Corpus, Ints
from tasks.dedup.earlier import Earlier
from tasks.dedup.spill import Records, Scratch, Spill, first_of_runs, sorted_parts

ENTRY = np.dtype([("key", "<u8"), ("row", "<i8")])
MEMBER = np.dtype([("bucket", "<i8"), ("node", "<i8")])

# Of an earlier crawl's documents with one key so many are candidates, the first in its table. A bucket with more of
# them is no cluster: they are unlike one another.
MOST_EARLIER = 256


@dataclass(frozen=True)
class Twins:
    """Exact duplicates.

    Attributes:
        first: for each row the best row with its text hash: itself for the best one.
        earlier: for each row the earlier document with its text hash, −1 for none; only of rows that are the best.
        by_text: the text hashes, ascending (`corpus.TEXT`).
    """

    first: Ints
    earlier: Ints
    by_text: Spill


def find_twins(corpus: Corpus, earlier: Earlier, limits: Limits, scratch: Scratch) -> Twins:
    """Group the documents by their text hashes."""
    by_text = scratch.spill(corpus.texts.array().dtype)
    twins = Twins(scratch.column(np.int64, corpus.rows), scratch.column(np.int64, corpus.rows, fill=-1), by_text)
    for start in range(0, corpus.rows, limits.entries):
        stop = min(start + limits.entries, corpus.rows)
        twins.first[start:stop] = np.arange(start, stop)
    for part in sorted_parts(corpus.texts.chunks(), corpus.rows, limits.entries, scratch):
        part = part[np.lexsort((part["row"], part["low"], part["key"]))]
        by_text.append(part)
        begins = first_of_runs(part["key"]) | first_of_runs(part["low"])
        group = np.cumsum(begins) - 1
        several = np.bincount(group)[group] > 1
        rows, group = part["row"][several], group[several]
        best = corpus.survivor_order(rows)
        best = best[np.argsort(group[best], kind="stable")]
        rows, group = rows[best], group[best]
        begun = first_of_runs(group)
        twins.first[rows] = rows[begun][np.cumsum(begun) - 1] if len(rows) else rows
        if earlier.documents:
            places, numbers = earlier.equal_texts(part["key"][begins], part["low"][begins])
            twins.earlier[twins.first[part["row"][begins][places]]] = numbers
    return twins


@dataclass(frozen=True)
class Candidates:
    """Documents that share a band with another.

    Attributes:
        members: `MEMBER`, ascending by bucket: a node is a row, or `rows` + a place in `earlier`.
        earlier: the numbers of the earlier documents among them, ascending.
        is_node: for each row whether it is among them.
        by_band: for each band its entries (`ENTRY`), ascending, of all rows that were joined.
    """

    rows: int
    members: Spill
    earlier: Ints
    is_node: NDArray[np.bool_]
    by_band: list[Spill]

    def chunks(self) -> Iterator[Records]:
        """The members, some at a time, with nodes numbered without gaps."""
        for chunk in self.members.chunks():
            old = chunk["node"] >= self.rows
            chunk["node"][old] = self.rows + np.searchsorted(self.earlier, chunk["node"][old])
            yield chunk


def join_bands(
    corpus: Corpus, twins: Twins, earlier: Earlier, limits: Limits, scratch: Scratch, keep_sorted: bool
) -> Candidates:
    """Put the best of each text into buckets, a bucket for each key that two or more share in one band.

    Args:
        keep_sorted: whether `by_band` is wanted; it is empty otherwise.
    """
    members = scratch.spill(MEMBER)
    is_node = scratch.column(np.bool_, corpus.rows)
    by_band = []
    seen = [np.empty(0, dtype=np.int64)]
    buckets = 0
    for band, keys in enumerate(corpus.keys):
        kept = scratch.spill(ENTRY) if keep_sorted else None
        for part in sorted_parts(_entries(corpus, twins, keys), corpus.rows, limits.entries, scratch):
            if kept is not None:
                kept.append(part)
            found, count = _shared(part, band, earlier)
            is_node[found["node"][found["node"] < corpus.rows]] = True
            seen.append(np.unique(found["node"][found["node"] >= corpus.rows]))
            found["bucket"] += buckets
            members.append(found)
            buckets += count
        if kept is not None:
            by_band.append(kept)
        scratch.drop(keys)
    return Candidates(corpus.rows, members, np.unique(np.concatenate(seen)), is_node, by_band)


def _entries(corpus: Corpus, twins: Twins, keys: Spill) -> Iterator[Records]:
    """Key and row of the documents that are compared: with words, and equal to no better one."""
    first = 0
    for chunk in keys.chunks():
        rows = np.arange(first, first + len(chunk))
        first += len(chunk)
        chosen = (
            (twins.first[rows] == rows) & (twins.earlier[rows] < 0) & (corpus.origin["shingles"][rows[0] : first] > 0)
        )
        entries = np.empty(int(chosen.sum()), dtype=ENTRY)
        entries["key"], entries["row"] = chunk[chosen], rows[chosen]
        yield entries


def _shared(part: Records, band: int, earlier: Earlier) -> tuple[Records, int]:
    """(members of the buckets of a part, numbered from 0; how many buckets)."""
    begins = first_of_runs(part["key"])
    group = np.cumsum(begins) - 1
    nodes = np.asarray(part["row"])
    sizes = np.bincount(group) if len(group) else np.empty(0, dtype=np.int64)
    if earlier.documents:
        places, numbers = earlier.same_band(band, part["key"][begins], MOST_EARLIER)
        sizes = sizes + np.bincount(places, minlength=len(sizes))
        group, nodes = np.concatenate([group, places]), np.concatenate([nodes, numbers])
    shared = sizes > 1
    bucket = np.cumsum(shared) - 1
    chosen = shared[group]
    members = np.empty(int(chosen.sum()), dtype=MEMBER)
    members["bucket"], members["node"] = bucket[group[chosen]], nodes[chosen]
    return members[np.argsort(members["bucket"], kind="stable")], int(shared.sum())
