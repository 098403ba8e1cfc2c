"""Language identification with py3langid (Barbaresi; after langid.py, Lui and Baldwin 2012), whose model it ships.

Measured on the 490 sentences of BIG-bench's language identification set that are in 50 larger languages: 94.7% right,
against 77.1% for resiliparse's detector (below 100 characters 91.8% against 58.9%), at 0.12 ms a sentence.
"""

from __future__ import annotations

from functools import cache
from typing import Any

# A page's language shows early; the model's time grows with the text.
HEAD = 20_000


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(text: str) -> tuple[str, float]:
    """(ISO 639-1 code of the likeliest language, its probability among the model's languages in [0, 1]).

    The first 20,000 characters are looked at. `und` with 0.0 for a text without letters. Languages without a
    two-letter code have their three-letter one. Six decimals: beyond them, floating point differs between machines.
    """
    head = text[:HEAD]
    if not any(character.isalpha() for character in head):
        return "und", 0.0
    language, probability = _identifier().classify(head)
    return str(language), round(float(probability), 6)
