"""The units of many texts at once, as hashes and sizes: those of `tasks.text.segment.units`, with no object a word.

`tasks.text.reading` scans Arrow's UTF-8 buffers; a text whose normal form depends on neighbouring characters is
normalised by Python, and scanned again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.text.batches import text_buffers
from tasks.text.folding import IN_SPACELESS, IS_MARK, folding
from tasks.text.normalise import normalise
from tasks.text.reading import scan_units


@dataclass(frozen=True)
class Units:
    """The units of N texts, U in all; those of text i are starts[i] to starts[i + 1].

    Attributes:
        starts: (N + 1,) int64.
        hashes: (U,) uint64, as `tasks.text.shingles.unit_hashes` gives them.
        words: (U,) uint32, fastText's own hash of the same bytes (FNV-1a of 32 bits over signed characters).
        sizes: (U,) int32, characters of each unit.
        lone: (U,) bool, whether the unit is a character of a script without spaces.
    """

    starts: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    words: NDArray[np.uint32]
    sizes: NDArray[np.int32]
    lone: NDArray[np.bool_]


def units_of(texts: pa.Array) -> Units:
    """The units of every text of a string array, in order; a null has none."""
    units, ok = _scanned(texts, folding().entries)
    left = np.flatnonzero(~ok)
    return _with(units, left, texts.take(pa.array(left))) if len(left) else units


def _scanned(texts: pa.Array, entries: NDArray[np.uint32]) -> tuple[Units, NDArray[np.bool_]]:
    """Units, and whether each text could be read; one that could not has none."""
    table = folding()
    data, offsets = text_buffers(texts)
    starts, hashes, words, sizes, lone, ok = scan_units(
        data, offsets, table.ascii, entries, table.places, table.spellings
    )
    return Units(starts, hashes, words, sizes, lone), ok


@cache
def _folded_entries() -> NDArray[np.uint32]:
    """The table for texts in normal form: every letter and mark is itself, whatever stands beside it."""
    return folding().entries & np.uint32(IN_SPACELESS | IS_MARK)


def _with(units: Units, rows: NDArray[np.int64], texts: pa.Array) -> Units:
    """`units`, in which `rows` have none, with those of their texts, normalised by Python."""
    normal = pa.array([normalise(text) for text in texts.to_pylist()], pa.large_string())
    parts, _ = _scanned(normal, _folded_entries())
    counts = np.diff(units.starts)
    counts[rows] = np.diff(parts.starts)
    chosen = np.repeat(np.isin(np.arange(len(counts)), rows), counts)

    def woven(name: str) -> NDArray[np.generic]:
        a, b = getattr(units, name), getattr(parts, name)
        out = np.empty(len(chosen), dtype=a.dtype)
        out[~chosen], out[chosen] = a, b
        return out

    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Units(starts, *(woven(name) for name in ("hashes", "words", "sizes", "lone")))  # type: ignore[arg-type]
