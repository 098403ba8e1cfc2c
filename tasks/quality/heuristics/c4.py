"""C4's rules (Raffel et al. 2020, section 2.2) as bounds on measures, and its list of bad words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.quality.heuristics.config import C4Config
from tasks.quality.heuristics.rule import Floats, Rule, chosen
from tasks.quality.units import Units
from tasks.text.shingles import ngram_hashes, text_ngrams


def rules(config: C4Config) -> list[Rule]:
    """No page with lorem ipsum, a curly bracket or a bad word, none with too few sentences on the lines that count."""
    return chosen(
        ("c4_lorem_ipsum", "lorem_ipsum", ">", 0 if config.lorem_ipsum else None),
        ("c4_curly_bracket", "curly_brackets", ">", 0 if config.curly_bracket else None),
        ("c4_bad_words", "bad_words", ">", 0 if config.bad_words else None),
        ("c4_sentences", "sentences", "<", config.min_sentences),
    )


def phrase_counts(units: Units, phrases: Sequence[str]) -> Floats:
    """How often each of N texts holds one of the phrases, as whole units, in any case; shape (N,).

    In scripts without spaces a unit is a character, so that a phrase is found anywhere.
    """
    by_length: dict[int, list[np.uint64]] = {}
    for phrase in phrases:
        size = len(text_ngrams(phrase, 1))
        by_length.setdefault(size, []).append(text_ngrams(phrase, size)[0])
    counts = np.zeros(len(units.starts) - 1, dtype=np.float64)
    for size, wanted in by_length.items():
        if len(units.hashes) < size:
            continue
        places: NDArray[np.int64] = np.flatnonzero(np.isin(ngram_hashes(units.hashes, size), wanted))
        texts = np.searchsorted(units.starts, places, side="right") - 1
        inside = places + size <= units.starts[texts + 1]  # not across the end of a text
        np.add.at(counts, texts[inside], 1.0)
    return counts
