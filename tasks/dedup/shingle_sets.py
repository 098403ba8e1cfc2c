"""The shingle sets of the candidates, spilled: exact comparison reads them from there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artifacts.reader import InputTable
from tasks.dedup.corpus import ROWS_A_SHARD, Ints, shard_groups
from tasks.dedup.earlier import Earlier
from tasks.dedup.index import indexed_shingles
from tasks.dedup.join import Candidates
from tasks.dedup.signing import ShingleSets, shingle_rows, shingle_tasks
from tasks.dedup.spill import Scratch, Spill
from tasks.stage import StageContext
from tasks.text.shingles import Hashes


@dataclass(frozen=True)
class Sets:
    """Node i's set is rows begins[i] to begins[i] + lengths[i] of `shingles`, ascending and distinct."""

    shingles: Spill
    begins: Ints
    lengths: Ints

    def mapped(self) -> Hashes:
        """The shingles, mapped anew: what was read of an older map leaves memory with it."""
        return self.shingles.array()


def spill_sets(
    context: StageContext, documents: InputTable, earlier: Earlier, candidates: Candidates, scratch: Scratch
) -> Sets:
    """Read the texts of all candidates again, where they are, and spill their shingles."""
    shingle = context.config.shingle
    nodes = candidates.rows + len(candidates.earlier)
    sets = Sets(scratch.spill(np.uint64), scratch.column(np.int64, nodes), scratch.column(np.int64, nodes))
    for group in shard_groups(documents.shards(ROWS_A_SHARD)):
        first, last = group[0].first_row, group[-1].first_row + group[-1].rows
        rows = np.flatnonzero(candidates.is_node[first:last]) + first
        done = 0
        for part in context.map_with_progress(shingle_rows, shingle_tasks(group, rows, shingle), "shingles"):
            done += _append(sets, rows[done:], part)
    nodes_of_earlier = np.arange(candidates.rows, nodes)
    done = 0
    for part in context.map_with_progress(
        indexed_shingles, earlier.text_tasks(candidates.earlier, shingle), "shingles of earlier crawls"
    ):
        done += _append(sets, nodes_of_earlier[done:], part)
    return sets


def _append(sets: Sets, nodes: Ints, part: ShingleSets) -> int:
    """Spill the sets of the first of these nodes; returns of how many."""
    count = len(part.lengths)
    sets.lengths[nodes[:count]] = part.lengths
    sets.begins[nodes[:count]] = sets.shingles.rows + np.cumsum(part.lengths) - part.lengths
    sets.shingles.append(part.shingles)
    return count
