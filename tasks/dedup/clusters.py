"""Which documents fall to which: exact comparison within buckets in survivor order, clusters by union-find.

Nodes are numbered in survivor order: of two duplicates the smaller number survives. A document is dropped only if its
Jaccard similarity with a *kept* document reaches the threshold, so a chain A~B~C never drops a C that is unlike A. The
outcome is a function of the order of the nodes and of their texts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.dedup.corpus import Corpus, Ints
from tasks.dedup.earlier import Earlier
from tasks.dedup.join import Candidates
from tasks.dedup.shingle_sets import Sets
from tasks.dedup.spill import Records
from tasks.text.compiled import compiled
from tasks.text.shingles import Hashes

# In buckets up to this size all pairs are compared, so that `pairs` also tells of two dropped documents; in larger ones
# (thousands of copies of one page) a document is compared with the kept ones alone: a star, not a square.
FULL_BUCKET = 64
# With so many kept ones of a bucket, the best in survivor order. A bucket with more of them is no cluster but a band
# that unlike pages share (a menu, a licence), and each further page would cost a comparison with every one before it.
MOST_CENTRES = 256
NODES_A_SLICE = 4_096


@dataclass(frozen=True)
class Group:
    """Nodes that are compared with one another, in survivor order: whole components of the buckets.

    Attributes:
        numbers: of the documents: rows of this run, or places among the earlier candidates behind them.
        fixed: the first so many nodes are documents of earlier crawls: kept, and not compared with one another.
        begins, buckets: node i stands in buckets[begins[i]:begins[i + 1]], numbered from 0.
        sizes: members of each bucket.
        sets, set_begins: the shingle set of node i is sets[set_begins[i]:set_begins[i + 1]], ascending and distinct.
    """

    numbers: Ints
    fixed: int
    begins: Ints
    buckets: Ints
    sizes: Ints
    sets: Hashes
    set_begins: Ints


def load_group(members: Records, corpus: Corpus, earlier: Earlier, candidates: Candidates, sets: Sets) -> Group:
    """The members (`join.MEMBER`) of whole components, with their shingles, in survivor order."""
    nodes = np.unique(members["node"])
    old, own = nodes[nodes >= corpus.rows], nodes[nodes < corpus.rows]
    if len(old):
        old = old[earlier.order(candidates.earlier[old - corpus.rows])]
    numbers = np.concatenate([old, own[corpus.survivor_order(own)]])
    place = np.empty(len(nodes), dtype=np.int64)
    place[np.searchsorted(nodes, numbers)] = np.arange(len(nodes))
    node_of_member = place[np.searchsorted(nodes, members["node"])]
    _, bucket, sizes = np.unique(members["bucket"], return_inverse=True, return_counts=True)
    order = np.lexsort((bucket, node_of_member))
    begins = np.searchsorted(node_of_member[order], np.arange(len(nodes) + 1))
    lengths = sets.lengths[numbers]
    set_begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    gathered = np.empty(int(set_begins[-1]), dtype=np.uint64)
    _gather(sets.mapped(), sets.begins[numbers], set_begins, gathered)
    return Group(
        numbers, len(old), begins.astype(np.int64), bucket[order].astype(np.int64), sizes.astype(np.int64), gathered,
        set_begins,
    )  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Nodes that were compared (first < second), and how similar they are."""

    first: Ints
    second: Ints
    jaccard: NDArray[np.float64]


