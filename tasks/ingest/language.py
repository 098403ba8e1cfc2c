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


# The automaton's table has 39 MB, so that a step waits for memory: the text is walked in several places at once. A
# state depends on the last 6 bytes (the longest n-gram), so that a walk begun a bit earlier is right where it counts.
LANES = 8
LEAD = 16


@compiled
def walk(text: Array, moves: Array, rows: Array, outputs: Array, met: Array) -> None:
    """Walk the automaton over `text` (uint8): `met` (int32, one a byte) gets the feature met there, −1 for none."""
    size = len(text)
    piece = -(-size // LANES)
    states = np.zeros(LANES, np.int64)
    for step in range(-LEAD, piece):
        for lane in range(LANES):
            at = lane * piece + step
            # Unsigned, the indices need no look for negative ones.
            if 0 <= at < size:
                here = np.uint64(at)
                state = moves[np.uint64((np.int64(rows[np.uint64(states[lane])]) << 8) + text[here])]
                states[lane] = state
                if step >= 0:
                    met[here] = outputs[np.uint64(state)]


@compiled
def count_features(met: Array, found: Array, counts: Array) -> int:
    """Count what `met` holds, in the order of first sight; how many different ones there are is returned.

    `found` (int64) gets the features' numbers, `counts` (float32) how often each occurs. Both are as long as `met`.
    """
    size = 64
    while size < 2 * len(met):
        size *= 2
    table = np.full(size, -1, np.int32)  # open addressing: the place in `found`
    mask = np.uint64(size - 1)
    distinct = 0
    for feature in met:
        if feature < 0:
            continue
        slot = (np.uint64(feature) * np.uint64(0x9E3779B1)) & mask
        while table[slot] >= 0 and found[table[slot]] != feature:
            slot = (slot + np.uint64(1)) & mask
        place = table[slot]
        if place < 0:
            place = table[slot] = distinct
            found[place] = feature
            counts[place] = 0
            distinct += 1
        counts[place] += 1
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
        met = np.empty(len(data), np.int32)
        walk(data, self.moves, self.rows, self.outputs, met)
        found, counts = np.empty(len(data), np.int64), np.empty(len(data), np.float32)
        distinct = count_features(met, found, counts)
        scores = np.zeros_like(self.prior)
        if distinct:
            scores = np.log1p(counts[:distinct]) @ self.weights.take(found[:distinct], axis=0) + self.prior
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
