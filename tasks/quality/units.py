"""The units of many texts at once, as hashes and sizes, straight from Arrow's UTF-8 buffers.

The same units as `tasks.text.segment.units` gives, without a Python object a word: a table says for every code point
what it folds to and whether it parts words. Where folding depends on neighbours (marks that compose with the letter
before them, or that would have to be put in order), the text is normalised by `tasks.text` and scanned again.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.text.compiled import compiled
from tasks.text.normalise import fold, marks, normalise
from tasks.text.segment import SPACELESS, spaced

# What a code point is to a scan. A mark goes with the letter before it; a spaceless letter is a unit by itself.
SEPARATOR, WORD, LONE, MARK, LONE_MARK, IGNORED, SEVERAL, HARD = range(8)
KIND = np.uint8(15)
REORDERS = np.uint8(16)  # a mark of a non-zero combining class: two of them in a row may have to change places

# Above are rare ideographs, tags and private use: texts with one go the slow way.
CODES = 0x20000

_OFFSET_64, _PRIME_64 = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_OFFSET_32, _PRIME_32, _LOW_32 = np.uint64(2166136261), np.uint64(16777619), np.uint64(0xFFFFFFFF)
_SIGN = np.uint64(0xFFFFFF00)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


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


def text_buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of a string array and where each text starts in them (N + 1 offsets); a null is an empty text.

    The bytes are a view of Arrow's own buffer.
    """
    if texts.null_count:
        texts = texts.fill_null("")
    wide = pa.types.is_large_string(texts.type)
    offsets = np.frombuffer(texts.buffers()[1] or b"", dtype=np.int64 if wide else np.int32)
    starts = offsets[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = texts.buffers()[2]
    return np.frombuffer(data if data is not None else b"", dtype=np.uint8), starts if len(texts) else np.zeros(1, "i8")


def units_of(texts: pa.Array) -> Units:
    """The units of every text of a string array, in order."""
    found, hard = _scanned(texts)
    if not hard.any():
        return found
    slow = [spaced(normalise(text)) for text in texts.filter(pa.array(hard)).to_pylist()]
    # A normalised text is ASCII spaces and units: it is scanned once more with every character standing for itself.
    plain = _hashed([text.encode("utf8") for text in slow])
    return _merged(found, plain, np.flatnonzero(hard))


def _scanned(texts: pa.Array) -> tuple[Units, NDArray[np.bool_]]:
    table = _table()
    data, starts = text_buffers(texts)
    ends, hashes, words, sizes, lone, hard = _scan(data, starts, *table)
    return Units(ends, hashes, words, sizes, lone), hard


def _hashed(texts: list[bytes]) -> Units:
    """The units of texts whose units stand between single spaces."""
    data = np.frombuffer(b" ".join(texts), dtype=np.uint8)
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)]).astype(np.int64)
    ends, hashes, words, sizes, first = _split(data, starts)
    low, high = (np.array(part, dtype=np.int64).T for part in zip(*SPACELESS, strict=True))
    place = np.searchsorted(low, first, side="right") - 1
    lone = (place >= 0) & (first <= high[place])
    return Units(ends, hashes, words, sizes, lone)


def _merged(whole: Units, parts: Units, rows: NDArray[np.int64]) -> Units:
    """`whole`, in which the texts `rows` have no units, with those of `parts` in their place."""
    counts = np.diff(whole.starts)
    counts[rows] = np.diff(parts.starts)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    from_parts = np.zeros(len(counts), dtype=np.bool_)
    from_parts[rows] = True
    chosen = np.repeat(from_parts, counts)

    def woven(name: str) -> NDArray[np.generic]:
        a, b = getattr(whole, name), getattr(parts, name)
        out = np.empty(len(chosen), dtype=a.dtype)
        out[~chosen], out[chosen] = a, b
        return out

    return Units(starts, *(woven(name) for name in ("hashes", "words", "sizes", "lone")))  # type: ignore[arg-type]


Table = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]


