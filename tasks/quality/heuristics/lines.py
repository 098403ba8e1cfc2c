"""What the rules want to know of words, lines and paragraphs: counted in one pass over the bytes of many texts.

A word is what stands between white space and holds a letter or a number; its length counts letters and numbers. A
character of a script without spaces, with the marks on it, is a part of a word (`characters_per_word`). A line is one
that is not blank, without the white space around it; a paragraph is the lines between blank lines. Characters that are
not seen (joiners, soft hyphens, direction marks) count for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.quality.heuristics.characters import (
    BULLET,
    CLOSER,
    CODES,
    DASHES,
    END,
    ENDLESS,
    FIRST_TAG,
    LAST_IDEOGRAPH,
    LAST_TAG,
    LETTER,
    LONE,
    MARK,
    NUMBER,
    QUOTE,
    SPACE,
    UNSEEN,
    WIDE,
    classes,
)
from tasks.quality.heuristics.config import HeuristicsConfig
from tasks.quality.heuristics.rule import Measures
from tasks.text.batches import text_buffers
from tasks.text.compiled import compiled

# Lines of C4 that are about the page and not of it; all lower-case, a word's beginning first.
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
JAVASCRIPT, LOREM = "javascript", "lorem ipsum"

# The columns of what `_count` fills.
(
    WORDS, LENGTHS, LONES, TOKENS, ALPHABETIC, HASHES, ELLIPSES, LINES, BULLETS, DOTTED, PUNCTUATED, SHORT, NEWLINES,
    SENTENCES, BRACKETS, LOREMS, CHARACTERS, LINES_AGAIN, LINE_CHARACTERS_AGAIN, PARAGRAPHS, PARAGRAPHS_AGAIN,
    PARAGRAPH_CHARACTERS_AGAIN, ENDLESSES,
) = range(23)  # fmt: skip
COLUMNS = 23
NEWLINE = 10

# A word of five letters and a space: what the lengths of lines are compared with in scripts without spaces.
WORD_AND_SPACE = 6.0
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_DASHES = np.array([ord(dash) for dash in DASHES], dtype=np.int64)


def line_measures(texts: pa.Array, config: HeuristicsConfig) -> Measures:
    """Measures of N texts by name, each of shape (N,); NaN where there is nothing to measure.

    `sentences` and `punctuated_lines` are NaN in a text most of whose words are Thai or Lao: they write no ends of
    sentences.

    Counts: `words`, `sentences` (on lines that count for C4), `curly_brackets`, `lorem_ipsum`. Ratios to words, or to
    one where there are none: `hash_ratio`, `ellipsis_ratio`, `newlines_per_word`. Letters: `mean_word_length`, of words
    between spaces (NaN in a text of which less than half is written with spaces). Shares of words: `alphabetic_words`.
    Shares of lines: `bullet_lines`, `ellipsis_lines`, `punctuated_lines`, `short_lines`, `duplicate_lines`. Shares of
    paragraphs: `duplicate_paragraphs`. Shares of the characters of all lines: `duplicate_line_characters`,
    `duplicate_paragraph_characters`.
    """
    data, starts = text_buffers(texts)
    c4, per_word = config.c4, config.characters_per_word
    phrases, phrase_starts = _phrases((LOREM, *([JAVASCRIPT] if c4.javascript else []), *(POLICIES * c4.policies)))
    counts = _count(
        data, starts.astype(np.int64), classes(), _DASHES, phrases, phrase_starts,
        1.0 / per_word, WORD_AND_SPACE / per_word, config.fineweb.short_line, c4.terminal_punctuation,
        -1.0 if c4.min_words_per_line is None else c4.min_words_per_line,
        np.inf if c4.max_word_length is None else c4.max_word_length,
    )  # fmt: skip
    column = counts.T
    lone_words = column[LONES] / per_word
    words = column[WORDS] + lone_words
    some = np.where(words > 0, words, 1.0)  # so that a text of signs alone has a finite ratio
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_length = np.where(column[WORDS] >= lone_words, column[LENGTHS] / column[WORDS], np.nan)
        endless = column[ENDLESSES] / per_word > column[WORDS]
        return {
            "words": words,
            "mean_word_length": mean_length,
            "hash_ratio": column[HASHES] / some,
            "ellipsis_ratio": column[ELLIPSES] / some,
            "newlines_per_word": column[NEWLINES] / some,
            "alphabetic_words": (column[ALPHABETIC] + lone_words) / (column[TOKENS] + lone_words),
            "bullet_lines": column[BULLETS] / column[LINES],
            "ellipsis_lines": column[DOTTED] / column[LINES],
            "punctuated_lines": np.where(endless, np.nan, column[PUNCTUATED] / column[LINES]),
            "short_lines": column[SHORT] / column[LINES],
            "duplicate_lines": column[LINES_AGAIN] / column[LINES],
            "duplicate_paragraphs": column[PARAGRAPHS_AGAIN] / column[PARAGRAPHS],
            "duplicate_line_characters": column[LINE_CHARACTERS_AGAIN] / column[CHARACTERS],
            "duplicate_paragraph_characters": column[PARAGRAPH_CHARACTERS_AGAIN] / column[CHARACTERS],
            "sentences": np.where(endless, np.nan, column[SENTENCES]),
            "curly_brackets": column[BRACKETS].copy(),
            "lorem_ipsum": column[LOREMS].copy(),
        }


def _phrases(phrases: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    joined = "".join(phrases).encode("ascii")
    return np.frombuffer(joined, dtype=np.uint8), np.cumsum([0, *map(len, phrases)]).astype(np.int64)


@compiled
def _count(
    data: Any, starts: Any, classes: Any, dashes: Any, phrases: Any, phrase_starts: Any,
    lone_word: float, lone_width: float, short_line: int, punctuation: bool, least_words: float, longest: float,
) -> Any:  # fmt: skip
    """Counts, shape (N, COLUMNS); see `line_measures`. A line is closed by a newline or the end of its text."""
    documents = len(starts) - 1
    out = np.zeros((documents, COLUMNS))
    room = 1024
    seen, stamps = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.int64)
    for document in range(documents):
        at, stop = starts[document], starts[document + 1]
        newlines = 0
        for place in range(at, stop):
            newlines += data[place] == NEWLINE
        if room < 8 * (newlines + 1):  # so that the table stays half empty, with paragraphs beside lines
            while room < 8 * (newlines + 1):
                room *= 2
            seen, stamps = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.int64)
        row, stamp = out[document], 2 * (document + 1)  # lines under this number, paragraphs under the next
        paragraph, paragraph_size, paragraph_open = _OFFSET, 0, False
        while at <= stop:
            at, size, hashed = _count_line(
                data, at, stop, classes, dashes, phrases, phrase_starts,
                lone_word, lone_width, short_line, punctuation, least_words, longest, row,
            )  # fmt: skip
            if size:
                if _known(seen, stamps, stamp, hashed):
                    row[LINES_AGAIN] += 1
                    row[LINE_CHARACTERS_AGAIN] += size
                paragraph = (paragraph ^ hashed) * _PRIME
                paragraph_size += size
                paragraph_open = True
            if paragraph_open and (size == 0 or at > stop):
                row[PARAGRAPHS] += 1
                if _known(seen, stamps, stamp + 1, paragraph):
                    row[PARAGRAPHS_AGAIN] += 1
                    row[PARAGRAPH_CHARACTERS_AGAIN] += paragraph_size
                paragraph, paragraph_size, paragraph_open = _OFFSET, 0, False
    return out


@compiled
def _count_line(
    data: Any, at: Any, stop: Any, classes: Any, dashes: Any, phrases: Any, phrase_starts: Any,
    lone_word: float, lone_width: float, short_line: int, punctuation: bool, least_words: float, longest: float,
    row: Any,
) -> Any:  # fmt: skip
    """Count the line that begins at `at` into the row: (where the next one begins, its characters without the white
    space around it, their hash). A blank line has none."""
    # Characters so far, and so many of them as stand before white space at the line's end.
    size, trimmed, width, trimmed_width, hashed, trimmed_hash = 0, 0, 0.0, 0.0, _OFFSET, _OFFSET
    bulleted, dash, excluded, words = False, False, False, 0.0
    ended, dots, pending, open_sentence, sentences = False, 0, False, False, 0
    token, letters, numbers, lones, spaced = 0, 0, 0, 0, 0
    previous = code = np.int64(0)
    while code != NEWLINE:
        code, follow = _character(data, at, stop)
        if code < CODES:
            kind = np.int64(classes[code])
        elif code <= LAST_IDEOGRAPH:
            kind = np.int64(LETTER | LONE)
        else:
            kind = np.int64(UNSEEN if FIRST_TAG <= code <= LAST_TAG else 0)
        if kind & UNSEEN:
            at = follow
            continue
        if kind & SPACE:
            bulleted |= dash and size == 1
            if token:
                words += _end_word(row, letters, numbers, lones, spaced, lone_word)
                excluded |= token > longest
                token, letters, numbers, lones, spaced = 0, 0, 0, 0, 0
            if pending:
                sentences += 1
                pending = open_sentence = False
        else:
            if size == 0:
                bulleted = kind & BULLET != 0
                for sign in dashes:
                    dash |= code == sign
            token += 1
            lones += kind & LONE != 0
            row[ENDLESSES] += kind & ENDLESS != 0
            if kind & (LETTER | NUMBER):
                open_sentence = True
                if not kind & LONE:
                    spaced += 1
                    letters += kind & LETTER != 0
                    numbers += kind & NUMBER != 0
            row[HASHES] += code == 0x23
            row[BRACKETS] += code == 0x7B
            dots, ellipsis = _dots(code, dots)
            row[ELLIPSES] += ellipsis
            ended, pending, open_sentence, complete = _ending(kind, code, ended, pending, open_sentence)
            sentences += complete
            if kind & LETTER and (not previous & LETTER or previous & LONE):
                phrase = _phrase_at(data, at, stop, phrases, phrase_starts)
                row[LOREMS] += phrase == 0
                excluded |= phrase > 0
        previous = kind
        if code != NEWLINE and (size or not kind & SPACE):
            size += 1
            if not kind & MARK:
                width += lone_width if kind & LONE else 1.0
            for place in range(at, follow):
                hashed = (hashed ^ np.uint64(data[place])) * _PRIME
            if not kind & SPACE:
                trimmed, trimmed_width, trimmed_hash = size, width, hashed
        at = follow
    row[NEWLINES] += at <= stop
    if size:
        row[LINES] += 1
        row[BULLETS] += bulleted
        row[DOTTED] += dots >= 3
        row[PUNCTUATED] += ended
        row[SHORT] += trimmed_width < short_line
        row[CHARACTERS] += trimmed
        if not excluded and words >= least_words and (not punctuation or (ended and dots < 3)):
            row[SENTENCES] += sentences + open_sentence
    return at, trimmed, trimmed_hash


@compiled
def _character(data: Any, at: Any, stop: Any) -> Any:
    """(code point, where the next character begins); at the end of the text, a newline."""
    if at >= stop:
        return np.int64(NEWLINE), at + 1
    byte = np.int64(data[at])
    if byte < 0x80:
        return byte, at + 1
    more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
    code = byte & (0x3F >> more)
    for place in range(at + 1, at + 1 + more):
        code = (code << 6) | np.int64(data[place] & 0x3F)
    return code, at + 1 + more


@compiled
def _end_word(row: Any, letters: int, numbers: int, lones: int, spaced: int, lone_word: float) -> float:
    """Count what stood between white space; how many words it is."""
    if spaced or lones == 0:
        row[TOKENS] += 1
        row[ALPHABETIC] += letters > 0
    if letters + numbers + lones == 0:
        return 0.0
    row[WORDS] += spaced > 0
    row[LENGTHS] += spaced
    row[LONES] += lones
    return (1.0 if spaced else 0.0) + lones * lone_word


@compiled
def _dots(code: Any, dots: int) -> Any:
    """(full stops in a row, of which an ellipsis is three; whether this character makes one)."""
    if code == 0x2E:
        return dots + 1, dots == 2
    if code == 0x2026:
        return 3, dots < 3
    return 0, False


@compiled
def _ending(kind: Any, code: Any, ended: bool, pending: bool, open_sentence: bool) -> Any:
    """(whether the line would end here in punctuation, whether white space would now end a sentence, whether one is
    open, whether one ends here)."""
    if kind & END:
        if kind & WIDE and open_sentence and code != 0x2026:
            return True, False, False, True
        return True, pending or open_sentence, open_sentence, False
    if kind & CLOSER:
        return ended or kind & QUOTE != 0, pending, open_sentence, False
    return False, False, open_sentence, False


@compiled
def _phrase_at(data: Any, at: Any, stop: Any, phrases: Any, phrase_starts: Any) -> int:
    """Which phrase begins here, in any case of its letters; -1 if none does."""
    for phrase in range(len(phrase_starts) - 1):
        first, last = phrase_starts[phrase], phrase_starts[phrase + 1]
        same = at + last - first <= stop
        place = first
        while same and place < last:
            letter = data[at + place - first]
            same = phrases[place] == (letter + 0x20 if 0x41 <= letter <= 0x5A else letter)
            place += 1
        if same:
            return phrase
    return -1


@compiled
def _known(seen: Any, stamps: Any, stamp: int, value: Any) -> bool:
    """Whether the value has been seen under this stamp; it has been afterwards."""
    slot = np.int64((value ^ (value >> np.uint64(29)) ^ np.uint64(stamp)) & np.uint64(len(seen) - 1))
    while stamps[slot] != 0:
        if stamps[slot] == stamp and seen[slot] == value:
            return True
        if stamps[slot] < stamp - 1:
            break  # left by an earlier text
        slot = (slot + 1) & (len(seen) - 1)
    seen[slot], stamps[slot] = value, stamp
    return False
