"""The search for n-grams: compiled passes over the units of a batch, as `tasks.text.batches` hashes them.

The n-grams' hashes are those of `tasks.text.shingles`; numba notices a change of its own file only, so they are written
again here, and a test holds the two together.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.decontaminate.index import Grams, Ints
from tasks.text.batches import text_blocks
from tasks.text.compiled import compiled
from tasks.text.normalise import normalise
from tasks.text.reading import Bounds
from tasks.text.segment import spaced
from tasks.text.shingles import Hashes, unit_hashes

_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_FOLD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(33)


def search(column: pa.ChunkedArray, grams: Grams) -> tuple[Ints, Ints]:
    """(place in a column of texts, number of the n-gram), each pair once, ascending."""
    found = [np.empty(0, dtype=np.int64)]
    for block in text_blocks(column):
        rows, numbers = _search(block.units, block.unit_bounds, block.ok, *_parts(grams))
        found.append(_pairs(rows + block.first, numbers, grams))
        for row in (np.flatnonzero(~block.ok) + block.first).tolist():
            units = unit_hashes(spaced(normalise(column[row].as_py())))
            whole = np.array([[0, len(units)]], dtype=np.uint64)
            rows, numbers = _search(units, whole, np.ones(1, dtype=np.bool_), *_parts(grams))
            found.append(_pairs(rows + row, numbers, grams))
    rows, numbers = np.divmod(np.unique(np.concatenate(found)), max(len(grams.hashes), 1))
    return rows, numbers


def _parts(grams: Grams) -> tuple[Hashes, Ints, NDArray[np.uint8], int]:
    return grams.hashes, grams.sizes, grams.openings, grams.prefix


def _pairs(rows: Ints, numbers: Ints, grams: Grams) -> Ints:
    return rows * len(grams.hashes) + numbers


@compiled
def _ngram(units: Hashes, first: int, size: int) -> np.uint64:
    value = _FOLD * np.uint64(size)
    for place in range(first, first + size):
        value = (value ^ units[place]) * _MIX_1
        value ^= value >> _SHIFT
    value *= _MIX_2
    return value ^ (value >> _SHIFT)


@compiled
def _search(
    units: Hashes,
    bounds: Bounds,
    ok: NDArray[np.bool_],
    hashes: Hashes,
    sizes: Ints,
    openings: NDArray[np.uint8],
    prefix: int,
) -> Ints:
    """(2, hits): row and number of every n-gram met."""
    found = np.empty((2, 256), dtype=np.int64)
    hits = 0
    for row in range(len(bounds)):
        if not ok[row]:
            continue
        end = np.int64(bounds[row, 1])
        for place in range(np.int64(bounds[row, 0]), end - prefix + 1):
            opening = _ngram(units, place, prefix) >> np.uint64(40)
            if not openings[opening >> np.uint64(3)] >> np.uint8(opening & np.uint64(7)) & 1:
                continue
            for size in sizes:
                if place + size > end:
                    break
                value = _ngram(units, place, size)
                number = np.searchsorted(hashes, value)
                if number < len(hashes) and hashes[number] == value:
                    if hits == found.shape[1]:
                        grown = np.empty((2, 2 * hits), dtype=np.int64)
                        grown[:, :hits] = found
                        found = grown
                    found[0, hits], found[1, hits] = row, number
                    hits += 1
    return found[:, :hits]
