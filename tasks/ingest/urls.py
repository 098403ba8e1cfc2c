"""What ingest compares URLs with: the blocklist and the normal form, as the store's own takedowns use them."""

from __future__ import annotations

from artifacts.audit.blocklist import Blocklist
from artifacts.urls import canonical_url, strip_uri

__all__ = ["Blocklist", "canonical_url", "strip_uri"]