@cache
def _table() -> Table:
    """By code point: its kind, what it folds to (a code point, or the number of an expansion); by expansion: where it
    starts; the expansions' code points and their kinds."""
    base = np.full(CODES, HARD, dtype=np.uint8)  # of what is already folded
    mark, lone = _members(marks()), _members(SPACELESS)
    for code in range(CODES):
        character = chr(code)
        if not mark[code] and (character == "_" or not character.isalnum()):
            base[code] = SEPARATOR
        elif lone[code]:
            # A mark above the basic plane does not join a unit of a script without spaces (tasks.text.segment).
            base[code] = LONE_MARK if mark[code] and code < 0x10000 else LONE
        elif mark[code]:
            base[code] = MARK if code < 0x10000 else HARD
        else:
            base[code] = WORD
    seconds = _composing()
    kinds, folds = base.copy(), np.arange(CODES, dtype=np.int32)
    starts, codes = [0], list[int]()
    for code in range(0x80, CODES):
        character = chr(code)
        # Nine tenths are separators or letters without case that fold to themselves; Hangul's parts compose.
        if base[code] in (SEPARATOR, WORD, LONE) and character not in seconds and _unchanged(character):
            continue
        folded = "" if 0xD800 <= code < 0xE000 else fold(character)
        opening = unicodedata.normalize("NFKD", character)[0]
        if opening in seconds or any(ord(c) >= CODES for c in folded):
            kinds[code] = HARD
        elif folded == "":
            kinds[code] = IGNORED
        elif unicodedata.combining(opening):
            kinds[code] = base[code] | REORDERS if folded == character else HARD
        elif len(folded) == 1:
            folds[code], kinds[code] = ord(folded), base[ord(folded)]
        else:
            kinds[code], folds[code] = SEVERAL, len(starts) - 1
            codes.extend(map(ord, folded))
            starts.append(len(codes))
            # U+037A's mark folds to a letter, after it has changed places with marks that follow.
            last = unicodedata.normalize("NFKC", character)[-1]
            if any(base[ord(c)] == HARD for c in folded) or (unicodedata.combining(last) and last != folded[-1]):
                kinds[code] = HARD
            elif unicodedata.combining(folded[-1]):
                kinds[code] |= REORDERS
    for code in range(0x80):
        folds[code] = ord(chr(code).lower())
    several = np.array(codes, dtype=np.int32)
    return kinds, folds, np.array(starts, dtype=np.int64), several, base[several]


def _unchanged(character: str) -> bool:
    kept = unicodedata.category(character) in ("Lo", "So", "Co", "Cn") and unicodedata.combining(character) == 0
    return kept and character.casefold() == character and unicodedata.is_normalized("NFKC", character)


