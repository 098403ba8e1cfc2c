"""Where an address or a number may stand: one compiled pass over the UTF-8 of a batch.

What it reports is a superset of what `tasks.pii.replace.find` accepts: a document without a candidate never becomes a
Python object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.text.compiled import compiled

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

# Kinds of candidate.
AT, NUMBER, COLONS = 0, 1, 2

_DIGIT, _SEPARATOR, _LOCAL, _DOMAIN, _HEX, _OPENING = 1, 2, 4, 8, 16, 32


def _table() -> Bytes:
    table = np.zeros(256, dtype=np.uint8)
    for text, flags in (
        ("0123456789", _DIGIT | _LOCAL | _DOMAIN | _HEX),
        ("abcdefABCDEF", _LOCAL | _DOMAIN | _HEX),
        ("ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ", _LOCAL | _DOMAIN),
        ("_%'", _LOCAL),
        ("+", _LOCAL | _OPENING),
        ("(", _SEPARATOR | _OPENING),
        (".-", _LOCAL | _DOMAIN | _SEPARATOR),
        (")/ ", _SEPARATOR),
    ):
        for character in text:
            table[ord(character)] |= flags
    table[128:] |= _LOCAL | _DOMAIN  # letters beyond ASCII; which of them may stand there is for the caller
    return table


CLASSES = _table()


@dataclass(frozen=True)
class Candidates:
    """Places in a string array of R rows, ordered by row, then as the scan met them.

    Attributes:
        row, kind: of each candidate; kinds are AT, NUMBER, COLONS.
        start, end: bytes of `data`, the array's UTF-8.
        offsets: (R + 1,) where each row begins in `data`.
    """

    row: Ints
    kind: Ints
    start: Ints
    end: Ints
    data: Bytes
    offsets: Ints


def scan(texts: pa.Array) -> Candidates:
    """The candidates of a string array without nulls."""
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        none = np.zeros(0, dtype=np.int64)
        return Candidates(none, none, none, none, np.zeros(0, dtype=np.uint8), np.zeros(len(texts) + 1, dtype=np.int64))
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    flat = np.frombuffer(data, dtype=np.uint8)
    # A candidate takes four bytes or more that no other of its kind has: three kinds fit in. Memory is taken as used.
    room = np.empty((4, int(ends[-1] - ends[0]) + 1), dtype=np.int64)
    row, kind, start, end = room[:, : _scan(flat, ends, CLASSES, room)].copy()
    return Candidates(row, kind, start, end, flat, ends)


# Limits of the scan: a telephone number has 7 digits or more, with 4 separators between two of them at most
# (+49 - (30) 1234567); an address reaches 256 bytes to either side of its @; an IPv6 address has 3 colons or more.
@compiled
def _wide(data: Bytes, i: int, end: int) -> int:
    """A character beyond ASCII that may stand in a number: its bytes, negative for a digit; 0 for none."""
    first = data[i]
    if first == 0xC2 and i + 1 < end and data[i + 1] == 0xA0:
        return 2  # no-break space
    if i + 2 >= end:
        return 0
    second, third = data[i + 1], data[i + 2]
    if first == 0xE2 and second == 0x80 and (0x80 <= third <= 0x8A or 0x90 <= third <= 0x95 or third == 0xAF):
        return 3  # spaces and dashes
    if first == 0xE2 and second == 0x88 and third == 0x92:
        return 3  # minus
    if first == 0xE3 and second == 0x80 and third == 0x80:
        return 3  # ideographic space
    if first == 0xEF and second == 0xBC:
        if 0x90 <= third <= 0x99:
            return -3  # full-width digits
        if third == 0x88 or third == 0x89 or third == 0x8B or third == 0x8D:
            return 3  # full-width ( ) + -
    return 0


@compiled
def _number_end(data: Bytes, classes: Bytes, start: int, end: int) -> tuple[int, int, int]:
    """(end of the run of digits and separators that begins at `start`, its digits, its full stops)."""
    i = last = start
    digits = stops = gap = 0
    while i < end:
        flags, size = classes[data[i]], 1
        if data[i] >= 128:
            size = _wide(data, i, end)
            if size == 0:
                break
            flags = np.uint8(2)
            if size < 0:
                size, flags = -size, np.uint8(1)
        if flags & 1:
            digits += 1
            gap = 0
            last = i + size
        elif flags & 2 or data[i] == 43:
            gap += 1
            if gap > 4:
                break
            if data[i] == 46:
                stops += 1
        else:
            break
        i += size
    return last, digits, stops


@compiled
def _scan(data: Bytes, offsets: Ints, classes: Bytes, found: Ints) -> int:
    """Fills `found` (4, any that is enough) with row, kind, start and end; returns how many."""
    count = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        i = begin
        colons_end = begin
        while i < end:
            byte = data[i]
            flags = classes[byte]
            kind, first, last, step = -1, i, i + 1, 1
            if byte == 64:
                stop = False
                while first > begin and i - first < 256 and classes[data[first - 1]] & 4:
                    first -= 1
                while last < end and last - i < 256 and classes[data[last]] & 8:
                    stop = stop or data[last] == 46
                    last += 1
                if first < i and last > i + 3 and stop:
                    kind = 0
            elif byte == 58 and i >= colons_end:
                colons = 1
                while first > begin and i - first < 64 and classes[data[first - 1]] & 16:
                    first -= 1
                while last < end and last - first < 64 and (classes[data[last]] & 16 or data[last] == 58):
                    colons += data[last] == 58
                    last += 1
                colons_end = last
                if colons >= 3:
                    kind = 2
            elif flags & 33 or (byte == 0xEF and _wide(data, i, end) != 0):
                last, digits, stops = _number_end(data, classes, i, end)
                if digits:
                    step = last - i
                if digits >= 7 or (stops >= 3 and digits >= 4):
                    kind = 1
            if kind >= 0:
                found[0, count], found[1, count] = row, kind
                found[2, count], found[3, count] = first, last
                count += 1
            i += step
    return count
