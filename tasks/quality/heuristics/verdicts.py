"""Measuring texts by all rules, and the verdict: which rule each text fails first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.quality.heuristics import c4, fineweb, gopher
from tasks.quality.heuristics.config import GopherConfig, HeuristicsConfig
from tasks.quality.heuristics.lines import line_measures
from tasks.quality.heuristics.repetition import repetition_measures
from tasks.quality.heuristics.rule import Floats, Measures, Rule
from tasks.quality.units import Units, units_of
from tasks.text.shingles import unit_hashes

__all__ = ["Rule", "Verdict", "judge_texts", "measure_texts", "rules_of"]


def rules_of(config: HeuristicsConfig) -> list[Rule]:
    """The rules that are on, in the order in which they are asked: the first that a document fails is its reason."""
    return [
        *(gopher.quality_rules(config.gopher) if config.gopher.enabled else ()),
        *(gopher.repetition_rules(config.repetition) if config.repetition.enabled else ()),
        *(c4.rules(config.c4) if config.c4.enabled else ()),
        *(fineweb.rules(config.fineweb) if config.fineweb.enabled else ()),
    ]


def measure_texts(texts: pa.Array, languages: pa.Array, config: HeuristicsConfig) -> Measures:
    """What the rules that are on need to know of N texts, by name; each measure has the shape (N,)."""
    measures = line_measures(texts, config)
    needs_stop_words = config.gopher.enabled and config.gopher.min_stop_words is not None
    bad_words = config.c4.bad_words if config.c4.enabled else ()
    if not (needs_stop_words or bad_words or config.repetition.enabled):
        return measures
    units = units_of(texts)
    if needs_stop_words:
        measures["stop_words"] = stop_word_counts(units, languages, config.gopher)
    if bad_words:
        measures["bad_words"] = c4.phrase_counts(units, bad_words)
    if config.repetition.enabled:
        measures |= repetition_measures(units, config.characters_per_word)
    return measures


def stop_word_counts(units: Units, languages: pa.Array, config: GopherConfig) -> Floats:
    """How many different stop words each of N texts has, shape (N,); NaN where they are not of its language."""
    counts = np.zeros(len(units.starts) - 1, dtype=np.float64)
    for word in _hashes(config.stop_words):
        places = np.flatnonzero(units.hashes == word)
        counts[np.unique(np.searchsorted(units.starts, places, side="right") - 1)] += 1
    spoken = pc.is_in(languages, value_set=pa.array(config.stop_word_languages, languages.type))
    return np.where(spoken.to_numpy(zero_copy_only=False), counts, np.nan)


@cache
def _hashes(words: tuple[str, ...]) -> list[np.uint64]:
    return list(dict.fromkeys(unit_hashes(word.casefold())[0] for word in words))


@dataclass(frozen=True)
class Verdict:
    """What the rules say of N documents.

    Attributes:
        first: (N,) int32, the number of the first rule that a document fails; -1 if it fails none.
        values: (N,) float64, what that rule measured; 0 if there is none.
        failing: (R,) int64, documents that fail each rule, whatever they failed before.
        exempt_failing: exempt documents that fail some rule.
    """

    first: NDArray[np.int32]
    values: Floats
    failing: NDArray[np.int64]
    exempt_failing: int


def judge_texts(texts: pa.Array, languages: pa.Array, config: HeuristicsConfig, exempt: NDArray[np.bool_]) -> Verdict:
    """Measure N texts and ask every rule; those `exempt` pass, and are counted by themselves."""
    rules = rules_of(config)
    measures = measure_texts(texts, languages, config)
    first, values = np.full(len(texts), -1, dtype=np.int32), np.zeros(len(texts))
    failing, exempt_fails = np.zeros(len(rules), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_)
    for number, rule in enumerate(rules):
        fails = rule.fails(measures)
        exempt_fails |= fails & exempt
        fails &= ~exempt
        failing[number] = int(fails.sum())
        new = fails & (first < 0)
        first[new], values[new] = number, measures[rule.measure][new]
    return Verdict(first, values, failing, int(exempt_fails.sum()))
