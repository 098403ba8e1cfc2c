"""Texts read in compiled batches give what the plain functions give, for every character and Arrow layout."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup.minhash import signature
from tasks.dedup.signing import shingle_column, sign_column, text_hash
from tasks.text.batches import BYTES_A_BLOCK, text_blocks
from tasks.text.folding import KIND, UNKNOWN, folding
from tasks.text.normalise import normalise
from tasks.text.segment import spaced
from tasks.text.shingles import shingle_set, text_ngrams, unit_hashes

# Whole alphabets by the ten thousand need no more than a sample of each.
ALIKE = ((0x3400, 0x4DB0), (0x4E00, 0x9FF0), (0xAC00, 0xD7A0), (0xE000, 0xF8F0), (0x17000, 0x187F0), (0x20000, 0x323A0))
CHARACTERS = [
    chr(code)
    for code in [*range(0xD800), *range(0xE000, 0x33500), *range(0xE0000, 0xE0200), 0xF0000, 0x10FFFF]
    if code % 37 == 0 or not any(first <= code < last for first, last in ALIKE)
]
TOUCHY = [c for c in CHARACTERS if unicodedata.combining(c) or unicodedata.normalize("NFKD", c.casefold()) != c]
LETTERS = (
    "aB z9_-.!'\n\t\u00a0ß\ufb01Éé\u0301\u00ad\u200d\U00020000\U0001e000\U0001d165使用ｱＡ，。のกำั\u0e4fहि½…😀\ufe0f¨각ᆨ"
)
MIXED = st.text(alphabet=st.sampled_from(LETTERS), max_size=40)


def column(texts: list[str | None], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, kind or pa.string())])


def check(texts: list[str]) -> int:
    """All texts that a block calls `ok` have the right normal form and units; how many are not `ok`."""
    left = 0
    for block in text_blocks(column(texts)):
        rows = range(block.first, block.first + len(block.ok))
        assert block.characters.tolist() == [len(texts[row]) for row in rows]
        normal = [normalise(texts[row]) if ok else "" for row, ok in zip(rows, block.ok, strict=True)]
        found = [block.normal[begin:end].tobytes().decode() for begin, end in block.normal_bounds.tolist()]
        assert found == normal
        units = [unit_hashes(spaced(text)) for text in normal]
        assert np.diff(block.unit_bounds.astype(np.int64), axis=1)[:, 0].tolist() == [len(hashes) for hashes in units]
        assert np.array_equal(block.units[: int(block.unit_bounds[-1, 1])], np.concatenate(units))
        left += int((~block.ok).sum())
    return left


def test_every_character_between_letters_of_both_kinds() -> None:
    """Only characters that the table calls unknown send a text to Python."""
    entries = folding().entries
    known = [c for c in CHARACTERS if ord(c) < 0x33480 and entries[ord(c)] & KIND != UNKNOWN]
    assert len(CHARACTERS) - len(known) < 1_000
    assert check([f"a{c}B使{c}ั{c}" for c in known if not unicodedata.combining(c)]) == 0
    check([f"{c} é{c}ि{c}" for c in CHARACTERS])


def test_characters_that_change_one_another() -> None:
    """Random strings of marks, composites, compatibility characters and jamo: right, or left to Python."""
    draw = np.random.default_rng(0)
    texts = ["".join(TOUCHY[n] for n in row) for row in draw.integers(len(TOUCHY), size=(4_000, 4)).tolist()]
    assert 0 < check(texts) < len(texts)


@given(st.lists(st.one_of(MIXED, st.text(max_size=20)), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_any_text(texts: list[str]) -> None:
    check(texts)


@given(st.lists(MIXED, max_size=5), st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_signed_columns_are_those_of_the_plain_definition(texts: list[str], n: int, count: int) -> None:
    signed = sign_column(column(list(texts)), n, count)
    assert signed.text_hash.astype("U32").tolist() == [text_hash(text, normalise(text)) for text in texts]
    assert signed.characters.tolist() == [len(text) for text in texts]
    ngrams = [text_ngrams(text, n) for text in texts]
    assert signed.shingles.tolist() == [len(hashes) for hashes in ngrams]
    assert signed.signatures.tolist() == [signature(hashes, count).tolist() for hashes in ngrams]
    sets = shingle_column(column(list(texts)), n)
    assert sets.lengths.tolist() == [len(shingle_set(text, n)) for text in texts]
    assert sets.shingles.tolist() == [hash for text in texts for hash in shingle_set(text, n).tolist()]


def test_arrow_layouts_and_nulls_change_nothing() -> None:
    texts = ["One two", None, "", "Ünï使用 three", "e\u0301 four", "!?", "long " * 40_000, "x"]
    assert len(texts[6] or "") > BYTES_A_BLOCK
    plain = sign_column(column([text or "" for text in texts]), 2, 16)
    assert plain.shingles.tolist() == [1, 0, 0, 3, 1, 0, 39_999, 1]
    pieces = pa.chunked_array([pa.array(["cut", *texts[:3]]).slice(1), pa.array([], pa.string()), pa.array(texts[3:])])
    layouts = [column(texts, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())]
    for layout in [*layouts, pieces, pieces.cast(pa.large_string())]:
        signed = sign_column(layout, 2, 16)
        assert np.array_equal(signed.signatures, plain.signatures)
        assert np.array_equal(signed.text_hash, plain.text_hash)
        assert np.array_equal(signed.characters, plain.characters)
        assert np.array_equal(shingle_column(layout, 2).shingles, shingle_column(column(texts), 2).shingles)
    assert len(sign_column(pa.chunked_array([], pa.string()), 2, 16).text_hash) == 0


@pytest.mark.parametrize(
    "damage", [b"\xff", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80"]
)
def test_bytes_that_are_no_utf8_are_an_error(damage: bytes) -> None:
    data = b"word " + damage
    offsets = pa.py_buffer(np.array([0, len(data)], dtype=np.int32).tobytes())
    broken = pa.chunked_array([pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)])])
    with pytest.raises(UnicodeDecodeError):
        sign_column(broken, 5, 8)
