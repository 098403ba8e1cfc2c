"""Random draws that are functions of a row's identity, so that they are the same for ever and on every machine."""

from __future__ import annotations

import hashlib


def unit_interval(key: str, seed: int, salt: str) -> float:
    """A number in [0, 1) from BLAKE2b-64 of salt, seed and key: uniform over keys, fixed for a key."""
    digest = hashlib.blake2b(f"{salt}\0{seed}\0{key}".encode(), digest_size=8).digest()
    # 53 bits: every value is exactly representable, and 1.0 cannot occur.
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def split_of(opening_id: str, seed: int, heldout_fraction: float) -> str:
    """`heldout` for the given share of dialogues, else `train`: a function of their opening and the seed alone."""
    return "heldout" if unit_interval(opening_id, seed, "split") < heldout_fraction else "train"
