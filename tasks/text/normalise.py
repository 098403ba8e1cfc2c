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
    return " ".join(_separators().sub(" ", fold(text)).split())


def fold(text: str) -> str:
    """NFKC, case folding, NFKC again, without default-ignorable characters (soft hyphens, joiners, selectors)."""
    if text.isascii():
        return text.casefold()
    text = _ignorable().sub("", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def marks_class() -> str:
    """The combining marks (categories Mn, Mc, Me), as the inside of a regular expression's brackets.

    Python's `\\w` leaves them out, which would break words of Devanagari, Thai or Hebrew at every vowel sign.
    """
    return _classes()[0]


def character_class(ranges: Iterable[tuple[int, int]]) -> str:
    """Inclusive code point ranges as the inside of a regular expression's brackets."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


@cache
def _classes() -> tuple[str, str]:
    marks: list[int] = []
    ignorable: list[int] = [0x034F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
    # Beyond these ranges there are no marks and no format characters.
    for code in chain([0xAD], range(0x300, 0x20000), range(0xE0000, 0xE0100)):
        category = unicodedata.category(chr(code))
        if category == "Cf":
            ignorable.append(code)
        elif category[0] == "M" and code not in (0x034F, *range(0xFE00, 0xFE10)):
            marks.append(code)
    return character_class(_ranges(marks)), character_class(_ranges(ignorable))


def _ranges(codes: Iterable[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for code in sorted(codes):
        if found and found[-1][1] == code - 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found


@cache
def _separators() -> re.Pattern[str]:
    return re.compile(f"(?:[^\\w{marks_class()}]|_)+")


@cache
def _ignorable() -> re.Pattern[str]:
    return re.compile(f"[{_classes()[1]}]+")
