"""Language identification with py3langid's model (Barbaresi; after langid.py, Lui and Baldwin 2012).

Its automaton walks over every byte in Python; here the walk is compiled and the model's half-precision table widened
once. The scores are those of py3langid, digit for digit (tests/tasks/test_ingest_language.py).
What it gets right, and what else was tried: benchmarks/language_id.py.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tasks.text.compiled import compiled

Array = np.ndarray[Any, Any]

# The time grows with the text, the answer hardly changes: from 200 characters on, 98.7% of those sentences are right.
# The middle counts as well because pages often open with an English menu.
HEAD = 1_000
MIDDLE = 2_000


@compiled
def count_features(text: Array, moves: Array, rows: Array, outputs: Array, counts: Array, found: Array) -> int:
    """Walk the automaton over `text` (uint8) and count the features that it meets, in the order of first sight.

    `counts` (zeros, one a feature) is added to, `found` gets the features' numbers; how many they are is returned.
    """
    state = 0
    distinct = 0
    for byte in text:
        state = moves[(np.int64(rows[state]) << 8) + byte]
        feature = outputs[state]
        if feature >= 0:
            if counts[feature] == 0:
                found[distinct] = feature
                distinct += 1
            counts[feature] += 1
    return distinct


@dataclass(frozen=True)
class _Model:
    """py3langid's naive Bayes model over byte n-grams, restricted to languages with a two-letter code.

    Attributes:
        aliases: (first, second) places of a language that has two, one a script.
        weights: float32, features × languages; `prior`: float32, one a language.
        moves, rows, outputs: the automaton: next state by row and byte, each state's row and feature (−1 for none).
    """

    languages: tuple[str, ...]
    aliases: tuple[tuple[int, int], ...]
    weights: Array
    prior: Array
    moves: Array
    rows: Array
    outputs: Array

    def classify(self, text: str) -> tuple[str, float]:
        """The likeliest language and its probability, as `LanguageIdentifier.classify` with `norm_probs` gives them."""
        if text.isupper():
            text = text.lower()
        data = np.frombuffer(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass"), np.uint8)
        counts = np.zeros(len(self.weights), np.float32)
        found = np.empty(min(len(data), len(self.weights)), np.int64)
        distinct = count_features(data, self.moves, self.rows, self.outputs, counts, found)
        scores = np.zeros_like(self.prior)
        if distinct:
            seen = found[:distinct]
            scores = np.log1p(counts[seen]) @ self.weights[seen] + self.prior
        # Dividing by the root of the length keeps the probabilities of long texts from all being 1 (py3langid).
        scores *= 1.0 / math.sqrt(len(data) or 1)
        np.exp(scores - scores.max(), out=scores)
        scores /= scores.sum()
        for first, second in self.aliases:
            scores[first] += scores[second]
            scores[second] = 0.0
        best = int(scores.argmax())
        return self.languages[best], float(scores[best])


@cache
def _model() -> _Model:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Without this, reference pages in English came out as Nigerian Pidgin and Chinese ones as Wu, and a filter by
    # `en` or `zh` lost them.
    identifier.set_languages(sorted(label for label in set(identifier.labels) if len(label) == 2))
    languages = list(identifier.nb_classes)
    return _Model(
        languages=tuple(languages),
        aliases=tuple((languages.index(name), at) for at, name in enumerate(languages) if languages.index(name) < at),
        weights=np.ascontiguousarray(identifier.nb_ptc, dtype=np.float32),
        prior=np.asarray(identifier.nb_pc, dtype=np.float32),
        moves=np.asarray(identifier.tk_nextmove),
        rows=np.asarray(identifier.tk_row),
        outputs=np.asarray(identifier.tk_output, dtype=np.int32),
    )


def identify(text: str) -> tuple[str, float]:
    """(ISO 639-1 code of the likeliest language, its probability among the model's languages in [0, 1]).

    The first 1,000 characters and 2,000 from the middle are looked at. `und` with 0.0 for a text without letters.
    Only languages that have a two-letter code are considered. Six decimals: beyond them, floating point differs between
    machines.
    """
    if len(text) > HEAD + MIDDLE:
        middle = max(HEAD, (len(text) - MIDDLE) // 2)
        text = f"{text[:HEAD]}\n{text[middle : middle + MIDDLE]}"
    if not any(character.isalpha() for character in text):
        return "und", 0.0
    language, probability = _model().classify(text)
    return language, round(probability, 6)
