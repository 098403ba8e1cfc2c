"""The compiled loops that read texts from UTF-8: `read_block` for `tasks.text.batches`, `scan_units` for units alone.

Both fold by the table of `tasks.text.folding`. They stand in one file because Numba compiles again only for changes of
the file of the function that is called.
"""

from __future__ import annotations

import numpy as np
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
)

Hashes = NDArray[np.uint64]
Entries = NDArray[np.uint32]
Bounds = NDArray[np.uint64]  # (rows, 2): where each row begins and ends in another array

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

# The parts of an entry of the table, unsigned as all numbers here.
_LETTER, _SEPARATOR, _DROPPED, _SPELLED, _UNKNOWN = (
    np.uint64(kind) for kind in (LETTER, SEPARATOR, DROPPED, SPELLED, UNKNOWN)
)
_KIND, _CLASS = np.uint64(KIND), np.uint64(255)
_IN_SPACELESS, _IS_MARK = np.uint64(IN_SPACELESS), np.uint64(IS_MARK)
_FIRST_CLASS, _LAST_CLASS = np.uint64(FIRST_CLASS), np.uint64(LAST_CLASS)


@compiled
def read_block(
    data: Bytes, offsets: NDArray[np.uint64],
    ascii: Bytes, entries: Entries, places: Entries, spellings: Bytes,
    normal: Bytes, normal_bounds: Bounds, units: Hashes, unit_bounds: Bounds,
    ok: NDArray[np.bool_], characters: NDArray[np.int64],
) -> None:  # fmt: skip
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
            units[i] = _finished(units[i])


@compiled
def _finished(value: np.uint64) -> np.uint64:
    """MurmurHash3's finaliser."""
    value ^= value >> _33
    value *= _MIX_1
    value ^= value >> _33
    value *= _MIX_2
    return value ^ (value >> _33)


@compiled
def _read_text(
    data: Bytes, begin: np.uint64, end: np.uint64,
    ascii: Bytes, entries: Entries, places: Entries, spellings: Bytes,
    normal: Bytes, start: np.uint64, units: Hashes, first: np.uint64,
) -> tuple[np.uint64, np.uint64, bool]:  # fmt: skip
    """(end of the normal form, end of the units, whether it could be read). Unit hashes are not finalised yet.

    `inside` is 1 after a letter, 0 after a separator; `lone` says that the open unit is a character of a script without
    spaces; `last` is the combining class of the character before.
    """
    at, k, value, inside, lone, last = start, first, _OFFSET, _0, False, _0
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
            last = _0
        code, width = _decode(data, i, end)
        if width == _0 or code >= np.uint64(len(entries)):
            return start, first, False
        entry = entries[code]
        kind, last = _kind_here(entry, last)
        if kind == _LETTER:
            ends, lone = _ends_unit(entry, inside, lone)
            if ends:
                units[k] = value
                k += _1
                value = _OFFSET
            for j in range(i, i + width):
                normal[at] = data[j]
                value = (value ^ np.uint64(data[j])) * _PRIME
                at += _1
            inside = _1
        elif kind == _SEPARATOR:
            at, k, value, inside, lone = _part(normal, at, units, k, value, inside)
        elif kind == _SPELLED:
            at, k, value, inside, lone = _spell(
                spellings, np.uint64(places[code]), entries, normal, at, units, k, value, inside, lone
            )  # fmt: skip
        elif kind == _UNKNOWN:
            return start, first, False
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
def _kind_here(entry: np.uint32, last: np.uint64) -> tuple[np.uint64, np.uint64]:
    """(kind, combining class) of a character behind one of the combining class `last`; a mark that would have to change
    places with that one is UNKNOWN."""
    kind, class_ = entry & _KIND, (entry >> _FIRST_CLASS) & _CLASS
    if kind == _DROPPED:
        return kind, last
    return _UNKNOWN if class_ != _0 and last > class_ else kind, (entry >> _LAST_CLASS) & _CLASS


