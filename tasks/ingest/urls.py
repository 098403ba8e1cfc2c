"""What ingest compares URLs with: the blocklist and the normal form, as the store's own takedowns use them."""

from __future__ import annotations

from functools import lru_cache

from artifacts.audit.blocklist import Blocklist
from artifacts.urls import canonical_url as _canonical_url
from artifacts.urls import strip_uri

canonical_url = lru_cache(maxsize=16)(_canonical_url)  # asked for three times a record

__all__ = ["Blocklist", "canonical_url", "strip_uri"]
