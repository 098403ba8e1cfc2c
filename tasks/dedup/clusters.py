"""Which documents fall to which: buckets of LSH bands, exact comparison in survivor order, clusters by union-find.

Nodes are numbered in survivor order: of two duplicates the smaller number survives. A document is dropped only if its
Jaccard similarity with a *kept* document reaches the threshold, so a chain A~B~C never drops a C that is unlike A. The
outcome is a function of the order of the nodes and of their texts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.compiled import compiled
from tasks.text.shingles import Hashes

Ints = NDArray[np.int64]

# In buckets up to this size all pairs are compared, so that `pairs` also tells of two dropped documents; in larger ones
# (thousands of copies of one page) a document is compared with the kept ones alone: a star, not a square.
FULL_BUCKET = 64
NODES_A_SLICE = 20_000


@dataclass(frozen=True)
class Buckets:
    """Bands that two or more nodes share. Node i stands in bucket `ids[i, band]`, −1 where it is alone."""

    ids: Ints  # (nodes, bands)
    starts: Ints  # where a bucket's members begin, and the total behind the last

    @property
    def members(self) -> NDArray[np.bool_]:
        """For each node, whether it shares any band with another."""
        return np.asarray((self.ids >= 0).any(axis=1))


def bucket_nodes(keys: Hashes) -> Buckets:
    """(nodes, bands) band keys → the buckets of two or more."""
    ids = np.full(keys.shape, -1, dtype=np.int64)
    sizes = [np.zeros(1, dtype=np.int64)]
    first = 0
    for band in range(keys.shape[1]):
        _, group, count = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        shared = count > 1
        numbers = np.where(shared, np.cumsum(shared) - 1 + first, -1)
        ids[:, band] = numbers[group]
        sizes.append(count[shared])
        first += int(shared.sum())
    return Buckets(ids, np.cumsum(np.concatenate(sizes)))


@dataclass(frozen=True)
class Comparison:
    """The outcome for each node, and every pair that was compared (first < second in survivor order).

    Attributes:
        kept: whether the node survives.
        nearest: the kept node it is most similar to among those compared (for a dropped one: its survivor), or −1.
        similarity: the exact Jaccard similarity to it; NaN where there is none.
        cluster: the smallest node of its cluster, the closure of the accepted pairs.
    """

    kept: NDArray[np.bool_]
    nearest: Ints
    similarity: NDArray[np.float64]
    cluster: Ints
    first: Ints
    second: Ints
    jaccard: NDArray[np.float64]


def compare_nodes(
    buckets: Buckets,
    sets: Hashes,
    begins: Ints,
    ends: Ints,
    fixed: int,
    threshold: float,
    progress: Callable[[int, int], None],
) -> Comparison:
    """Compare the nodes of each bucket, in survivor order.

    Args:
        sets, begins, ends: the shingle set of node i is sets[begins[i]:ends[i]], ascending and distinct.
        fixed: the first so many nodes are documents of earlier crawls: kept, and not compared with one another.
        threshold: inclusive.
        progress: told nodes done and nodes in all.
    """
    count = len(buckets.ids)
    kept = np.ones(count, dtype=np.bool_)
    nearest = np.full(count, -1, dtype=np.int64)
    similarity = np.full(count, np.nan)
    parents = np.arange(count, dtype=np.int64)
    members = np.empty(int(buckets.starts[-1]), dtype=np.int64)
    filled = np.zeros(max(len(buckets.starts) - 1, 0), dtype=np.int64)
    seen = np.full(count, -1, dtype=np.int64)
    pairs = []
    for start in range(0, count, NODES_A_SLICE):
        stop = min(start + NODES_A_SLICE, count)
        pairs.append(
            _compare_slice(
                start, stop, fixed, threshold, FULL_BUCKET, buckets.ids, buckets.starts, members, filled, seen,
                sets, begins, ends, kept, nearest, similarity, parents,
            )
        )  # fmt: skip
        progress(stop, count)
    first, second, jaccard = (
        np.concatenate([part[column] for part in pairs]) if pairs else np.empty(0, dtype)
        for column, dtype in enumerate((np.int64, np.int64, np.float64))
    )
    return Comparison(kept, nearest, similarity, _roots(parents), first, second, jaccard)


@compiled
def _compare_slice(
    start: int,
    stop: int,
    fixed: int,
    threshold: float,
    full_bucket: int,
    ids: Ints,
    starts: Ints,
    members: Ints,
    filled: Ints,
    seen: Ints,
    sets: Hashes,
    begins: Ints,
    ends: Ints,
    kept: Any,
    nearest: Ints,
    similarity: Any,
    parents: Ints,
) -> Any:
    """Nodes start to stop: compare each with those before it in its buckets, decide, and enter it there."""
    first, second, jaccard = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.float64)
    found = 0
    for node in range(start, stop):
        for band in range(ids.shape[1]):
            bucket = ids[node, band]
            if bucket < 0 or node < fixed:
                continue
            for slot in range(starts[bucket], starts[bucket] + filled[bucket]):
                other = members[slot]
                if seen[other] == node:
                    continue
                seen[other] = node
                value = _jaccard(sets, begins[node], ends[node], begins[other], ends[other])
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
        for band in range(ids.shape[1]):
            bucket = ids[node, band]
            if bucket >= 0 and (kept[node] or starts[bucket + 1] - starts[bucket] <= full_bucket):
                members[starts[bucket] + filled[bucket]] = node
                filled[bucket] += 1
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
