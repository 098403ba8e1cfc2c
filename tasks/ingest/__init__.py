"""Ingest: WARC, WET and ARC archives, and curated texts, to documents with an account of every record."""

from typing import TYPE_CHECKING

from tasks.ingest.config import IngestConfig
from tasks.lazily import names_of

if TYPE_CHECKING:
    from tasks.ingest.stage import STAGE

__all__ = ["STAGE", "IngestConfig"]
__getattr__ = names_of(f"{__name__}.stage", __all__)
