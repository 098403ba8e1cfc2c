"""What a character is to the rules: letters, ends of sentences, quotation marks, bullets, in every script."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.text.normalise import ignorable, marks
from tasks.text.segment import SPACELESS

LETTER, NUMBER, LONE, SPACE = 1, 2, 4, 8
END, WIDE, QUOTE, CLOSER, BULLET = 16, 32, 64, 128, 256
# MARK: stands on a character of a script without spaces. ENDLESS: of a script that writes no ends of sentences.
# UNSEEN: takes no room and says nothing (joiners, soft hyphens, direction marks, selectors).
MARK, ENDLESS, UNSEEN = 512, 1024, 2048

# Planes 2 and 3 hold ideographs, plane 14 what is not seen (tags, selectors); of the others above nothing is looked at.
CODES, LAST_IDEOGRAPH, FIRST_TAG, LAST_TAG = 0x20000, 0x3FFFF, 0xE0000, 0xE01FF

# Ends of sentences as Unicode's Sentence_Terminal lists them, for the scripts that have speakers on the web, and
# Tibetan's shad, which ends a line of verse or a sentence.
ENDS = ".!?‼⁇⁈⁉։؟۔܀܁܂߹।॥།༎။၊።፧፨᙮᠃᠉។៕᥄᥅᱾᱿‽⸮꓿꧈꧉꯫︒﹒﹖﹗"
# These end a sentence whatever follows: such text writes no space behind them.
WIDE_ENDS = "。！？｡．…"
# A line that ends in a closing quotation mark ends as C4 wants it; a bracket or an emoji does if what it closes does.
# German closes „so“ and ‚so‘, books in German and Danish »so« and ›so‹.
QUOTES = "\"'”’»›“‘«‹」』〞＂＇"
CLOSERS = ")]}）】〕］｝〉》＞>*"
# Behind a sentence they are a part of it: emoji and symbols.
EMOJI = ((0x2600, 0x27BF), (0x2B50, 0x2B55), (0x1F000, 0x1FAFF))
# Katakana of half width, which NFKC turns into those of SPACELESS; the last two are marks.
HALF_WIDTH, HALF_WIDTH_MARKS = (0xFF66, 0xFF9D), (0xFF9E, 0xFF9F)
THAI_AND_LAO = (0x0E00, 0x0EFF)
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
    standing = np.zeros(CODES, dtype=np.bool_)
    for first, last in (*marks(), HALF_WIDTH_MARKS):
        standing[first : last + 1] = True
    for first, last in (*SPACELESS, HALF_WIDTH, HALF_WIDTH_MARKS):
        part, on = found[first : min(last + 1, CODES)], standing[first : min(last + 1, CODES)]
        part[part & (LETTER | NUMBER) > 0] |= LONE
        part[on] = MARK
    part = found[THAI_AND_LAO[0] : THAI_AND_LAO[1] + 1]
    part[part & LONE > 0] |= ENDLESS
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
    for unseen in ignorable().finditer("".join(map(chr, range(CODES)))):
        found[unseen.start() : unseen.end()] = UNSEEN
    return found
