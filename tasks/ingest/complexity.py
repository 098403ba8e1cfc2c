"""HTML that no parser should be given: pages whose parsing costs time and memory out of proportion to their size.

A C or Rust parser cannot be interrupted from Python, so such pages are told from their tags before they are parsed, in
one pass over the page's bytes: 0.3 milliseconds a page of 87 kB, where regular expressions took 2.0.
Tags count wherever they stand, in comments and scripts too: whether those are left out depends on how exactly a parser
reads broken pages, and a flood could be hidden where the two differ.

The same pass says which of some words are classes in the page's tags: a selector whose class no tag has can find
nothing, and looking for one costs a walk over the page's elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tasks.text.compiled import compiled

Array = np.ndarray[Any, Any]

# HTML parsing and extraction take time quadratic in the nesting depth: 20,000 open elements took 10 s,
# 4,000 1.5 s (of a loaded core). Browsers stop nesting at 512.
MAX_DEPTH = 2_000
# Formatting elements that are never closed are opened again in every paragraph (HTML section 13.2.4.3): 1,900 of them
# took more than a minute of a loaded machine.
MAX_FORMATTING = 250
# Each attribute is compared with those before it, each option of a list with all others: 100,000 of either took more
# than a minute of a loaded machine.
MAX_ATTRIBUTES = 3_000
MAX_OPTIONS = 10_000
# What is linear must end too: 50,000 paragraphs took 1.4 s, a table of 150,000 elements 1.7 s and 75 MB.
MAX_ELEMENTS = 200_000
# Tags in which other tags begin are looked through from each: quadratic for `<a b="` a million times over. 781 real
# pages needed at most 3.1 times their bytes.
MOST_LOOKED_AT = 32  # times a page's bytes


def _codes(names: str) -> Array:
    """Names of elements of at most eight letters as the scan packs them: a byte a letter, the first one highest."""
    return np.array(sorted({int.from_bytes(name.encode()) for name in names.split()}), np.uint64)


# Void elements, and those whose end tag may be left out and which do not nest without it (HTML section 13.1.2).
_FLAT = _codes(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option optgroup "
    "tbody thead tfoot colgroup html head body rp rt"
)
_FORMATTING = _codes("a b big code em font i nobr s small strike strong tt u")
_OPTION = _codes("option")[0]

# Places in what the scan counts.
_ELEMENTS, _DEPTH, _OPEN, _OPTIONS, _ATTRIBUTES, _LOOKED_AT = range(6)

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a
_SIX = np.uint64(63)


class TooComplex(Exception):
    """The page is not worth what it would cost. `value` is what was found, `limit` what is allowed."""

    def __init__(self, what: str, value: int, limit: int) -> None:
        super().__init__(what)
        self.value, self.limit = value, limit


class Tags(NamedTuple):
    """What a look at a page's tags says beside that they are not too many.

    Attributes:
        classes: those words that may be classes, large or small; the others are none.
        lone_characters: whether some element holds nothing but a character of three bytes in UTF-8.
    """

    classes: frozenset[str]
    lone_characters: bool


def check_complexity(html: str, words: Sequence[str] = (), encoded: bytes | None = None) -> Tags:
    """Raise `TooComplex` for a page that no parser should be given.

    Args:
        words: in small letters.
        encoded: the page in UTF-8, where it is at hand.
    """
    data = np.frombuffer(html.encode("utf-8", "replace") if encoded is None else encoded, np.uint8)
    most = MOST_LOOKED_AT * max(len(data), 1 << 16)
    counts = np.zeros(6, np.int64)
    table = _words(tuple(words))
    met = np.zeros(len(words) + 1, np.bool_)
    lone = scan_tags(data, _FLAT, _FORMATTING, _OPTION, most, counts, table, met)
    for what, place, limit in (
        ("{} elements", _ELEMENTS, MAX_ELEMENTS),
        ("elements nest {} deep", _DEPTH, MAX_DEPTH),
        ("{} formatting elements are open at once", _OPEN, MAX_FORMATTING),
        ("{} options", _OPTIONS, MAX_OPTIONS),
        ("an element with {} attributes", _ATTRIBUTES, MAX_ATTRIBUTES),
        ("tags inside tags: {} bytes to look at", _LOOKED_AT, most),
    ):
        value = int(counts[place])
        if value > limit:
            raise TooComplex(what.format(value), value, limit)
    # Letters may be written as character references; then any word may be there.
    classes = frozenset(word for word, is_there in zip(words, met, strict=False) if is_there or met[-1])
    return Tags(classes, bool(lone))


@cache
def _words(words: tuple[str, ...]) -> Array:
    """The 64-bit FNV-1a hashes of words, behind a mask of their lowest six bits and one of the next six (uint64)."""
    hashes, low, high = [], 0, 0
    for word in words:
        value = int(_OFFSET)
        for byte in word.encode():
            value = (value ^ byte) * int(_PRIME) % (1 << 64)
        hashes.append(value)
        low, high = low | 1 << (value & 63), high | 1 << (value >> 6 & 63)
    return np.array([low, high, *hashes], np.uint64)


def nesting_depth(html: str) -> int:
    """How deep the tags of a page nest at most, estimated without parsing: opened and not yet closed."""
    counts = np.zeros(6, np.int64)
    data = np.frombuffer(html.encode("utf-8", "replace"), np.uint8)
    scan_tags(data, _FLAT, _FORMATTING, _OPTION, MOST_LOOKED_AT * len(data), counts, _words(()), np.zeros(1, np.bool_))
    return int(counts[_DEPTH])


@compiled
def scan_tags(
    data: Array, flat: Array, formatting: Array, option: np.uint64, most: int, counts: Array, words: Array, met: Array
) -> bool:
    """Count in UTF-8 `data`: elements, the depth of what nests, formatting elements open at once, options, attributes
    of one element (int64, in that order), and how many bytes of tags were looked at, which ends above `most`.
    Mark in `met` (bool) which of the words, given as by `_words`, are classes; at its end whether a class holds a
    character reference. Returns whether a character of three bytes stands alone between two tags.

    Attributes are read as a parser reads them (HTML section 13.2.5.32 and on): quoted values may hold `<` and `>`.
    """
    size, one = np.uint64(len(data)), np.uint64(1)  # unsigned, indices need no look for negative ones
    depth = is_open = 0
    looked_at: Any = 0
    lone = False
    at = np.uint64(0)
    while True:
        while at < size and data[at] != 60:  # <
            at += one
        if at >= size:
            break
        if data[at - one] > 127 and at > np.uint64(3) and data[at - np.uint64(4)] == 62:  # >
            lone = lone or data[at - np.uint64(3)] >= 0xE0
        at += one
        closing = at < size and data[at] == 47  # /
        if closing:
            at += one
        else:
            counts[0] += 1
        name = np.uint64(0)
        start = at
        while at < size:
            byte = data[at]
            lower = byte | 32
            if 97 <= lower <= 122:
                byte = lower
            elif at == start or not 48 <= byte <= 57:
                break
            name = (name << np.uint64(8)) | np.uint64(byte)
            at += one
        if at == start:
            continue
        if at - start > np.uint64(8):
            name = np.uint64(0)
        if not _holds(flat, name):
            depth = max(0, depth - 1) if closing else depth + 1
            counts[1] = max(counts[1], depth)
        # A tag that breaks off has no end: no element then.
        if at < size and (data[at] <= 32 or data[at] == 47 or data[at] == 62) and _holds(formatting, name):
            is_open = max(0, is_open - 1) if closing else is_open + 1
            counts[2] = max(counts[2], is_open)
        if name == option and not closing:
            counts[3] += 1
        if looked_at <= most:
            end, attributes, again, class_at, quote = _read_tag(data, at)
            if class_at < size:
                _find_words(data, class_at, quote, words, met)
            counts[4] = max(counts[4], attributes)
            looked_at += np.int64(end - at)
            at = again
    counts[5] = looked_at
    return lone


@compiled
def _holds(codes: Array, name: np.uint64) -> bool:
    for code in codes:  # noqa: SIM110 (numba)
        if code == name:
            return True
    return False


@compiled
def _read_tag(data: Array, at: np.uint64) -> tuple[np.uint64, int, np.uint64, np.uint64, int]:
    """(where the tag ends whose name ends at `at`, its attributes, the first `<` inside it or else its end, where its
    first class begins or the end of `data`, the quote in front of that or 0)."""
    size, one = np.uint64(len(data)), np.uint64(1)
    again = class_at = size
    attributes = 0
    class_quote: Any = 0
    is_class = False
    state = 0  # before a name, 2 behind a name, 3 before a value
    while at < size:
        byte = data[at]
        if byte == 62:  # >
            break
        if byte == 60 and again == size:
            again = at
        at += one
        if byte == 32 or 9 <= byte <= 13:
            continue
        if state == 3:
            is_quoted = byte == 34 or byte == 39
            if is_class and class_at == size:
                class_at, class_quote = at - np.uint64(not is_quoted), np.int64(byte) if is_quoted else 0
            state = 0
            while at < size:
                inside = data[at]
                if inside == 60 and again == size:
                    again = at
                if is_quoted:
                    at += one
                    if inside == byte:
                        break
                elif inside == 62 or inside == 32 or 9 <= inside <= 13:
                    break
                else:
                    at += one
        elif byte == 47:  # /
            state = 0
        elif byte == 61 and state != 0:  # =
            state = 3
        else:
            attributes += 1
            state = 2
            is_class = (byte | 32) == 99 and _is_class(data, at - one)
            while at < size:
                inside = data[at]
                if inside <= 62 and (inside >= 61 or inside == 47 or inside == 32 or 9 <= inside <= 13):
                    break
                if inside == 60 and again == size:
                    again = at
                at += one
    return at, attributes, at if again == size else again, class_at, class_quote


@compiled
def _is_class(data: Array, at: np.uint64) -> bool:
    """Whether the name `class`, large or small, stands at `at`."""
    if at + np.uint64(5) >= np.uint64(len(data)):
        return False
    for place, letter in ((1, 108), (2, 97), (3, 115), (4, 115)):
        if data[at + np.uint64(place)] | 32 != letter:
            return False
    behind = data[at + np.uint64(5)]
    return bool(behind <= 32 or behind == 61)


@compiled
def _find_words(data: Array, at: np.uint64, quote: int, words: Array, met: Array) -> None:
    """Mark the words of a class from `at` on: up to `quote`, or in a value without quotes (0)."""
    # The masks tell most words from those that are looked for.
    low, high, size, one = words[0], words[1], np.uint64(len(data)), np.uint64(1)
    value = _OFFSET
    while True:
        byte = data[at] if at < size else np.uint8(quote)
        if byte == quote or byte <= 32 or (quote == 0 and byte == 62):
            if (low >> (value & _SIX)) & (high >> ((value >> np.uint64(6)) & _SIX)) & one:
                for place in range(2, len(words)):
                    if words[place] == value:
                        met[place - 2] = True
            value = _OFFSET
            if at >= size or byte == quote or (quote == 0 and (byte <= 32 or byte == 62)):
                return
        else:
            # What stands for a letter is a number; `&Tab;` and `&NewLine;` are white space.
            if byte == 38 and at + one < size:  # &
                behind = data[at + one]
                if behind == 35 or behind == 84 or behind == 78:  # # T N
                    met[-1] = True
            value = (value ^ np.uint64(byte | 32 if 65 <= byte <= 90 else byte)) * _PRIME
        at += one
