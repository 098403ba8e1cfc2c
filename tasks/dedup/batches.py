"""Candidates in batches that fit in memory: documents that no chain of buckets connects are never compared, so each
connected component can be decided alone, and any number of them together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.dedup.config import Limits
from tasks.dedup.corpus import Ints
from tasks.dedup.join import MEMBER, Candidates
from tasks.dedup.spill import MOST_PARTS, Records, Scratch, Spill
from tasks.text.compiled import compiled

# What a document takes while it is compared, besides its shingles: its buckets (32 bytes for each of up to 14), where
# it stands in the order, and the outcome.
BYTES_A_NODE = 700


def batches(candidates: Candidates, shingles: Ints, limits: Limits, scratch: Scratch) -> Iterator[Records]:
    """The members (`join.MEMBER`) of whole components, about `limits.bytes` at a time.

    Args:
        shingles: how many shingles each node has.

    A batch is larger only where one component is.
    """
    nodes = candidates.rows + len(candidates.earlier)
    used = int(candidates.is_node.sum()) + len(candidates.earlier)
    if used == 0:
        return
    total = used * BYTES_A_NODE + 8 * int(shingles.sum())
    if total <= limits.bytes:
        yield np.concatenate(list(candidates.chunks()))
        return
    parents = scratch.column(np.int64, nodes)
    _each_its_own(parents)
    last = np.array([-1, -1], dtype=np.int64)
    for chunk in candidates.chunks():
        _connect(np.ascontiguousarray(chunk["bucket"]), np.ascontiguousarray(chunk["node"]), parents, last)
    number = scratch.column(np.int64, nodes)
    size = scratch.column(np.int64, nodes)
    limit = max(limits.bytes, total // MOST_PARTS)
    count = _number_batches(parents, candidates.is_node, shingles, number, size, BYTES_A_NODE, limit)
    files: list[Spill] = [scratch.spill(MEMBER) for _ in range(count)]
    for chunk in candidates.chunks():
        batch = number[chunk["node"]]
        for place in np.unique(batch):
            files[place].append(chunk[batch == place])
    for file in files:
        members = file.read(0, file.rows)
        scratch.drop(file)
        yield members


@compiled
def _each_its_own(parents: Ints) -> None:
    for node in range(len(parents)):
        parents[node] = node


@compiled
def _connect(buckets: Ints, nodes: Ints, parents: Ints, last: Ints) -> None:
    """Union the nodes of each bucket. `last` carries bucket and node over to the next chunk."""
    for i in range(len(buckets)):
        if buckets[i] == last[0]:
            a, b = _root(parents, last[1]), _root(parents, nodes[i])
            parents[max(a, b)] = min(a, b)
        last[0], last[1] = buckets[i], nodes[i]


@compiled
def _root(parents: Ints, node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _number_batches(
    parents: Ints, is_node: NDArray[np.bool_], shingles: Ints, number: Ints, size: Ints, bytes_a_node: int, limit: int
) -> int:
    """Give each node the number of its batch; returns how many there are. A root is its component's smallest node."""
    for node in range(len(parents)):
        if node >= len(is_node) or is_node[node]:
            size[_root(parents, node)] += bytes_a_node + 8 * shingles[node]
    batch, filled = 0, 0
    for node in range(len(parents)):
        root = _root(parents, node)
        if root == node and size[node]:
            if filled and filled + size[node] > limit:
                batch, filled = batch + 1, 0
            filled += size[node]
            number[node] = batch
        else:
            number[node] = number[root]
    return batch + 1
