"""Normal forms and unit hashes of a column of texts, straight from Arrow's UTF-8 buffers: no object a word or a text.

One compiled pass reads a text's bytes, writes its normal form and hashes its units. ASCII takes a path without
branches, other characters a table (`folding`); texts with a character whose normal form depends on its neighbours are
left to Python (`Block.ok`). The results are those of `normalise`, `segment.spaced` and `shingles.unit_hashes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.text.compiled import compiled
from tasks.text.folding import (
    ASSIGNED,
    DROPPED,
    FIRST_CLASS,
    IN_SPACELESS,
    IS_MARK,
    KIND,
    LARGEST_GROWTH,
    LAST_CLASS,
    LETTER,
    SEPARATOR,
    SPELLED,
    UNKNOWN,
    Bytes,
    folding,
)
from tasks.text.normalise import normalise
from tasks.text.segment import spaced
from tasks.text.shingles import Hashes, ngram_hashes, unit_hashes

# Texts of a block stay in the second-level cache from one pass to the next.
BYTES_A_BLOCK = 1 << 17

Bounds = NDArray[np.uint64]  # (rows, 2): where each row begins and ends in another array


@dataclass(frozen=True)
class Block:
    """Some consecutive texts. The arrays are overwritten when the next block is made.

    `units` holds one hash a unit, row after row; rows that are not `ok` have none, and no normal form either.
    """

    first: int
    ok: NDArray[np.bool_]
    characters: NDArray[np.int64]
    normal: Bytes
    normal_bounds: Bounds
    units: Hashes
    unit_bounds: Bounds


def text_blocks(column: pa.ChunkedArray) -> Iterator[Block]:
    """The texts of a column of strings, some at a time, in order. A null is an empty text."""
    table = folding()
    normal, units = np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.uint64)
    row = 0
    for chunk in column.chunks:
        data, offsets = _buffers(chunk)
        for first, last in _cut(offsets):
            room = LARGEST_GROWTH * int(offsets[last] - offsets[first]) + 8 * (last - first)
            if len(normal) < room:
                normal, units = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.uint64)
            block = Block(
                row, np.empty(last - first, dtype=np.bool_), np.empty(last - first, dtype=np.int64),
                normal, np.empty((last - first, 2), dtype=np.uint64),
                units, np.empty((last - first, 2), dtype=np.uint64),
            )  # fmt: skip
            _read_block(
                data, offsets[first : last + 1], table.ascii, table.entries, table.places, table.spellings,
                normal, block.normal_bounds, units, block.unit_bounds, block.ok, block.characters,
            )  # fmt: skip
            yield block
            row += last - first


def slow_ngrams(text: str, n: int) -> tuple[str, Hashes]:
    """(normal form, n-gram hashes) of a text that is not `ok`."""
    normal = normalise(text)
    return normal, ngram_hashes(unit_hashes(spaced(normal)), n)


def _buffers(chunk: pa.Array) -> tuple[Bytes, NDArray[np.uint64]]:
    """UTF-8 of all texts, and where each begins in it (rows + 1)."""
    if not (pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
        chunk = chunk.cast(pa.large_string())
    if chunk.null_count:
        chunk = pc.fill_null(chunk, "")
    kind = np.int32 if pa.types.is_string(chunk.type) else np.int64
    _, places, content = chunk.buffers()
    offsets = np.zeros(1, dtype=np.uint64)
    if len(chunk):
        width = np.dtype(kind).itemsize
        offsets = np.frombuffer(places, dtype=kind, count=len(chunk) + 1, offset=chunk.offset * width).astype(np.uint64)
    return np.frombuffer(content or b"", dtype=np.uint8), offsets


def _cut(offsets: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most BYTES_A_BLOCK, or of one row."""
    first, rows = 0, len(offsets) - 1
    while first < rows:
        end = np.searchsorted(offsets, offsets[first] + np.uint64(BYTES_A_BLOCK), side="right") - 1
        last = min(max(int(end), first + 1), first + 4_096)
        yield first, last
        first = last


# The loops count in unsigned numbers: of signed ones Numba asks at every access whether they are negative.
_0, _1, _2, _3, _4, _6, _12, _18 = (np.uint64(n) for n in (0, 1, 2, 3, 4, 6, 12, 18))
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX_1, _MIX_2, _33 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)
_OFFSET_32, _PRIME_32, _LOW_32 = np.uint64(2166136261), np.uint64(16777619), np.uint64(0xFFFFFFFF)
_SIGN = np.uint64(0xFFFFFF00)
_SPACE = np.uint8(32)
_END = np.uint64(ASSIGNED)
_LOW = np.uint64(0x3F)
_NOT_ASCII = np.uint8(128)

