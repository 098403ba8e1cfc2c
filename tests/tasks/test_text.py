"""Normalisation, segmentation and shingles: values, and agreement of the fast ways with the plain ones."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.normalise import normalise
from tasks.text.segment import spaced, unit_spans, units
from tasks.text.shingles import jaccard, ngram_hashes, shingle_set, text_ngrams, unit_hashes

# Letters of many scripts, marks, ligatures, full-width forms, ignorable characters, punctuation, emoji.
ALPHABET = (
    "aB z9_-.!'\n\t\u00a0ß\ufb01Éé\u0301\u00ad\u200d\U00020000\U0001e000\U0001d165"
    "使用ｱＡ，。のกำั\u0e4fहिन्दीçΣς한글½…😀\ufe0f¨"
)
MIXED = st.text(alphabet=st.sampled_from(ALPHABET), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,   WORLD!\n", "hello world"),
        ("don’t — don't", "don t don t"),
        ("ﬁne Ｆｕｌｌ－ｗｉｄｔｈ", "fine full width"),
        ("Straße STRASSE", "strasse strasse"),
        ("co\u00adoperate zero\u200bwidth", "cooperate zerowidth"),
        ("e\u0301 é", "é é"),
        ("snake_case x²", "snake case x2"),
        ("हिन्दी", "हिन्दी"),
        ("—…!?😀", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat, the mat.", ["the", "cat", "the", "mat"]),
        ("使用Python编程。", ["使", "用", "python", "编", "程"]),
        ("カタカナ ｶﾀ", ["カ", "タ", "カ", "ナ", "カ", "タ"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("བོད་སྐད", ["བོད", "སྐད"]),
    ],
)
def test_units(text: str, expected: list[str]) -> None:
    assert units(text) == expected


@given(MIXED)
@settings(max_examples=300, deadline=None)
def test_spans_give_the_same_units_and_lie_in_the_text(text: str) -> None:
    found, starts, ends = unit_spans(text)
    assert found == units(text)
    assert all(0 <= start < end <= len(text) for start, end in zip(starts, ends, strict=True))
    assert starts == sorted(starts)


def test_spans_point_at_the_words() -> None:
    text = "A ﬁx, 使用Ｐython — don’t"
    found, starts, ends = unit_spans(text)
    assert found == ["a", "fix", "使", "用", "python", "don", "t"]
    pieces = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    assert pieces == ["A", "ﬁx", "使", "用", "Ｐython", "don", "t"]


def plain_unit_hash(unit: str) -> int:
    """FNV-1a, then MurmurHash3's 64-bit finaliser, in Python's integers."""
    value = 0xCBF29CE484222325
    for byte in unit.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value ^= value >> 33
        value = value * multiplier % 2**64
    return value ^ (value >> 33)


def plain_ngram_hash(hashes: list[int]) -> int:
    value = 0x9E3779B97F4A7C15 * len(hashes) % 2**64
    for item in hashes:
        value = (value ^ item) * 0xFF51AFD7ED558CCD % 2**64
        value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 % 2**64
    return value ^ (value >> 33)


@given(MIXED, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_hashes_are_those_of_the_plain_definition(text: str, n: int) -> None:
    words = units(text)
    hashes = [plain_unit_hash(word) for word in words]
    assert unit_hashes(spaced(normalise(text))).tolist() == hashes
    size = min(n, len(words))
    grams = [plain_ngram_hash(hashes[i : i + size]) for i in range(len(words) - size + 1)] if words else []
    assert text_ngrams(text, n).tolist() == grams


def test_fnv_1a_published_vector() -> None:
    """FNV-1a of "a" is af63dc4c8601ec8c (Fowler, Noll, Vo); the finaliser on top keeps distinct words distinct."""
    value = (0xCBF29CE484222325 ^ ord("a")) * 0x100000001B3 % 2**64
    assert value == 0xAF63DC4C8601EC8C
    assert unit_hashes("a").tolist() == [plain_unit_hash("a")]


def test_counts_of_ngrams() -> None:
    words = unit_hashes("a b c d e f g")
    assert len(ngram_hashes(words, 5)) == 3
    assert len(ngram_hashes(words, 7)) == 1
    assert len(ngram_hashes(words, 8)) == 1  # shorter than n: one shingle of all words
    assert len(ngram_hashes(words[:0], 5)) == 0
    # A short text's one shingle is not the n-gram of another size.
    assert ngram_hashes(words[:4], 5)[0] != ngram_hashes(words[:5], 5)[0]
    assert ngram_hashes(words[:4], 5)[0] == ngram_hashes(words[:4], 4)[0]


def brute_force_jaccard(a: str, b: str, n: int) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z]+", text.lower())
        size = min(n, len(words))
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if words else set()

    left, right = shingles(a), shingles(b)
    return len(left & right) / len(left | right) if left | right else 0.0


@given(st.lists(st.sampled_from("abcde"), max_size=30), st.lists(st.sampled_from("abcde"), max_size=30))
@settings(deadline=None)
def test_jaccard_is_that_of_the_sets_of_ngrams(a: list[str], b: list[str]) -> None:
    left, right = " ".join(a), " ".join(b)
    assert jaccard(shingle_set(left, 3), shingle_set(right, 3)) == brute_force_jaccard(left, right, 3)


def test_jaccard_values() -> None:
    assert jaccard(shingle_set("a b c d e f", 5), shingle_set("b c d e f g", 5)) == pytest.approx(1 / 3)
    assert jaccard(shingle_set("", 5), shingle_set("", 5)) == 0.0
    assert shingle_set("x y x y x y", 2).size == 2
    assert np.array_equal(shingle_set("A, b! c", 5), shingle_set("a b c", 5))