class Comparison:
    """The outcome for each node of a group, complete once `pairs` was read to its end.

    Attributes:
        kept: whether the node survives.
        nearest: the kept node it is most similar to among those compared (for a dropped one: its survivor), or −1.
        similarity: the exact Jaccard similarity to it; NaN where there is none.
        cut: how many buckets had more kept documents than later ones were compared with.
    """

    def __init__(self, group: Group, threshold: float) -> None:
        count = len(group.numbers)
        self.kept = np.ones(count, dtype=np.bool_)
        self.nearest = np.full(count, -1, dtype=np.int64)
        self.similarity = np.full(count, np.nan)
        self.cut = 0
        self._group, self._threshold = group, threshold
        self._parents = np.arange(count, dtype=np.int64)

    def pairs(self, progress: Callable[[int], None]) -> Iterator[Pairs]:
        """Compare the nodes of each bucket, in survivor order; `progress` is told how many nodes were done."""
        group = self._group
        count = len(group.numbers)
        room = np.where(group.sizes <= FULL_BUCKET, group.sizes, np.minimum(group.sizes, MOST_CENTRES))
        starts = np.concatenate([[0], np.cumsum(room)]).astype(np.int64)
        members = np.empty(int(starts[-1]), dtype=np.int64)
        filled = np.zeros(len(room), dtype=np.int64)
        refused = np.zeros(len(room), dtype=np.bool_)
        seen = np.full(count, -1, dtype=np.int64)
        for start in range(0, count, NODES_A_SLICE):
            stop = min(start + NODES_A_SLICE, count)
            found = _compare_slice(
                start, stop, group.fixed, self._threshold, FULL_BUCKET, group.begins, group.buckets, group.sizes,
                starts, members, filled, refused, seen, group.sets, group.set_begins, self.kept, self.nearest,
                self.similarity, self._parents,
            )  # fmt: skip
            yield Pairs(*found)
            progress(stop - start)
        self.cut = int(refused.sum())

    def clusters(self) -> Ints:
        """For each node the smallest one of its cluster, the closure of the accepted pairs."""
        found: Ints = _roots(self._parents)
        return found


@compiled
def _gather(shingles: Hashes, begins: Ints, starts: Ints, out: Hashes) -> None:
    for node in range(len(begins)):
        for i in range(starts[node + 1] - starts[node]):
            out[starts[node] + i] = shingles[begins[node] + i]


@compiled
def _compare_slice(
    start: int,
    stop: int,
    fixed: int,
    threshold: float,
    full_bucket: int,
    begins: Ints,
    buckets: Ints,
    sizes: Ints,
    starts: Ints,
    members: Ints,
    filled: Ints,
    refused: NDArray[np.bool_],
    seen: Ints,
    sets: Hashes,
    set_begins: Ints,
    kept: Any,
    nearest: Ints,
    similarity: Any,
    parents: Ints,
) -> Any:
    """Nodes start to stop: compare each with those before it in its buckets, decide, and enter it there."""
    first, second, jaccard = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.float64)
    found = 0
    for node in range(start, stop):
        for entry in range(begins[node], begins[node + 1]):
            if node < fixed:
                break
            bucket = buckets[entry]
            for slot in range(starts[bucket], starts[bucket] + filled[bucket]):
                other = members[slot]
                if seen[other] == node:
                    continue
                seen[other] = node
                value = _jaccard(sets, set_begins[node], set_begins[node + 1], set_begins[other], set_begins[other + 1])
                if found == len(first):
                    first, second = _grown(first), _grown(second)
                    jaccard = np.concatenate((jaccard, np.empty(len(jaccard), np.float64)))
                first[found], second[found], jaccard[found] = other, node, value
                found += 1
                # At equal similarity the earlier node in survivor order stays the nearest.
                if kept[other] and (
                    nearest[node] < 0
                    or value > similarity[node]
                    or (value == similarity[node] and other < nearest[node])
                ):
                    nearest[node], similarity[node] = other, value
                if value >= threshold:
                    _join(parents, other, node)
        if nearest[node] >= 0 and similarity[node] >= threshold:
            kept[node] = False
        for entry in range(begins[node], begins[node + 1]):
            bucket = buckets[entry]
            if kept[node] or sizes[bucket] <= full_bucket:
                if starts[bucket] + filled[bucket] < starts[bucket + 1]:
                    members[starts[bucket] + filled[bucket]] = node
                    filled[bucket] += 1
                else:
                    refused[bucket] = True
    return first[:found], second[:found], jaccard[:found]


@compiled
def _grown(values: Ints) -> Any:
    return np.concatenate((values, np.empty(len(values), np.int64)))


@compiled
def _jaccard(sets: Hashes, a: int, a_end: int, b: int, b_end: int) -> float:
    total = (a_end - a) + (b_end - b)
    shared = 0
    while a < a_end and b < b_end:
        if sets[a] < sets[b]:
            a += 1
        elif sets[b] < sets[a]:
            b += 1
        else:
            shared += 1
            a += 1
            b += 1
    return shared / (total - shared) if total else 0.0


@compiled
def _find(parents: Ints, node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _join(parents: Ints, a: int, b: int) -> None:
    a, b = _find(parents, a), _find(parents, b)
    parents[max(a, b)] = min(a, b)


@compiled
def _roots(parents: Ints) -> Any:
    out = np.empty(len(parents), np.int64)
    for node in range(len(parents)):
        out[node] = _find(parents, node)
    return out