# The parts of an entry of the table, as numbers of its own type.
_LETTER, _SEPARATOR, _DROPPED, _SPELLED, _UNKNOWN = (
    np.uint32(kind) for kind in (LETTER, SEPARATOR, DROPPED, SPELLED, UNKNOWN)
)
_KIND, _CLASS = np.uint32(KIND), np.uint32(255)
_IN_SPACELESS, _IS_MARK = np.uint32(IN_SPACELESS), np.uint32(IS_MARK)
_FIRST_CLASS, _LAST_CLASS = np.uint32(FIRST_CLASS), np.uint32(LAST_CLASS)


@compiled
def _read_block(
    data: Bytes,
    offsets: NDArray[np.uint64],
    ascii: Bytes,
    entries: NDArray[np.uint32],
    places: NDArray[np.uint32],
    spellings: Bytes,
    normal: Bytes,
    normal_bounds: Bounds,
    units: Hashes,
    unit_bounds: Bounds,
    ok: NDArray[np.bool_],
    characters: NDArray[np.int64],
) -> None:
    at = k = _0
    for row in range(len(ok)):
        begin, end = offsets[row], offsets[row + 1]
        count = 0
        for i in range(begin, end):
            count += (data[i] & np.uint8(0xC0)) != np.uint8(0x80)
        characters[row] = count
        normal_bounds[row, 0], unit_bounds[row, 0] = at, k
        at, k, ok[row] = _read_text(data, begin, end, ascii, entries, places, spellings, normal, at, units, k)
        normal_bounds[row, 1], unit_bounds[row, 1] = at, k
        for i in range(unit_bounds[row, 0], k):
            value = units[i]
            value ^= value >> _33
            value *= _MIX_1
            value ^= value >> _33
            value *= _MIX_2
            units[i] = value ^ (value >> _33)


@compiled
def _read_text(
    data: Bytes,
    begin: np.uint64,
    end: np.uint64,
    ascii: Bytes,
    entries: NDArray[np.uint32],
    places: NDArray[np.uint32],
    spellings: Bytes,
    normal: Bytes,
    start: np.uint64,
    units: Hashes,
    first: np.uint64,
) -> tuple[np.uint64, np.uint64, bool]:
    """(end of the normal form, end of the units, whether it could be read). Unit hashes are not finalised yet.

    `inside` is 1 after a letter, 0 after a separator; `lone` says that the open unit is a character of a script without
    spaces; `last` is the combining class of the character before.
    """
    at, k, value, inside, lone, last = start, first, _OFFSET, _0, False, np.uint32(0)
    i = begin
    while i < end:
        byte = data[i]
        if byte < _NOT_ASCII:
            # No branch: all is written down at every byte, and the places move on only where it was needed.
            letter = ascii[byte]
            normal[at], units[k] = letter, value
            is_letter = np.uint64(letter != _SPACE)
            value = (value ^ np.uint64(letter)) * _PRIME if is_letter else _OFFSET
            at += is_letter | inside
            k += inside & (is_letter ^ _1)
            inside = is_letter
            i += _1
            continue
        if i > begin and data[i - _1] < _NOT_ASCII:
            last = np.uint32(0)
        code, width = _decode(data, i, end)
        if width == _0 or code >= np.uint64(len(entries)):
            return start, first, False
        entry = entries[code]
        kind = entry & _KIND
        if kind == _UNKNOWN or _out_of_order(entry, last):
            return start, first, False
        if kind != _DROPPED:
            last = (entry >> _LAST_CLASS) & _CLASS
        if kind == _LETTER:
            at, k, value, inside, lone = _put(data, i, width, entry, normal, at, units, k, value, inside, lone)
        elif kind == _SEPARATOR:
            at, k, value, inside, lone = _part(normal, at, units, k, value, inside)
        elif kind == _SPELLED:
            place = np.uint64(places[code])
            at, k, value, inside, lone = _spell(
                spellings, place, entries, normal, at, units, k, value, inside, lone
            )  # fmt: skip
        i += width
        # The path above knows nothing of lone characters: a letter of it begins a unit of its own.
        if lone and i < end and data[i] < _NOT_ASCII:
            if ascii[data[i]] != _SPACE:
                units[k] = value
                k += _1
                value = _OFFSET
            lone = False
    if inside:
        units[k] = value
        k += _1
    elif at > start:
        at -= _1
    return at, k, True


@compiled
def _out_of_order(entry: np.uint32, last: np.uint32) -> bool:
    """Whether this mark would have to change places with the one before it."""
    class_ = (entry >> _FIRST_CLASS) & _CLASS
    return class_ != np.uint32(0) and last > class_


@compiled
def _part(
    normal: Bytes, at: np.uint64, units: Hashes, k: np.uint64, value: np.uint64, inside: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, bool]:
    """End the open unit, if there is one, with a space."""
    normal[at], units[k] = _SPACE, value
    return at + inside, k + inside, _OFFSET, _0, False


