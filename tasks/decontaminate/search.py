"""The search for n-grams: one compiled pass over the UTF-8 of a batch.

Units and hashes are those of `tasks.text.shingles`; numba notices a change of its own file only, so they are written
again here, and a test holds the two together.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.decontaminate.index import Grams, Ints
from tasks.text.compiled import compiled
from tasks.text.normalise import normalise
from tasks.text.segment import spaced
from tasks.text.shingles import Hashes

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_FOLD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(33)

# What each byte of an ASCII or a normalised text becomes in a unit: itself in lower case; 0 stands between units.
UNIT_BYTES = np.array([ord(chr(b).lower()) if b > 127 or chr(b).isalnum() else 0 for b in range(256)], dtype=np.uint8)
UNIT_BYTES[128:] = np.arange(128, 256)


def search(texts: pa.Array, grams: Grams) -> tuple[Ints, Ints]:
    """(place in the array, number of the n-gram) of a string array without nulls; each pair once, ascending."""
    texts = _prepared(texts).cast(pa.large_string())
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    flat = np.frombuffer(data, dtype=np.uint8)
    longest = int(np.diff(ends).max()) // 2 + 2
    found = _search(flat, ends, UNIT_BYTES, np.empty(longest, dtype=np.uint64), grams.hashes, grams.sizes,
                    grams.openings, grams.prefix)  # fmt: skip
    return np.divmod(np.unique(found[0] * len(grams.hashes) + found[1]), len(grams.hashes))


def _prepared(texts: pa.Array) -> pa.Array:
    """The texts, those beyond ASCII normalised: the pass itself knows ASCII's letters, digits and case only."""
    beyond = pc.invert(pc.string_is_ascii(texts))
    if not pc.any(beyond).as_py():
        return texts
    made = [spaced(normalise(text)) for text in texts.filter(beyond).to_pylist()]
    return pc.replace_with_mask(texts, beyond, pa.array(made, texts.type))


@compiled
def _ngram(units: Hashes, first: int, size: int) -> np.uint64:
    value = _FOLD * np.uint64(size)
    for place in range(first, first + size):
        value = (value ^ units[place]) * _MIX_1
        value ^= value >> _SHIFT
    value *= _MIX_2
    return value ^ (value >> _SHIFT)


@compiled
def _units(data: NDArray[np.uint8], start: int, end: int, classes: NDArray[np.uint8], units: Hashes) -> int:
    """Hashes of the units of `data[start:end]` into `units`; returns how many."""
    count = 0
    value = _OFFSET
    inside = False
    for place in range(start, end + 1):
        byte = classes[data[place]] if place < end else np.uint8(0)
        if byte:
            value = (value ^ np.uint64(byte)) * _PRIME
            inside = True
        elif inside:
            value ^= value >> _SHIFT
            value *= _MIX_1
            value ^= value >> _SHIFT
            value *= _MIX_2
            units[count] = value ^ (value >> _SHIFT)
            count += 1
            value = _OFFSET
            inside = False
    return count


@compiled
def _search(
    data: NDArray[np.uint8],
    offsets: Ints,
    classes: NDArray[np.uint8],
    units: Hashes,
    hashes: Hashes,
    sizes: Ints,
    openings: NDArray[np.uint8],
    prefix: int,
) -> Ints:
    """(2, hits): row and number of every n-gram met."""
    found = np.empty((2, 256), dtype=np.int64)
    hits = 0
    for row in range(len(offsets) - 1):
        count = _units(data, offsets[row], offsets[row + 1], classes, units)
        for place in range(count - prefix + 1):
            opening = _ngram(units, place, prefix) >> np.uint64(40)
            if not openings[opening >> np.uint64(3)] >> np.uint8(opening & np.uint64(7)) & 1:
                continue
            for size in sizes:
                if place + size > count:
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
