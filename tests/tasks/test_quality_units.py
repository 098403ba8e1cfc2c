"""quality: units scanned from Arrow's buffers are those of tasks.text; scores are fastText's own."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.quality import classifier
from tasks.quality.classifier import CURATED, line_of
from tasks.quality.config import ClassifierConfig
from tasks.quality.scoring import load_scorer, score_texts
from tasks.quality.units import units_of
from tasks.text.normalise import normalise
from tasks.text.segment import spaced, units
from tasks.text.shingles import unit_hashes

# A plain one, one of every way in which folding depends on neighbours, and text of every kind of script.
TEXTS = [
    "", " \n", "a", "Hello, World_foo 3.14", "网页 text", "é e\u0301 İstanbul", "ﬁne ½ ㌕㍿ ﷺ", "ที่นี่ ประเทศไทย",
    "हिन्दी भाषा", "Straße ǅ ΑΣ", "soft\u00adhyphen z\u200dwj", "\u037a\u031f", "ᾳ\u0355x", "한국어 \u1112\u1161\u11ab",
    "𠀀𠀁 ab", "a\u0323\u0307 a\u0307\u0323", "´ ¨ ``", "アパート　ｱﾊﾟｰﾄ", "ABC\u3099", "\u0e31\u0e34 ก\u0e31", "_",
]  # fmt: skip


def random_texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    assigned = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    pools = [
        assigned,
        assigned[:200],
        assigned[:3000],
        [chr(c) for c in range(0x900, 0xF00)],
        [chr(c) for c in range(128)],
    ]
    return ["".join(draw.choices([*draw.choice(pools), *(" " * 9)], k=draw.randrange(50))) for _ in range(count)]


def test_units_are_those_of_every_text() -> None:
    texts = [*TEXTS, *random_texts(1, 1_500)]
    found = units_of(pa.array(texts))
    for number, text in enumerate(texts):
        mine = slice(found.starts[number], found.starts[number + 1])
        expected = units(text)
        assert found.sizes[mine].tolist() == [len(unit) for unit in expected], ascii(text)
        assert found.hashes[mine].tolist() == unit_hashes(spaced(normalise(text))).tolist()[: len(expected)]
    assert found.lone[: found.starts[5]].tolist() == [False, False, False, False, False, False, True, True, False]


def test_slices_nulls_and_large_strings_are_read_like_any_array() -> None:
    texts = pa.array(["skipped", "one two", None, "网页", "skipped"])
    for array in (texts.slice(1, 3), texts.slice(1, 3).cast(pa.large_string())):
        found = units_of(array)
        assert found.starts.tolist() == [0, 2, 2, 4] and found.sizes.tolist() == [3, 3, 1, 1]
    assert units_of(pa.array([], pa.string())).starts.tolist() == [0]


@pytest.mark.parametrize(("ngrams", "buckets"), [(1, 4_096), (2, 4_096), (3, 5_000)])
def test_scores_are_those_that_fasttext_predicts(tmp_path: Path, ngrams: int, buckets: int) -> None:
    import fasttext

    draw = random.Random(5)
    words = [f"wörd{n}" for n in range(200)] + list("网页文字")
    lines = [
        f"{label} {line_of(' '.join(draw.choices(words[at : at + 120], k=30)))}"
        for at, label in ((0, CURATED), (84, classifier.CRAWL))
        for _ in range(40)
    ]
    model = tmp_path / "classifier.bin"
    config = ClassifierConfig(dim=5, word_ngrams=ngrams, buckets=buckets, epochs=20)
    classifier.train(lines, config, 3, tmp_path / "work", model)
    texts = [*TEXTS, *(" ".join(draw.choices([*words, "unheard", "of"], k=size)) for size in range(1, 60))]
    labels, chances = fasttext.load_model(str(model)).predict([line_of(text) for text in texts], k=2)
    peer = [dict(zip(a, b, strict=True))[CURATED] for a, b in zip(labels, chances, strict=True)]
    scores = score_texts(str(model), pa.array(texts))
    # fastText adds 1e-5 before it takes a logarithm.
    assert np.abs(scores + 1e-5 - peer).max() < 2e-6
    assert scores.min() < 0.2 and scores.max() > 0.8
    # A text's score does not depend on what is scored beside it.
    scorer = load_scorer(str(model))
    assert [scorer(units_of(pa.array([text])))[0] for text in texts[:12]] == scores[:12].tolist()
