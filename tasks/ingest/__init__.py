"""Ingest: WARC, WET and ARC archives, and curated texts, to documents with an account of every record."""

from tasks.ingest.config import IngestConfig
from tasks.ingest.stage import STAGE

__all__ = ["STAGE", "IngestConfig"]