def _members(ranges: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    found = np.zeros(CODES, dtype=np.bool_)
    for first, last in ranges:
        found[first : last + 1] = True
    return found


def _composing() -> set[str]:
    """The characters that canonical composition can join to the one before them (Unicode 3.11), Hangul's included."""
    found = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in range(0xA0, CODES):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return found


@compiled
def _scan(data: Any, starts: Any, kinds: Any, folds: Any, several_starts: Any, several: Any, several_kinds: Any) -> Any:
    """Units of all texts. A text that needs the slow way is marked in the last array, and has no units here."""
    documents = len(starts) - 1
    ends = np.zeros(documents + 1, dtype=np.int64)
    hard = np.zeros(documents, dtype=np.bool_)
    # Text as it stands has at most a unit a byte; one that spells out more (ligatures of Japanese units) is hard.
    room = starts[documents] - starts[0] + documents + 1
    hashes = np.empty(room, dtype=np.uint64)
    words = np.empty(room, dtype=np.uint32)
    sizes = np.empty(room, dtype=np.int32)
    lone = np.empty(room, dtype=np.bool_)
    used = 0
    for document in range(documents):
        begin, end = starts[document], starts[document + 1]
        at = begin
        first = used
        state = SEPARATOR  # of the unit that is open: WORD, LONE or none
        h64, h32, size = _OFFSET_64, _OFFSET_32, 0
        reordered = False
        while at < end:
            byte = data[at]
            if byte < 0x80:
                at += 1
                reordered = False
                if kinds[byte] == WORD:
                    if state == LONE:
                        hashes[used], words[used], sizes[used], lone[used] = _finished(h64), np.uint32(h32), size, True
                        used += 1
                        h64, h32, size = _OFFSET_64, _OFFSET_32, 0
                    state = WORD
                    size += 1
                    one = np.uint64(folds[byte])
                    h64, h32 = (h64 ^ one) * _PRIME_64, ((h32 ^ one) * _PRIME_32) & _LOW_32
                elif state != SEPARATOR:
                    hashes[used], words[used] = _finished(h64), np.uint32(h32)
                    sizes[used], lone[used] = size, state == LONE
                    used += 1
                    h64, h32, size = _OFFSET_64, _OFFSET_32, 0
                    state = SEPARATOR
                continue
            if byte < 0xE0:
                code = (np.int64(byte & 0x1F) << 6) | np.int64(data[at + 1] & 0x3F)
                at += 2
            elif byte < 0xF0:
                code = (
                    (np.int64(byte & 0x0F) << 12) | (np.int64(data[at + 1] & 0x3F) << 6) | np.int64(data[at + 2] & 0x3F)
                )
                at += 3
            else:
                code = (
                    (np.int64(byte & 0x07) << 18)
                    | (np.int64(data[at + 1] & 0x3F) << 12)
                    | (np.int64(data[at + 2] & 0x3F) << 6)
                    | np.int64(data[at + 3] & 0x3F)
                )
                at += 4
            entry = kinds[code] if code < len(kinds) else np.uint8(HARD)
            kind = entry & KIND
            if kind == IGNORED:
                continue
            if kind == HARD or (reordered and entry & REORDERS):
                hard[document] = True
                break
            reordered = entry & REORDERS != 0
            piece, pieces = 0, 1
            if kind == SEVERAL:
                piece, pieces = several_starts[folds[code]], several_starts[folds[code] + 1]
                if used - first + pieces - piece > at - begin:
                    hard[document] = True
                    break
            while piece < pieces:
                if kind == SEVERAL:
                    letter = np.int64(several[piece])
                    this = several_kinds[piece]
                else:
                    letter, this = np.int64(folds[code]), kind
                piece += 1
                if this in (MARK, LONE_MARK):
                    joins = state == LONE or (state == WORD and this == MARK)
                else:
                    joins = state == WORD and this == WORD
                if not joins:
                    if state != SEPARATOR:
                        hashes[used], words[used] = _finished(h64), np.uint32(h32)
                        sizes[used], lone[used] = size, state == LONE
                        used += 1
                        h64, h32, size = _OFFSET_64, _OFFSET_32, 0
                    state = LONE if this in (LONE, LONE_MARK) else WORD
                    if this == SEPARATOR:
                        state = SEPARATOR
                        continue
                size += 1
                if letter < 0x80:
                    h64, h32 = _add(h64, h32, letter)
                elif letter < 0x800:
                    h64, h32 = _add(h64, h32, 0xC0 | (letter >> 6))
                    h64, h32 = _add(h64, h32, 0x80 | (letter & 0x3F))
                elif letter < 0x10000:
                    h64, h32 = _add(h64, h32, 0xE0 | (letter >> 12))
                    h64, h32 = _add(h64, h32, 0x80 | ((letter >> 6) & 0x3F))
                    h64, h32 = _add(h64, h32, 0x80 | (letter & 0x3F))
                else:
                    h64, h32 = _add(h64, h32, 0xF0 | (letter >> 18))
                    h64, h32 = _add(h64, h32, 0x80 | ((letter >> 12) & 0x3F))
                    h64, h32 = _add(h64, h32, 0x80 | ((letter >> 6) & 0x3F))
                    h64, h32 = _add(h64, h32, 0x80 | (letter & 0x3F))
        if hard[document]:
            used = first
        elif state != SEPARATOR:
            hashes[used], words[used] = _finished(h64), np.uint32(h32)
            sizes[used], lone[used] = size, state == LONE
            used += 1
        ends[document + 1] = used
    return ends, hashes[:used], words[:used], sizes[:used], lone[:used], hard


@compiled
def _split(data: Any, starts: Any) -> Any:
    """Units between single spaces, with the first code point of each; texts end one byte before the next starts."""
    documents = len(starts) - 1
    ends = np.zeros(documents + 1, dtype=np.int64)
    room = len(data) // 2 + documents + 1
    hashes = np.empty(room, dtype=np.uint64)
    words = np.empty(room, dtype=np.uint32)
    sizes = np.empty(room, dtype=np.int32)
    first = np.empty(room, dtype=np.int64)
    used = 0
    for document in range(documents):
        h64, h32, size = _OFFSET_64, _OFFSET_32, 0
        for at in range(starts[document], starts[document + 1]):
            byte = np.int64(data[at]) if at + 1 < starts[document + 1] else np.int64(0x20)
            if byte != 0x20:
                if size == 0:
                    more = 0 if byte < 0x80 else 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
                    code = byte if more == 0 else byte & (0x3F >> more)
                    for follow in range(1, more + 1):
                        code = (code << 6) | np.int64(data[at + follow] & 0x3F)
                    first[used] = code
                if byte & 0xC0 != 0x80:
                    size += 1
                h64, h32 = _add(h64, h32, byte)
            elif size:
                hashes[used], words[used], sizes[used] = _finished(h64), np.uint32(h32), size
                used += 1
                h64, h32, size = _OFFSET_64, _OFFSET_32, 0
        ends[document + 1] = used
    return ends, hashes[:used], words[:used], sizes[:used], first[:used]


@compiled
def _add(h64: Any, h32: Any, byte: Any) -> Any:
    one = np.uint64(byte)
    signed = one | _SIGN if byte >= 0x80 else one
    return (h64 ^ one) * _PRIME_64, ((h32 ^ signed) * _PRIME_32) & _LOW_32


@compiled
def _finished(value: Any) -> Any:
    value ^= value >> _SHIFT
    value *= _MIX_1
    value ^= value >> _SHIFT
    value *= _MIX_2
    return value ^ (value >> _SHIFT)
