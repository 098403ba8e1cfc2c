"""The normal form in which texts are compared: what differs only in case, width, punctuation or spacing is equal.

Following Unicode's toNFKC_Casefold (Unicode 3.13) and, for punctuation and spacing, what FineWeb's and CCNet's
deduplication do. Character classes are those of the running Python's `unicodedata`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import chain

_ASCII = str.maketrans({chr(code): chr(code).lower() if chr(code).isalnum() else " " for code in range(128)})


def normalise(text: str) -> str:
    """The text folded (`fold`), with everything that is no letter, mark or number turned into single spaces.

    Empty when the text has no letter and no number.
    """
    if text.isascii():
        return " ".join(text.translate(_ASCII).split())
    return " ".join(separators().sub(" ", fold(text)).split())


def fold(text: str) -> str:
    """NFKC, case folding, NFKC again, without default-ignorable characters (soft hyphens, joiners, selectors)."""
    if text.isascii():
        return text.casefold()
    text = ignorable().sub("", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


Ranges = tuple[tuple[int, int], ...]


def character_class(ranges: Ranges) -> str:
    """Inclusive code point ranges as the inside of a regular expression's brackets."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


def one_of(ranges: Ranges) -> str:
    """A regular expression for one character of the ranges.

    Python's `re` looks a set up at once only if it lies below U+10000; one character above makes it walk through all
    ranges (40 times slower on Chinese). So those above stand apart, behind a test for being above.
    """
    low, high = split_planes(ranges)
    pieces = [f"[{character_class(low)}]"] if low else []
    if high:
        pieces.append(f"(?={_ABOVE})[{character_class(high)}]")
    return f"(?:{'|'.join(pieces)})"


def split_planes(ranges: Ranges) -> tuple[Ranges, Ranges]:
    """(ranges in the basic plane, ranges above it); no range may reach across."""
    return tuple(r for r in ranges if r[1] < 0x10000), tuple(r for r in ranges if r[0] >= 0x10000)


def marks() -> Ranges:
    """The combining marks (categories Mn, Mc, Me) that are not default-ignorable.

    Python's `\\w` leaves them out, which would break words of Devanagari, Thai or Hebrew at every vowel sign.
    """
    return _classes()[0]


_BELOW, _ABOVE = "[\\u0000-\\uffff]", "[\\U00010000-\\U0010ffff]"


@cache
def _classes() -> tuple[Ranges, Ranges]:
    selectors = [0x034F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
    found: dict[str, list[int]] = {"M": [], "Cf": list(selectors)}
    # Beyond these ranges there are no marks and no format characters.
    for code in chain([0xAD], range(0x300, 0x20000), range(0xE0000, 0xE0100)):
        category = unicodedata.category(chr(code))
        if category == "Cf":
            found["Cf"].append(code)
        elif category[0] == "M" and code not in selectors:
            found["M"].append(code)
    return _ranges(found["M"]), _ranges(found["Cf"])


def _ranges(codes: Iterable[int]) -> Ranges:
    found: list[tuple[int, int]] = []
    for code in sorted(codes):
        if found and found[-1][1] == code - 1 and code != 0x10000:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return tuple(found)


@cache
def separators() -> re.Pattern[str]:
    """A run of characters that are no letter, mark or number."""
    low, high = (character_class(part) for part in split_planes(marks()))
    return re.compile(f"(?:[^\\w{low}](?:(?<={_BELOW})|(?<![{high}]))|_)+")


@cache
def ignorable() -> re.Pattern[str]:
    """A run of default-ignorable characters."""
    return re.compile(f"{one_of(_classes()[1])}+")
