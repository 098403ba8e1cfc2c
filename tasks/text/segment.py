"""Units of text: words where a script writes spaces, characters where it does not.

A Chinese, Japanese, Thai, Lao, Khmer or Burmese text has no spaces to split at; there each character, with the marks
that stand on it, is a unit. So n-grams of units are word n-grams, character n-grams, or a mixture, as the text is.
Korean writes spaces, and Tibetan has its tsheg (punctuation): both are split like Latin.
"""

from __future__ import annotations

import re
from functools import cache

from tasks.text.normalise import character_class, fold, marks, normalise, one_of, split_planes

# Blocks of the Unicode standard whose scripts are written without spaces between words.
SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # CJK and Kangxi radicals
    (0x3005, 0x3007),  # iteration mark, closing mark, ideographic zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3031, 0x3035),  # kana repeat marks
    (0x3038, 0x303C),
    (0x3041, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31BF),  # Bopomofo extended
    (0x31F0, 0x31FF),  # Katakana phonetic extensions
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK unified ideographs
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar extended B
    (0xAA60, 0xAA7F),  # Myanmar extended A
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x1B000, 0x1B16F),  # kana supplement and extensions
    (0x20000, 0x3FFFF),  # CJK extensions B and later
)


def spaced(normalised: str) -> str:
    """A normalised text (`normalise`) with a single space between any two units."""
    if normalised.isascii() or not _spaceless().search(normalised):
        return normalised
    return " ".join(_pieces().findall(normalised))


def units(text: str) -> list[str]:
    """The units of any text, in order."""
    return spaced(normalise(text)).split()


def unit_spans(text: str) -> tuple[list[str], list[int], list[int]]:
    """The same units with where each stands: (units, first character, character after the last) in `text` itself.

    Folding can change lengths (a ligature becomes two letters); a unit then spans every character it came from, and in
    the rare run of characters that compose with one another, the whole run between two white spaces.
    """
    found: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for run in _RUN.finditer(text):
        folded, origins = _fold_with_origins(run.group())
        for match in _units().finditer(folded):
            found.append(match.group())
            starts.append(run.start() + origins[match.start()][0])
            ends.append(run.start() + origins[match.end() - 1][1])
    return found, starts, ends


_RUN = re.compile(r"\S+")


def _fold_with_origins(run: str) -> tuple[str, list[tuple[int, int]]]:
    """A folded run without white space, and for each of its characters the range of `run` that it came from."""
    folded = fold(run)
    if run.isascii():
        return folded, [(i, i + 1) for i in range(len(run))]
    pieces = [fold(character) for character in run]
    if "".join(pieces) != folded:
        return folded, [(0, len(run))] * len(folded)
    return folded, [(i, i + 1) for i, piece in enumerate(pieces) for _ in piece]


@cache
def _spaceless() -> re.Pattern[str]:
    return re.compile(one_of(SPACELESS))


# A unit of a script without spaces is one character and the marks on it (of the basic plane: no other has any).
@cache
def _pieces() -> re.Pattern[str]:
    low, high = (character_class(part) for part in split_planes(SPACELESS))
    return re.compile(f"{one_of(SPACELESS)}[{_low_marks()}]*|(?:[^ {low}](?<![{high}]))+")


@cache
def _units() -> re.Pattern[str]:
    spaceless, letter = one_of(SPACELESS), f"(?:\\w|{one_of(marks())})"
    return re.compile(f"(?={letter}){spaceless}[{_low_marks()}]*|(?:(?!{spaceless}|_){letter})+")


def _low_marks() -> str:
    return character_class(split_planes(marks())[0])
