"""`normalise` as a table of code points, for compiled loops: what each character becomes, whatever stands beside it.

A character's normal form depends on its neighbours only through Unicode's composition and reordering of marks (UAX 15).
Where the decomposition of a character begins with a starter that composes with nothing before it, normalisation has a
boundary before it (UAX 15, section 9), so the normal form of a text of such characters is that of its characters, one
after the other. The same holds for a mark that composes with nothing, as long as marks already stand in canonical
order. The table says which characters these are; a text that holds another is left to `normalise` itself.

The table is made by calling `normalise`'s own parts on every character, so it follows the running Python's Unicode.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from tasks.text import normalise as normal
from tasks.text.segment import SPACELESS

# What becomes of a character: three bits of its entry.
LETTER, SEPARATOR, DROPPED, SPELLED, UNKNOWN = range(5)  # unchanged | space | nothing | other characters | ask Python
KIND = 0b111
IN_SPACELESS, IS_MARK = 1 << 3, 1 << 4  # of a script without spaces; a combining mark of the basic plane
FIRST_CLASS, LAST_CLASS = 5, 13  # where the canonical combining classes stand, eight bits each

ASSIGNED = 0x33480  # no letter is assigned between this plane's end and plane 14
TAGS, TAGS_END = 0xE0000, 0xE0200  # plane 14: tags and selectors, kept behind the others in the table
LARGEST_GROWTH = 4  # UTF-8 bytes out for one in; the few characters above (U+FDFA gives 33 for 3) are UNKNOWN

_BLOCK = 64

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Folding:
    """`entries[c]`: kind, flags and combining classes of code point c (plane 14 begins at `ASSIGNED`).

    `spellings[places[c]]` is the number of UTF-8 bytes of what a SPELLED character becomes, which follow it: separators
    as spaces, not yet collapsed. `ascii[c]` is the lower-case letter, the digit or a space for c < 128.
    """

    ascii: Bytes
    entries: NDArray[np.uint32]
    places: NDArray[np.uint32]
    spellings: Bytes


@cache
def folding() -> Folding:
    """The table, made on first use."""
    entries = np.full(ASSIGNED + TAGS_END - TAGS, UNKNOWN, dtype=np.uint32)
    places = np.zeros(len(entries), dtype=np.uint32)
    spellings = bytearray()
    characters = []
    for start in (code for code in range(0, ASSIGNED, _BLOCK) if not 0xD800 <= code < 0xE000):
        block = [chr(code) for code in range(start, start + _BLOCK)]
        if (kind := _kind_of_all("".join(block))) is not None:
            entries[start : start + _BLOCK] = kind
        else:
            characters += block
    characters += [chr(code) for code in range(TAGS, TAGS_END)]
    every = zip(characters, _fold_each(characters), _classes(characters), strict=True)
    for character, folded, classes in every:
        place = ord(character) if ord(character) < ASSIGNED else ord(character) - TAGS + ASSIGNED
        kind = _kind(character, folded)
        spelling = folded.encode() if kind == SPELLED else b""
        if (classes is None and kind != DROPPED) or len(spelling) > LARGEST_GROWTH * len(character.encode()):
            kind = UNKNOWN
        elif spelling:
            places[place] = len(spellings)
            spellings += bytes([len(spelling)]) + spelling
        entries[place] = kind | (classes or 0)
    for flag, ranges in ((IN_SPACELESS, SPACELESS), (IS_MARK, normal.split_planes(normal.marks())[0])):
        for first, last in ranges:
            entries[first : min(last + 1, ASSIGNED)] |= np.uint32(flag)
    ascii = [ord(normal.normalise(chr(code)) or " ") for code in range(128)]
    return Folding(np.array(ascii, dtype=np.uint8), entries, places, np.frombuffer(bytes(spellings), dtype=np.uint8))


def _kind_of_all(block: str) -> int | None:
    """LETTER or SEPARATOR if all characters are that and change nothing (most are ideographs or unassigned)."""
    if normal.fold(block) != block or unicodedata.normalize("NFKD", block) != block:
        return None
    if block.isalnum() and _composing_seconds().isdisjoint(block):
        return LETTER
    return SEPARATOR if normal.separators().sub(" ", block) == " " else None


def _kind(character: str, folded: str) -> int:
    if normal.ignorable().fullmatch(character):
        return DROPPED
    if folded.isspace():
        return SEPARATOR
    return LETTER if folded == character else SPELLED


def _fold_each(characters: list[str]) -> list[str]:
    """What `normalise` makes of each character, separators as spaces and not collapsed.

    All are folded at once, with line ends between them: a line end composes with nothing.
    """
    separators, found = normal.separators(), []
    for character, folded in zip(characters, _each(normal.fold, characters), strict=True):
        found.append(folded if folded == character and folded.isalnum() else separators.sub(" ", folded))
    return found


def _each(function: Callable[[str], str], characters: list[str]) -> list[str]:
    found = function("\n".join(characters[:10] + characters[11:])).split("\n")
    return [*found[:10], " ", *found[10:]]


def _classes(characters: list[str]) -> Iterator[int | None]:
    """The combining classes that neighbours must respect, as bits of an entry; None if neighbours change the character.

    A character is normalised twice, before and after case folding, and both must be independent of what precedes it.
    """
    combining, seconds = unicodedata.combining, _composing_seconds()
    decomposed = _each(partial(unicodedata.normalize, "NFKD"), characters)
    folded = _each(lambda text: unicodedata.normalize("NFKC", text).casefold(), characters)
    again = _each(
        lambda text: unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold()), characters
    )
    for character, before, cased, after in zip(characters, decomposed, folded, again, strict=True):
        last = max(combining(before[-1]), combining(after[-1]))
        if not (combining(before[0]) or combining(after[0]) or before[0] in seconds or after[0] in seconds):
            yield last << LAST_CLASS
        elif before == cased == character and character not in seconds:
            yield last << FIRST_CLASS | last << LAST_CLASS
        else:
            yield None


@cache
def _composing_seconds() -> frozenset[str]:
    """Characters that can compose with one before them: the second halves of all primary composites, and jamo."""
    found = {chr(code) for code in [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]}
    for code in range(0xC0, 0x20000):
        halves = unicodedata.decomposition(chr(code)).split()
        if len(halves) == 2 and halves[0][0] != "<":
            found.add(chr(int(halves[1], 16)))
    return frozenset(found)
