"""Dedup: exact duplicates by content hash, near-duplicates by MinHash-LSH and exact Jaccard."""

from tasks.dedup.config import DedupConfig
from tasks.dedup.stage import STAGE

__all__ = ["STAGE", "DedupConfig"]
