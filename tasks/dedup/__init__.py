"""Dedup: exact duplicates by content hash, near-duplicates by MinHash-LSH and exact Jaccard."""

from typing import TYPE_CHECKING

from tasks.dedup.config import DedupConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.dedup.stage import STAGE

__all__ = ["STAGE", "DedupConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
