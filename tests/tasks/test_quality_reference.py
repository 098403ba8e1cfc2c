"""quality: the compiled measures against a plain reading of their definitions, on text put together by chance."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.quality.heuristics import HeuristicsConfig, judge_texts, measure_texts
from tasks.quality.heuristics.characters import BULLETS, CLOSERS, DASHES, EMOJI, ENDS, QUOTES, WIDE_ENDS
from tasks.text.segment import SPACELESS, units

ON = {"enabled": True}
CONFIG = HeuristicsConfig.model_validate(
    {"gopher": ON, "repetition": ON, "fineweb": ON, "c4": {**ON, "min_words_per_line": 2, "max_word_length": 9}}
)
PER_WORD, SHORT = CONFIG.characters_per_word, CONFIG.fineweb.short_line
SELECTORS = {0x034F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
EMOJIS = "".join(chr(code) for first, last in EMOJI for code in range(first, last + 1))


def spaceless(character: str) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in (*SPACELESS, (0xFF66, 0xFF9F)))


def kind_of(character: str) -> str:
    """L a letter or number between spaces, I one of a script without spaces, M a mark on such, S white space, W an end
    of a sentence that needs no space behind it, E another, C what closes, O anything else."""
    mark = unicodedata.category(character).startswith("M") or character in "ﾞﾟ"
    if spaceless(character) and mark:
        return "M"
    if character.isalpha() or character.isnumeric() or mark:
        return "I" if spaceless(character) else "L"
    if character.isspace():
        return "S"
    if character in ENDS + WIDE_ENDS:
        return "W" if character in WIDE_ENDS and character != "…" else "E"
    return "C" if character in QUOTES + CLOSERS + EMOJIS else "O"


def seen(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) != "Cf" and ord(c) not in SELECTORS)


def plain(text: str) -> dict[str, float]:
    """What `line_measures` should give, from the definitions in its module and in docs/stages/quality.md."""
    visible = seen(text)
    lines = [line.strip() for line in visible.split("\n")]
    kinds = [[(word, "".join(map(kind_of, word))) for word in line.split()] for line in lines]
    every = [found for line in kinds for found in line]
    lone = sum(kind.count("I") for _, kind in every) / PER_WORD
    spaced = [kind.count("L") for _, kind in every if "L" in kind]
    words = len(spaced) + lone
    marked = [word for word, kind in every if "L" in kind or "I" not in kind]
    alphabetic = [word for word in marked if any(kind_of(c) == "L" and letter(c) for c in word)]
    runs = [re.findall("[.…]+", "".join(line.split())) for line in lines]
    full = [line for line in lines if line]
    found: dict[str, float] = {
        "words": words,
        "mean_word_length": sum(spaced) / len(spaced) if spaced and len(spaced) >= lone else np.nan,
        "hash_ratio": ratio(visible.count("#"), words or 1),
        "ellipsis_ratio": ratio(sum(is_ellipsis(run) for line in runs for run in line), words or 1),
        "newlines_per_word": ratio(visible.count("\n"), words or 1),
        "alphabetic_words": ratio(len(alphabetic) + lone, len(marked) + lone),
        "bullet_lines": ratio(sum(map(bulleted, full)), len(full)),
        "ellipsis_lines": ratio(sum(map(trails_off, full)), len(full)),
        "punctuated_lines": ratio(sum(map(ends, full)), len(full)),
        "short_lines": ratio(sum(width(line) < SHORT for line in full), len(full)),
        "sentences": sum(map(sentences, full)),
        "curly_brackets": visible.count("{"),
        "lorem_ipsum": speaks_of(visible, "lorem ipsum"),
    }
    whole = [tuple(line for line in block.split("\n") if line) for block in "\n".join(lines).split("\n\n")]
    for name, parts in (("line", [(line,) for line in full]), ("paragraph", [block for block in whole if block])):
        again = [part for place, part in enumerate(parts) if part in parts[:place]]
        found[f"duplicate_{name}s"] = ratio(len(again), len(parts))
        found[f"duplicate_{name}_characters"] = ratio(sum(len("".join(p)) for p in again), sum(map(len, full)))
    thai = sum(kind_of(c) == "I" and 0xE00 <= ord(c) <= 0xEFF for c in visible) / PER_WORD
    if thai > len(spaced):
        found |= {"sentences": np.nan, "punctuated_lines": np.nan}
    return found


def letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character).startswith("M")


def speaks_of(text: str, phrase: str) -> int:
    """How often the phrase begins in the text, but not within a word."""
    places = [match.start() for match in re.finditer(phrase, text.lower())]
    return sum(at == 0 or kind_of(text[at - 1]) != "L" or not letter(text[at - 1]) for at in places)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


def is_ellipsis(run: str) -> bool:
    return "…" in run or len(run) >= 3


def trails_off(line: str) -> bool:
    run = re.search("[.…]*$", "".join(line.split()))
    return run is not None and is_ellipsis(run.group())


def ends(line: str) -> bool:
    bare = "".join(line.split()).rstrip(CLOSERS + EMOJIS + QUOTES)
    tail = "".join(line.split())[len(bare) :]
    return bare[-1:] in set(ENDS + WIDE_ENDS) or any(c in QUOTES for c in tail)


def bulleted(line: str) -> bool:
    return line[0] in BULLETS or (line[0] in DASHES and (len(line) == 1 or line[1].isspace()))


def width(line: str) -> float:
    return sum({"I": 6 / PER_WORD, "M": 0}.get(kind_of(c), 1.0) for c in line)


def sentences(line: str) -> int:
    """Of a line that counts for C4; 0 of another."""
    kinds = "".join(map(kind_of, line)).replace("I", "L").replace("M", "O")
    words = [word for word in line.split() if any(kind_of(c) == "L" for c in word)]
    if len(words) + sum(kind_of(c) == "I" for c in line) / PER_WORD < 2 or max(map(len, line.split())) > 9:
        return 0
    about = "javascript|terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"
    if speaks_of(line, about) or not ends(line) or trails_off(line):
        return 0
    whole = re.compile("L.*?(?:W|E[EC]*(?=S|$))")
    return len(whole.findall(kinds)) + ("L" in whole.sub("", kinds))


def repeated(text: str) -> dict[str, float]:
    """The shares of n-grams, from sets of places."""
    parts = units(text)
    sizes = [len(part) for part in parts]
    without = sum(size for size, part in zip(sizes, parts, strict=True) if spaceless(part[0]))
    found = {}
    for n in range(2, 11):
        size = int(np.ceil(n * PER_WORD)) if 2 * without > sum(sizes) else n
        places: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for first in range(len(parts) - size + 1):
            places[tuple(parts[first : first + size])].append(first)
        twice = [where for where in places.values() if len(where) > 1]

        def covered(firsts: list[int], size: int = size) -> int:
            return sum(sizes[place] for place in {first + more for first in firsts for more in range(size)})

        if n < 5:
            found[f"top_{n}_gram"] = ratio(max(map(covered, twice), default=0), sum(sizes)) if parts else 0
        else:
            again = [first for where in twice for first in where[1:]]
            found[f"duplicate_{n}_grams"] = ratio(covered(again), sum(sizes)) if parts else 0
    return found


# Whatever a rule looks at, and what comes near it.
PIECES = [
    "The", "of", "use cookies", "JavaScript", "javascripts", "Lorem ipsum", "e\u0301t", "Ünïon", "42", "½", "x" * 8,
    *"Ⅷ한網网页…#{}-–•*()“”„»«'\"」ー𠀀👍_.!?,;。", "한국어", "हिन्दी", "页内", "？！", "...", "..", "ที่", "นี่", "ລາວ",
    "ភាសា", "។", "ｶﾞ", "か\u3099", "👩\u200d🚀", "❤\ufe0f", "🏴\U000e0067\U000e007f", "\u200b", "\u00ad", "\u200f",
    "\ufeff", "\U00100000", "\x00", "\x07", *"։།۔।؟",
]  # fmt: skip
SPACES = [" ", " ", " ", "  ", "\n", "\n", "\n\n", "\n \n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x85", "\x1f"]
TEXT = st.lists(st.sampled_from([*PIECES, *SPACES, *SPACES]), max_size=60).map("".join)
FEW = st.lists(st.sampled_from(["ab ", "c ", "网", "页", ". ", "\n"]), max_size=40).map("".join)


def measured(text: str, language: str = "en") -> dict[str, float]:
    found = measure_texts(pa.array([text]), pa.array([language]), CONFIG)
    return {name: values.tolist()[0] for name, values in found.items()}


@given(st.one_of(TEXT, FEW))
@example("")
@example(" \n\t\u3000\n")
@example("...\n--\n!?\n")
@example("One, two. “Three” four.”)\nOne two.\u200b\n„So ist es, ja.“\n")
@settings(max_examples=120, deadline=None)
def test_measures_are_those_of_a_plain_reading(text: str) -> None:
    found = measured(text)
    for name, value in (plain(text) | repeated(text)).items():
        assert found[name] == pytest.approx(value, rel=1e-12, nan_ok=True), (name, ascii(text))


@pytest.mark.parametrize(
    "text", ["", " \n\u3000", "####\n...", "\x00", "\u200b\n\ufeff", "x" * 1_000_000, "网" * 400_000]
)
def test_no_text_is_too_odd_for_a_verdict(text: str) -> None:
    found = measured(text)
    assert all(np.isnan(value) or 0 <= value < np.inf for value in found.values()), found
    verdict = judge_texts(pa.array([text]), pa.array(["en"]), CONFIG, np.array([False]))
    assert verdict.first[0] >= 0 and np.isfinite(verdict.values[0])


def test_white_space_and_what_is_not_seen_are_no_text() -> None:
    for text in ("", " \n\t\r\n", "\u200b\n\u00ad \ufeff"):
        found = measured(text)
        assert found["words"] == found["sentences"] == found["top_2_gram"] == found["hash_ratio"] == 0
        assert all(np.isnan(found[name]) for name in ("bullet_lines", "duplicate_paragraphs", "mean_word_length"))


def test_one_long_line_is_measured_in_time_that_grows_with_it() -> None:
    """Each of 40,000 sentences is a repetition of the first: no measure looks at all pairs."""
    text = "One of these five words. " * 40_000
    found = measured(text)
    assert (found["words"], found["sentences"], found["hash_ratio"]) == (200_000, 40_000, 0)
    assert found["duplicate_10_grams"] == pytest.approx(1 - 5 / 200_000, abs=1e-9)
    assert found["top_2_gram"] == pytest.approx(9 / 19, abs=1e-5)
