"""Shingles: the set of hashed n-grams of a text's units (Broder 1997), and the exact Jaccard of two such sets.

Everything is 64 bits wide and the same on every machine: units are hashed by FNV-1a with MurmurHash3's finaliser,
n-grams by multiplying and folding the hashes of their units. At 64 bits two texts of a million shingles share one by
accident with a probability of 5e-8, so equality of hashes stands for equality of n-grams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.text.compiled import compiled
from tasks.text.normalise import normalise
from tasks.text.segment import spaced

Hashes = NDArray[np.uint64]

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_FOLD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(33)
_SPACE = np.uint8(32)


def unit_hashes(spaced_text: str) -> Hashes:
    """One 64-bit hash a unit of a text whose units stand between single spaces (`segment.spaced`), in order."""
    data = spaced_text.encode("utf8", errors="surrogatepass")
    return _unit_hashes(np.frombuffer(data, dtype=np.uint8))


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """One 64-bit hash an n-gram, in order: len - n + 1 of them. n-grams of different n never share a hash space.

    Fewer than n units are one shingle of them all; no units, none.
    """
    return _ngram_hashes(hashes, n)


def text_ngrams(text: str, n: int) -> Hashes:
    """`ngram_hashes` of any text."""
    return _ngram_hashes(unit_hashes(spaced(normalise(text))), n)


def shingle_set(text: str, n: int) -> Hashes:
    """The text's distinct shingles, ascending."""
    return np.unique(text_ngrams(text, n))


def jaccard(a: Hashes, b: Hashes) -> float:
    """|A ∩ B| / |A ∪ B| of two ascending arrays without repetitions; 0 if both are empty."""
    union = len(a) + len(b)
    if union == 0:
        return 0.0
    shared = int(shared_hashes(a, b))
    return shared / (union - shared)


@compiled
def shared_hashes(a: Hashes, b: Hashes) -> int:
    """How many values two ascending arrays without repetitions have in common."""
    i = j = shared = 0
    while i < len(a) and j < len(b):
        if a[i] < b[j]:
            i += 1
        elif b[j] < a[i]:
            j += 1
        else:
            shared += 1
            i += 1
            j += 1
    return shared


@compiled
def _unit_hashes(data: NDArray[np.uint8]) -> Hashes:
    count = 0
    if len(data):
        count = 1
        for byte in data:
            if byte == _SPACE:
                count += 1
    out = np.empty(count, dtype=np.uint64)
    unit = 0
    value = _OFFSET
    for position in range(len(data) + 1):
        if position < len(data) and data[position] != _SPACE:
            value = (value ^ np.uint64(data[position])) * _PRIME
        elif unit < count:
            value ^= value >> _SHIFT
            value *= _MIX_1
            value ^= value >> _SHIFT
            value *= _MIX_2
            out[unit] = value ^ (value >> _SHIFT)
            unit += 1
            value = _OFFSET
    return out


@compiled
def _ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    out = np.empty(len(hashes), dtype=np.uint64)
    return out[: _write_ngrams(hashes, n, out)]


@compiled
def ngram_rows(units: Hashes, bounds: NDArray[np.uint64], n: int, out: Hashes, out_bounds: NDArray[np.int64]) -> None:
    """`ngram_hashes` of many texts: row r's unit hashes are units[bounds[r, 0] : bounds[r, 1]], and `out` likewise."""
    at = 0
    for row in range(len(bounds)):
        out_bounds[row, 0] = at
        at += _write_ngrams(units[bounds[row, 0] : bounds[row, 1]], n, out[at:])
        out_bounds[row, 1] = at


@compiled
def _write_ngrams(hashes: Hashes, n: int, out: Hashes) -> int:
    # The inner loops run over n-grams, not over their units: so they fill the vector units.
    size = min(n, len(hashes))
    count = len(hashes) - size + 1 if size else 0
    for i in range(count):
        out[i] = _FOLD * np.uint64(size)
    for j in range(size):
        for i in range(count):
            value = (out[i] ^ hashes[i + j]) * _MIX_1
            out[i] = value ^ (value >> _SHIFT)
    for i in range(count):
        value = out[i] * _MIX_2
        out[i] = value ^ (value >> _SHIFT)
    return count


@compiled
def distinct_rows(hashes: Hashes, bounds: NDArray[np.int64], out: Hashes) -> int:
    """Write the distinct values of many ascending rows one after the other; `bounds` becomes those of `out`."""
    at = 0
    for row in range(len(bounds)):
        first, last = bounds[row, 0], bounds[row, 1]
        bounds[row, 0] = at
        for i in range(first, last):
            if i == first or hashes[i] != hashes[i - 1]:
                out[at] = hashes[i]
                at += 1
        bounds[row, 1] = at
    return at
