"""Units (lines or paragraphs) of many texts at once, over Arrow's UTF-8 buffers: where they are, their hashes, and the
texts without some of them.

A unit ends at a run of ASCII white space with one line feed (`line`) or two (`paragraph`), or with the text. Its hash
is FNV-1a of the unit's normal form (`tasks.text.normalise`) with MurmurHash3's finaliser, 64 bits as CCNet's: among
10^9 different units there is one accidental pair with a probability of 3%.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.text.batches import text_blocks
from tasks.text.compiled import compiled
from tasks.text.normalise import normalise

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

LINE_FEEDS = {"line": 1, "paragraph": 2}
NOTHING = np.uint64(0)  # the hash of a unit without a letter or number

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


@dataclass(frozen=True)
class Units:
    """The units of some texts, in order.

    Attributes:
        data: the texts' UTF-8, one after the other; text i is `data[offsets[i]:offsets[i + 1]]`.
        counts: units of each text.
        begins, ends: where each unit is in `data`.
        characters: code points of each unit.
    """

    data: Bytes
    offsets: Ints
    counts: Ints
    begins: Ints
    ends: Ints
    characters: Ints


def find_units(texts: pa.ChunkedArray, unit: str) -> Units:
    """Where the units of a column of texts are. A null is a text without any."""
    data, offsets = _buffers(texts)
    most = int(np.count_nonzero(data == 10)) + len(offsets) - 1
    counts, begins, ends, characters = _find(data, offsets, LINE_FEEDS[unit], most)
    return Units(data, offsets, counts, begins, ends, characters)


def hash_units(units: Units, min_characters: int) -> Hashes:
    """One 64-bit hash a unit; `NOTHING` for those that are shorter or have no letter and no number."""
    hashes = np.zeros(len(units.begins), dtype=np.uint64)
    chosen = np.flatnonzero(units.characters >= min_characters)
    data, offsets = _gathered(units.data, units.begins[chosen], units.ends[chosen])
    texts = pa.LargeStringArray.from_buffers(len(chosen), pa.py_buffer(offsets), pa.py_buffer(data))
    for block in text_blocks(pa.chunked_array([texts])):
        rows = chosen[block.first : block.first + len(block.ok)]
        hashes[rows] = _hash_normal(block.normal, block.normal_bounds)
        for row in rows[~block.ok]:
            text = units.data[units.begins[row] : units.ends[row]].tobytes().decode("utf8", "surrogatepass")
            normal = np.frombuffer(normalise(text).encode("utf8", "surrogatepass"), dtype=np.uint8)
            hashes[row] = _hash_normal(normal, np.array([[0, len(normal)]], dtype=np.uint64))[0]
    return hashes


def without(units: Units, cut: NDArray[np.bool_]) -> tuple[pa.Array, Ints]:
    """The texts without the units marked in `cut`, and how many characters each lost.

    A text that loses nothing stays as it is. Of the white space on both sides of what was cut, the part with more line
    feeds stays (of two equal ones the longer, then the first); white space before the first and behind the last unit
    goes.
    """
    out, offsets, lost = _without(units.data, units.offsets, units.counts, units.begins, units.ends, cut)
    array = pa.LargeStringArray.from_buffers(len(units.counts), pa.py_buffer(offsets), pa.py_buffer(out))
    return array.cast(pa.string()), lost


def _buffers(texts: pa.ChunkedArray) -> tuple[Bytes, Ints]:
    array = pa.concat_arrays(
        [chunk.cast(pa.large_string()) for chunk in texts.chunks] or [pa.array([], pa.large_string())]
    )
    array = array.fill_null("")
    if not len(array):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, starts, content = array.buffers()
    offsets = np.frombuffer(starts, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


@compiled
def _is_space(byte: int) -> bool:
    return byte == 32 or 9 <= byte <= 13


@compiled
def _find(data: Bytes, offsets: Ints, line_feeds: int, most: int) -> tuple[Ints, Ints, Ints, Ints]:
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    begins = np.empty(most, dtype=np.int64)
    ends = np.empty(most, dtype=np.int64)
    characters = np.empty(most, dtype=np.int64)
    found = 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        while True:
            while at < end and _is_space(data[at]):
                at += 1
            if at == end:
                break
            begin = last = at
            feeds = size = pending = 0
            while at < end and feeds < line_feeds:
                byte = data[at]
                if _is_space(byte):
                    pending += 1
                    feeds += byte == 10
                else:
                    last = at
                    feeds = 0
                    size += pending + (byte < 128 or byte >= 192)  # a code point is counted at its first byte
                    pending = 0
                at += 1
            begins[found], ends[found], characters[found] = begin, last + 1, size
            found += 1
            counts[text] += 1
    return counts, begins[:found], ends[:found], characters[:found]


@compiled
def _finished(value: np.uint64) -> np.uint64:
    value ^= value >> _SHIFT
    value *= _MIX_1
    value ^= value >> _SHIFT
    value *= _MIX_2
    value ^= value >> _SHIFT
    return value if value != np.uint64(0) else np.uint64(1)


@compiled
def _hash_normal(normal: Bytes, bounds: NDArray[np.uint64]) -> Hashes:
    """The hash of each normal form, shape (rows,)."""
    out = np.zeros(len(bounds), dtype=np.uint64)
    for row in range(len(bounds)):
        value = _OFFSET
        for at in range(bounds[row, 0], bounds[row, 1]):
            value = (value ^ np.uint64(normal[at])) * _PRIME
        if bounds[row, 1] > bounds[row, 0]:
            out[row] = _finished(value)
    return out


@compiled
def _gathered(data: Bytes, begins: Ints, ends: Ints) -> tuple[Bytes, Ints]:
    """The units' bytes one after the other, and where each begins (rows + 1)."""
    offsets = np.zeros(len(begins) + 1, dtype=np.int64)
    for number in range(len(begins)):
        offsets[number + 1] = offsets[number] + ends[number] - begins[number]
    out = np.empty(offsets[-1], dtype=np.uint8)
    for number in range(len(begins)):
        _copied(out, offsets[number], data, begins[number], ends[number])
    return out, offsets


