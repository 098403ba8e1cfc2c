"""MinHash signatures, bit-equal to datasketch 2.0's `affine32` scheme, and the arithmetic of LSH bands.

datasketch hashes and permutes a document at a time in Python; here a compiled loop does a document in one pass. The
permutations are datasketch's own, so a signature of this module can be put into a `datasketch.MinHash` and back.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.compiled import compiled
from tasks.text.shingles import Hashes

SCHEME = "affine32"
PERMUTATION_SEED = 1  # datasketch's default. Never the run's seed: signatures of different crawls must be comparable.

Signature = NDArray[np.uint32]


def candidate_probability(jaccard: float, bands: int, rows: int) -> float:
    """The chance that two sets of this Jaccard similarity share at least one band: 1 − (1 − s^rows)^bands.

    Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2. For FineWeb's 14 × 8: .5 → .053,
    .6 → .211, .7 → .565, .8 → .924.
    """
    return float(1.0 - (1.0 - jaccard**rows) ** bands)


@cache
def permutations(count: int) -> tuple[Signature, Signature]:
    """datasketch's (a, b) of h → a·h + b mod 2^32, `count` of each, every a odd."""
    from datasketch import MinHash  # half of the time that a plan would spend on imports: it brings scipy

    a, b = MinHash(num_perm=count, seed=PERMUTATION_SEED, scheme=SCHEME).permutations
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


def shingle_hash32(shingles: Hashes) -> Signature:
    """The 32 bits of each shingle that MinHash sees: the upper half."""
    return (shingles >> np.uint64(32)).astype(np.uint32)


def signature(shingles: Hashes, count: int) -> Signature:
    """`count` minima, one a permutation. A set without shingles has 2^32 − 1 everywhere."""
    a, b = permutations(count)
    out = np.full(count, 0xFFFFFFFF, dtype=np.uint32)
    _minima(shingle_hash32(shingles), a, b, out)
    return out


def band_keys(signatures: Signature, bands: int, rows: int) -> Hashes:
    """(documents, bands × rows) signatures → (documents, bands) keys: equal bands have equal keys."""
    parts = signatures.reshape(len(signatures), bands, rows).astype(np.uint64)
    keys = np.zeros((len(signatures), bands), dtype=np.uint64)
    for row in range(rows):
        keys = (keys ^ parts[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


@compiled
def _minima(hashes: Signature, a: Signature, b: Signature, out: Any) -> None:
    # The inner loop runs over permutations: they stay in the first-level cache and fill the vector units.
    for value in hashes:
        h = np.uint32(value)
        h = np.uint32(h ^ (h >> np.uint32(16)))
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h = np.uint32(h ^ (h >> np.uint32(13)))
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        h = np.uint32(h ^ (h >> np.uint32(16)))
        for p in range(len(out)):
            permuted = np.uint32(a[p] * h + b[p])
            if permuted < out[p]:
                out[p] = permuted
