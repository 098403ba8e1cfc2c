"""What the rules want to know of words, lines and paragraphs: counted in one pass over the bytes of many texts.

A word is what stands between white space and holds a letter or a number; its length counts letters and numbers. A
character of a script without spaces is a part of a word (`characters_per_word`). A line is one that is not blank,
without the white space around it; a paragraph is the lines between blank lines.
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
    LETTER,
    LONE,
    NUMBER,
    QUOTE,
    SPACE,
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
    PARAGRAPH_CHARACTERS_AGAIN,
) = range(22)  # fmt: skip
COLUMNS = 22

# A word of five letters and a space: what the lengths of lines are compared with in scripts without spaces.
WORD_AND_SPACE = 6.0
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_DASHES = np.array([ord(dash) for dash in DASHES], dtype=np.int64)


def line_measures(texts: pa.Array, config: HeuristicsConfig) -> Measures:
    """Measures of N texts by name, each of shape (N,); NaN where there is nothing to measure.

    Counts: `words`, `sentences` (on lines that count for C4), `curly_brackets`, `lorem_ipsum`. Ratios to words:
    `hash_ratio`, `ellipsis_ratio`, `newlines_per_word`. Letters: `mean_word_length`, of words between spaces (NaN in a
    text of which less than half is written with spaces). Shares of words: `alphabetic_words`. Shares of lines:
    `bullet_lines`, `ellipsis_lines`, `punctuated_lines`, `short_lines`, `duplicate_lines`. Shares of paragraphs:
    `duplicate_paragraphs`. Shares of the characters of all lines: `duplicate_line_characters`,
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
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_length = np.where(column[WORDS] >= lone_words, column[LENGTHS] / column[WORDS], np.nan)
        return {
            "words": words,
            "mean_word_length": mean_length,
            "hash_ratio": column[HASHES] / words,
            "ellipsis_ratio": column[ELLIPSES] / words,
            "newlines_per_word": column[NEWLINES] / words,
            "alphabetic_words": (column[ALPHABETIC] + lone_words) / (column[TOKENS] + lone_words),
            "bullet_lines": column[BULLETS] / column[LINES],
            "ellipsis_lines": column[DOTTED] / column[LINES],
            "punctuated_lines": column[PUNCTUATED] / column[LINES],
            "short_lines": column[SHORT] / column[LINES],
            "duplicate_lines": column[LINES_AGAIN] / column[LINES],
            "duplicate_paragraphs": column[PARAGRAPHS_AGAIN] / column[PARAGRAPHS],
            "duplicate_line_characters": column[LINE_CHARACTERS_AGAIN] / column[CHARACTERS],
            "duplicate_paragraph_characters": column[PARAGRAPH_CHARACTERS_AGAIN] / column[CHARACTERS],
            "sentences": column[SENTENCES].copy(),
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
    stamp = 0
    for document in range(documents):
        row = out[document]
        at, stop = starts[document], starts[document + 1]
        newlines = 0
        for place in range(at, stop):
            newlines += data[place] == 10
        if room < 8 * (newlines + 1):  # so that the table stays half empty, with paragraphs beside lines
            while room < 8 * (newlines + 1):
                room *= 2
            seen, stamps = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.int64)
        stamp += 2  # lines under this number, paragraphs under the next
        paragraph, paragraph_size, paragraph_open = _OFFSET, 0, False
        # Of the line: characters so far, and so many of them as stand before white space at its end.
        fresh = True
        while at <= stop:
            if fresh:
                fresh, size, trimmed, begun, bulleted, dash = False, 0, 0, False, False, False
                width = trimmed_width = 0.0
                hashed, trimmed_hash = _OFFSET, _OFFSET
                ended, dots, pending, open_sentence, sentences = False, 0, False, False, 0
                words, excluded = 0.0, False
                token, letters, numbers, lones, spaced = 0, 0, 0, 0, 0
                previous = np.int64(0)
            follow = at
            code = np.int64(10)
            if at < stop:
                byte = np.int64(data[at])
                follow = at + 1
                code = byte
                if byte >= 0x80:
                    more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
                    code = byte & (0x3F >> more)
                    for place in range(more):
                        code = (code << 6) | np.int64(data[at + 1 + place] & 0x3F)
                    follow = at + 1 + more
            kind = np.int64(classes[code]) if code < CODES else np.int64(LETTER | LONE)
            if kind & SPACE:
                bulleted |= dash and size == 1
                if token:  # a word ends
                    if letters + numbers + lones:
                        if spaced:
                            row[WORDS] += 1
                            row[LENGTHS] += spaced
                            words += 1
                        row[LONES] += lones
                        words += lones * lone_word
                    if spaced or lones == 0:
                        row[TOKENS] += 1
                        if letters:
                            row[ALPHABETIC] += 1
                    excluded |= token > longest
                    token, letters, numbers, lones, spaced = 0, 0, 0, 0, 0
                if pending:
                    sentences += 1
                    pending = open_sentence = False
            else:
                if not begun:
                    begun = True
                    bulleted = kind & BULLET != 0
                    for sign in dashes:
                        dash |= code == sign
                token += 1
                if kind & LONE:
                    lones += 1
                elif kind & (LETTER | NUMBER):
                    spaced += 1
                    letters += kind & LETTER != 0
                    numbers += kind & NUMBER != 0
                if kind & (LETTER | NUMBER):
                    open_sentence = True
                if code == 0x23:
                    row[HASHES] += 1
                elif code == 0x7B:
                    row[BRACKETS] += 1
                if code == 0x2E:
                    dots += 1
                    row[ELLIPSES] += dots == 3
                elif code == 0x2026:
                    row[ELLIPSES] += dots < 3
                    dots = 3
                else:
                    dots = 0
                if kind & END:
                    ended = True
                    pending |= open_sentence
                    if kind & WIDE and pending and code != 0x2026:
                        sentences += 1
                        pending = open_sentence = False
                elif kind & CLOSER:
                    ended |= kind & QUOTE != 0
                else:
                    ended = False
                    pending = False
                if kind & LETTER and not previous & LETTER:
                    for phrase in range(len(phrase_starts) - 1):
                        first, last = phrase_starts[phrase], phrase_starts[phrase + 1]
                        if at + last - first > stop:
                            continue
                        same = True
                        for place in range(last - first):
                            letter = data[at + place]
                            if 0x41 <= letter <= 0x5A:
                                letter += 0x20
                            if letter != phrases[first + place]:
                                same = False
                                break
                        if same:
                            if phrase == 0:
                                row[LOREMS] += 1
                            else:
                                excluded = True
            previous = kind
            if code != 10:
                if begun:
                    size += 1
                    width += lone_width if kind & LONE else 1.0
                    for place in range(at, follow):
                        hashed = (hashed ^ np.uint64(data[place])) * _PRIME
                    if not kind & SPACE:
                        trimmed, trimmed_width, trimmed_hash = size, width, hashed
                at = follow
                continue
            row[NEWLINES] += at < stop
            if begun:
                row[LINES] += 1
                row[BULLETS] += bulleted
                row[DOTTED] += dots >= 3
                row[PUNCTUATED] += ended
                row[SHORT] += trimmed_width < short_line
                row[CHARACTERS] += trimmed
                if _known(seen, stamps, stamp, trimmed_hash):
                    row[LINES_AGAIN] += 1
                    row[LINE_CHARACTERS_AGAIN] += trimmed
                sentences += open_sentence
                if not excluded and words >= least_words and (not punctuation or (ended and dots < 3)):
                    row[SENTENCES] += sentences
                paragraph = (paragraph ^ trimmed_hash) * _PRIME
                paragraph_size += trimmed
                paragraph_open = True
            if paragraph_open and (not begun or at >= stop):
                row[PARAGRAPHS] += 1
                if _known(seen, stamps, stamp + 1, paragraph):
                    row[PARAGRAPHS_AGAIN] += 1
                    row[PARAGRAPH_CHARACTERS_AGAIN] += paragraph_size
                paragraph, paragraph_size, paragraph_open = _OFFSET, 0, False
            fresh = True
            at = at + 1
    return out


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