@compiled
def _spell(
    spellings: Bytes,
    place: np.uint64,
    entries: NDArray[np.uint32],
    normal: Bytes,
    at: np.uint64,
    units: Hashes,
    k: np.uint64,
    value: np.uint64,
    inside: np.uint64,
    lone: bool,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, bool]:
    """Write down what a character becomes that becomes others."""
    stop = place + np.uint64(spellings[place]) + _1
    place += _1
    while place < stop:
        if spellings[place] == _SPACE:
            at, k, value, inside, lone = _part(normal, at, units, k, value, inside)
            place += _1
        else:
            code, width = _decode(spellings, place, stop)
            at, k, value, inside, lone = _put(
                spellings, place, width, entries[code], normal, at, units, k, value, inside, lone
            )
            place += width
    return at, k, value, inside, lone


@compiled
def _put(
    source: Bytes,
    i: np.uint64,
    width: np.uint64,
    entry: np.uint32,
    normal: Bytes,
    at: np.uint64,
    units: Hashes,
    k: np.uint64,
    value: np.uint64,
    inside: np.uint64,
    lone: bool,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, bool]:
    """Write a letter down: it goes on with the open unit, or ends it and begins another."""
    if not (lone and (entry & _IS_MARK) != np.uint32(0)):
        spaceless = (entry & _IN_SPACELESS) != np.uint32(0)
        if inside and (lone or spaceless):
            units[k] = value
            k += _1
            value = _OFFSET
        lone = spaceless
    for j in range(i, i + width):
        normal[at] = source[j]
        value = (value ^ np.uint64(source[j])) * _PRIME
        at += _1
    return at, k, value, _1, lone


@compiled
def describe_units(
    normal: Bytes,
    bounds: Bounds,
    entries: NDArray[np.uint32],
    words: NDArray[np.uint32],
    sizes: NDArray[np.int32],
    lone: NDArray[np.bool_],
) -> np.uint64:
    """How many units normal forms have, having written down of each: fastText's hash of its bytes (FNV-1a of 32 bits,
    over signed characters), its characters, and whether it is of a script without spaces."""
    k = _0
    for row in range(len(bounds)):
        i, end = bounds[row, 0], bounds[row, 1]
        value, size, alone = _OFFSET_32, 0, False
        while i < end:
            byte = normal[i]
            if byte == _SPACE:
                words[k], sizes[k], lone[k] = np.uint32(value), size, alone
                k += _1
                value, size, alone = _OFFSET_32, 0, False
                i += _1
                continue
            code, width = np.uint64(byte), _1
            if byte >= _NOT_ASCII:
                code, width = _decode(normal, i, end)
            if alone or byte >= _NOT_ASCII:
                entry = entries[code] if width != _0 else np.uint32(0)
                if not (alone and (entry & _IS_MARK) != np.uint32(0)):
                    spaceless = (entry & _IN_SPACELESS) != np.uint32(0)
                    if size and (alone or spaceless):
                        words[k], sizes[k], lone[k] = np.uint32(value), size, alone
                        k += _1
                        value, size = _OFFSET_32, 0
                    alone = spaceless
            for j in range(i, i + width):
                value = _with_signed(value, normal[j])
            size += 1
            i += width
        if size:
            words[k], sizes[k], lone[k] = np.uint32(value), size, alone
            k += _1
    return k


@compiled
def _with_signed(value: np.uint64, byte: np.uint8) -> np.uint64:
    one = np.uint64(byte)
    return ((value ^ (one | _SIGN if byte >= _NOT_ASCII else one)) * _PRIME_32) & _LOW_32


@compiled
def _decode(data: Bytes, i: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """(place in the table, bytes) of the character at i; no bytes where there is no valid UTF-8 or no entry."""
    lead = np.uint64(data[i])
    if lead < np.uint64(0x80):
        return lead, _1
    width = _2 if lead < np.uint64(0xE0) else _3 if lead < np.uint64(0xF0) else _4
    if lead < np.uint64(0xC2) or lead > np.uint64(0xF4) or end - i < width:
        return _0, _0
    code = lead & (np.uint64(0x7F) >> width)
    for j in range(i + _1, i + width):
        if (data[j] & np.uint8(0xC0)) != np.uint8(0x80):
            return _0, _0
        code = (code << _6) | (np.uint64(data[j]) & _LOW)
    if (width == _3 and code < np.uint64(0x800)) or (width == _4 and code < np.uint64(0x10000)):
        return _0, _0
    if code >= np.uint64(0xE0000):
        code = code - np.uint64(0xE0000) + _END
    elif code >= _END:
        return _0, _0
    return code, width
