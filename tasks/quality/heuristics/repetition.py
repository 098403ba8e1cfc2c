"""How much of a text repeats itself: the most frequent n-gram and the repeated n-grams of Gopher's table A1.

A repeated n-gram is one that occurred before in the text, so that the first occurrence does not count; a character that
several of them cover counts once (Rae et al. 2021, appendix A.1.1). Shares are of the characters of all units, spaces
and punctuation left out. In a text most of whose characters are of scripts without spaces, where a unit is a character,
an n-gram of words is ceil(n * characters_per_word) characters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.quality.heuristics.rule import Measures
from tasks.quality.units import Units
from tasks.text.compiled import compiled

TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)
_FOLD, _MIX, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD), np.uint64(33)


def repetition_measures(units: Units, characters_per_word: float) -> Measures:
    """`top_2_gram` to `top_4_gram` and `duplicate_5_grams` to `duplicate_10_grams` of N texts, each of shape (N,).

    All are shares of characters in [0, 1]; 0 for a text with fewer units, and for a top n-gram that occurs once.
    """
    sizes = np.array([*TOP, *DUPLICATE], dtype=np.int64)
    lone_sizes = np.ceil(sizes * characters_per_word).astype(np.int64)
    shares = _shares(units.starts, units.hashes, units.sizes, units.lone, sizes, lone_sizes, len(TOP))
    names = [*(f"top_{n}_gram" for n in TOP), *(f"duplicate_{n}_grams" for n in DUPLICATE)]
    return dict(zip(names, shares.T, strict=True))


@compiled
def _shares(starts: Any, hashes: Any, lengths: Any, lone: Any, sizes: Any, lone_sizes: Any, tops: int) -> Any:
    """Shape (N, len(sizes)): of the first `tops` sizes the share of the top n-gram, else of the repeated ones."""
    documents = len(starts) - 1
    out = np.zeros((documents, len(sizes)))
    room = 1024
    keys, counts = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.int64)
    stamps, ends = np.zeros(room, dtype=np.int64), np.zeros(room, dtype=np.int64)
    stamp = 0
    for document in range(documents):
        first, end = starts[document], starts[document + 1]
        if room < 2 * (end - first):
            while room < 2 * (end - first):
                room *= 2
            keys, counts = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.int64)
            stamps, ends = np.zeros(room, dtype=np.int64), np.zeros(room, dtype=np.int64)
        # Sizes ascend, so the hash of an n-gram goes on from that of the shorter one at the same place.
        values, hashed = np.full(end - first, _FOLD, dtype=np.uint64), 0
        total, without_spaces = 0, 0
        for unit in range(first, end):
            total += lengths[unit]
            without_spaces += lengths[unit] * lone[unit]
        chosen = lone_sizes if 2 * without_spaces > total else sizes
        for which in range(len(sizes)):
            n = chosen[which]
            stamp += 1
            # Characters covered by repeated n-grams, and by the n-gram that covers most.
            covered, covered_to, most = 0, first, 0
            for unit in range(first, end - n + 1):
                value = values[unit - first]
                for place in range(unit + hashed, unit + n):
                    value = (value ^ hashes[place]) * _MIX
                    value ^= value >> _SHIFT
                values[unit - first] = value
                slot = np.int64(value & np.uint64(room - 1))
                while stamps[slot] == stamp and keys[slot] != value:
                    slot = (slot + 1) & (room - 1)
                again = stamps[slot] == stamp
                if which < tops:
                    begin = unit if not again else max(unit, ends[slot])
                    new = 0
                    for place in range(begin, unit + n):
                        new += lengths[place]
                    if not again:
                        keys[slot], stamps[slot], counts[slot] = value, stamp, 0
                    counts[slot] += new
                    ends[slot] = unit + n
                    if again:
                        most = max(most, counts[slot])
                elif again:
                    for place in range(max(unit, covered_to), unit + n):
                        covered += lengths[place]
                    covered_to = unit + n
                else:
                    keys[slot], stamps[slot] = value, stamp
            hashed = n
            if total:
                out[document, which] = (most if which < tops else covered) / total
    return out