@compiled
def _ends_unit(entry: np.uint32, inside: np.uint64, lone: bool) -> tuple[bool, bool]:
    """(whether the open unit ends before this letter, whether the letter's unit is a lone one)."""
    if lone and (entry & _IS_MARK) != _0:
        return False, True
    spaceless = (entry & _IN_SPACELESS) != _0
    return inside != _0 and (lone or spaceless), spaceless


@compiled
def _part(
    normal: Bytes, at: np.uint64, units: Hashes, k: np.uint64, value: np.uint64, inside: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, bool]:
    """End the open unit, if there is one, with a space."""
    normal[at], units[k] = _SPACE, value
    return at + inside, k + inside, _OFFSET, _0, False


@compiled
def _spell(
    spellings: Bytes, place: np.uint64, entries: Entries, normal: Bytes, at: np.uint64, units: Hashes, k: np.uint64,
    value: np.uint64, inside: np.uint64, lone: bool,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, bool]:  # fmt: skip
    """Write down what a character becomes that becomes others."""
    stop = place + np.uint64(spellings[place]) + _1
    place += _1
    while place < stop:
        if spellings[place] == _SPACE:
            at, k, value, inside, lone = _part(normal, at, units, k, value, inside)
            place += _1
            continue
        code, width = _decode(spellings, place, stop)
        ends, lone = _ends_unit(entries[code], inside, lone)
        if ends:
            units[k] = value
            k += _1
            value = _OFFSET
        for j in range(place, place + width):
            normal[at] = spellings[j]
            value = (value ^ np.uint64(spellings[j])) * _PRIME
            at += _1
        inside = _1
        place += width
    return at, k, value, inside, lone


@compiled
def scan_units(
    data: Bytes, offsets: NDArray[np.uint64], ascii: Bytes, entries: Entries, places: Entries, spellings: Bytes
) -> tuple[
    NDArray[np.int64], Hashes, NDArray[np.uint32], NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]
]:  # fmt: skip
    """Of N texts: the end of each one's units (N + 1), then of each unit the hash, fastText's hash, the characters, and
    whether it is of a script without spaces; then whether each text could be read. One that could not has no units."""
    texts = len(offsets) - 1
    ends, ok = np.zeros(texts + 1, dtype=np.int64), np.ones(texts, dtype=np.bool_)
    # Between two units stands a byte, or one of them has two.
    room = LARGEST_GROWTH * (offsets[texts] - offsets[0]) // 2 + texts + 1
    hashes, words = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint32)
    sizes, lones = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.bool_)
    k = _0
    for text in range(texts):
        begin, end = offsets[text], offsets[text + 1]
        k, ok[text] = _scan_text(
            data, begin, end, ascii, entries, places, spellings, hashes, words, sizes, lones, k
        )  # fmt: skip
        ends[text + 1] = k
    return ends, hashes[:k], words[:k], sizes[:k], lones[:k], ok


@compiled
def _scan_text(
    data: Bytes, begin: np.uint64, end: np.uint64,
    ascii: Bytes, entries: Entries, places: Entries, spellings: Bytes,
    hashes: Hashes, words: Entries, sizes: NDArray[np.int32], lones: NDArray[np.bool_], first: np.uint64,
) -> tuple[np.uint64, bool]:  # fmt: skip
    """(end of the units, whether the text could be read). `size` characters of a unit are open."""
    k, value, word, size, lone, last = first, _OFFSET, _OFFSET_32, _0, False, _0
    i = begin
    while i < end:
        byte = data[i]
        if byte < _NOT_ASCII:
            letter = ascii[byte]
            if lone or (size and letter == _SPACE):
                k = _close(hashes, words, sizes, lones, k, value, word, size, lone)
                value, word, size, lone = _OFFSET, _OFFSET_32, _0, False
            if letter != _SPACE:
                value, word = _add(value, word, letter)
                size += _1
            last = _0
            i += _1
            continue
        code, width = _decode(data, i, end)
        if width == _0 or code >= np.uint64(len(entries)):
            return first, False
        entry = entries[code]
        kind, last = _kind_here(entry, last)
        if kind == _LETTER:
            ends, now_lone = _ends_unit(entry, size, lone)
            if ends:
                k = _close(hashes, words, sizes, lones, k, value, word, size, lone)
                value, word, size = _OFFSET, _OFFSET_32, _0
            lone = now_lone
            for j in range(i, i + width):
                value, word = _add(value, word, data[j])
            size += _1
        elif kind == _SEPARATOR:
            if size:
                k = _close(hashes, words, sizes, lones, k, value, word, size, lone)
                value, word, size, lone = _OFFSET, _OFFSET_32, _0, False
        elif kind == _SPELLED:
            k, value, word, size, lone = _scan_spelling(
                spellings, np.uint64(places[code]), entries, hashes, words, sizes, lones, k, value, word, size, lone
            )  # fmt: skip
        elif kind == _UNKNOWN:
            return first, False
        i += width
    if size:
        k = _close(hashes, words, sizes, lones, k, value, word, size, lone)
    return k, True


