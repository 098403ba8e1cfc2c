"""What a character is to the rules: letters, ends of sentences, quotation marks, bullets, in every script."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.text.normalise import marks
from tasks.text.segment import SPACELESS

LETTER, NUMBER, LONE, SPACE = 1, 2, 4, 8
END, WIDE, QUOTE, CLOSER, BULLET = 16, 32, 64, 128, 256

CODES = 0x20000  # above are ideographs (letters without spaces) and nothing else that the rules look at

# Ends of sentences as Unicode's Sentence_Terminal lists them, for the scripts that have speakers on the web.
ENDS = ".!?‼⁇⁈⁉؟۔܀܁܂।॥။၊።፧፨᠃᠉។៕‽⸮︒﹒﹖﹗"
# These end a sentence whatever follows: such text writes no space behind them.
WIDE_ENDS = "。！？｡．…"
# A line that ends in a closing quotation mark ends as C4 wants it; a bracket or an emoji does if what it closes does.
QUOTES = "\"'”’»›」』〞＂＇"
CLOSERS = ")]}）】〕］｝〉》＞>*"
# Behind a sentence they are a part of it: emoji, symbols, and what joins or varies them.
EMOJI = ((0x200D, 0x200D), (0x2600, 0x27BF), (0x2B50, 0x2B55), (0xFE0F, 0xFE0F), (0x1F000, 0x1FAFF))
BULLETS = "•‣⁃◦∙▪▫●○■□▶►▸・·∗"
# Bullets only with white space behind them: in front of a word they are signs.
DASHES = "-*–—+"


@cache
def classes() -> NDArray[np.uint16]:
    """The classes of each code point below `CODES`, shape (CODES,), bits as above."""
    found = np.zeros(CODES, dtype=np.uint16)
    for code in range(CODES):
        character = chr(code)
        if character.isalpha():
            found[code] = LETTER
        elif character.isnumeric():
            found[code] = NUMBER
        elif character.isspace():
            found[code] = SPACE
    for first, last in marks():
        found[first : last + 1] |= LETTER
    for first, last in SPACELESS:
        part = found[first : min(last + 1, CODES)]
        part[part & (LETTER | NUMBER) > 0] |= LONE
    for first, last in EMOJI:
        found[first : last + 1] |= CLOSER
    for characters, bit in (
        (ENDS, END),
        (WIDE_ENDS, END | WIDE),
        (QUOTES, QUOTE | CLOSER),
        (CLOSERS, CLOSER),
        (BULLETS, BULLET),
    ):
        for character in characters:
            found[ord(character)] |= bit
    return found