@compiled
def _copied(out: Bytes, size: int, data: Bytes, begin: int, end: int) -> int:
    """Bytes put behind the first `size` of `out`; the new size. (A loop: Numba takes seconds to compile slices.)"""
    for at in range(begin, end):
        out[size] = data[at]
        size += 1
    return size


@compiled
def _code_points(data: Bytes, begin: int, end: int) -> int:
    found = 0
    for at in range(begin, end):
        found += data[at] < 128 or data[at] >= 192
    return found


@compiled
def _without(
    data: Bytes, offsets: Ints, counts: Ints, begins: Ints, ends: Ints, cut: NDArray[np.bool_]
) -> tuple[Bytes, Ints, Ints]:
    out = np.empty(len(data), dtype=np.uint8)
    new = np.zeros(len(offsets), dtype=np.int64)
    lost = np.zeros(len(counts), dtype=np.int64)
    size = first = 0
    for text in range(len(counts)):
        end, losses, start = first + counts[text], 0, size
        for unit in range(first, end):
            losses += cut[unit]
        if losses == 0:
            size = _copied(out, size, data, offsets[text], offsets[text + 1])
        else:
            before, feeds, gap_begin, gap_end = False, -1, 0, 0
            for unit in range(first, end):
                if unit > first:
                    found = 0
                    for at in range(ends[unit - 1], begins[unit]):
                        found += data[at] == 10
                    if found > feeds or (found == feeds and begins[unit] - ends[unit - 1] > gap_end - gap_begin):
                        feeds, gap_begin, gap_end = found, ends[unit - 1], begins[unit]
                if cut[unit]:
                    continue
                if before:
                    size = _copied(out, size, data, gap_begin, gap_end)
                size = _copied(out, size, data, begins[unit], ends[unit])
                before, feeds, gap_begin, gap_end = True, -1, 0, 0
            lost[text] = _code_points(data, offsets[text], offsets[text + 1]) - _code_points(out, start, size)
        new[text + 1] = size
        first = end
    return out[:size], new, lost