@compiled
def _scan_spelling(
    spellings: Bytes, place: np.uint64, entries: Entries,
    hashes: Hashes, words: Entries, sizes: NDArray[np.int32], lones: NDArray[np.bool_], k: np.uint64,
    value: np.uint64, word: np.uint64, size: np.uint64, lone: bool,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, bool]:  # fmt: skip
    """Go on with what a character becomes that becomes others."""
    stop = place + np.uint64(spellings[place]) + _1
    place += _1
    while place < stop:
        space = spellings[place] == _SPACE
        code, width = _decode(spellings, place, stop)
        ends, now_lone = (size != _0, False) if space else _ends_unit(entries[code], size, lone)
        if ends:
            k = _close(hashes, words, sizes, lones, k, value, word, size, lone)
            value, word, size = _OFFSET, _OFFSET_32, _0
        lone = now_lone
        if not space:
            for j in range(place, place + width):
                value, word = _add(value, word, spellings[j])
            size += _1
        place += width
    return k, value, word, size, lone


@compiled
def _close(
    hashes: Hashes, words: Entries, sizes: NDArray[np.int32], lones: NDArray[np.bool_], k: np.uint64,
    value: np.uint64, word: np.uint64, size: np.uint64, lone: bool,
) -> np.uint64:  # fmt: skip
    """Write the open unit down."""
    hashes[k], words[k], sizes[k], lones[k] = _finished(value), np.uint32(word), np.int32(size), lone
    return k + _1


@compiled
def _add(value: np.uint64, word: np.uint64, byte: np.uint8) -> tuple[np.uint64, np.uint64]:
    """Both hashes with another byte; fastText's takes it as a signed one."""
    one = np.uint64(byte)
    signed = one | _SIGN if byte >= _NOT_ASCII else one
    return (value ^ one) * _PRIME, ((word ^ signed) * _PRIME_32) & _LOW_32


@compiled
def _decode(data: Bytes, i: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """(place in the table, bytes) of the character at i; no bytes where there is no valid UTF-8 or no entry."""
    lead = np.uint64(data[i])
    if lead < np.uint64(0x80):
        return lead, _1
    width = _2 if lead < np.uint64(0xE0) else _3 if lead < np.uint64(0xF0) else _4
    if lead < np.uint64(0xC2) or lead > np.uint64(0xF4) or end - i < width:
        return _0, _0
    # Spelt out: as a loop over the bytes that follow it takes twice as long.
    code, follows = (lead & (np.uint64(0x7F) >> width)) << _6 | _low(data[i + _1]), _follows(data[i + _1])
    if width > _2:
        code, follows = code << _6 | _low(data[i + _2]), follows and _follows(data[i + _2])
    if width > _3:
        code, follows = code << _6 | _low(data[i + _3]), follows and _follows(data[i + _3])
    if not follows or (width == _3 and code < np.uint64(0x800)) or (width == _4 and code < np.uint64(0x10000)):
        return _0, _0
    if code >= np.uint64(0xE0000):
        code = code - np.uint64(0xE0000) + _END
    elif code >= _END:
        return _0, _0
    return code, width


@compiled
def _low(byte: np.uint8) -> np.uint64:
    return np.uint64(byte) & _LOW


@compiled
def _follows(byte: np.uint8) -> bool:
    return bool((byte & np.uint8(0xC0)) == np.uint8(0x80))
