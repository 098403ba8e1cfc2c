"""Blocklists: URLs, hosts and documents that must not be read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from artifacts.urls import canonical_url, idna, strip_uri

__all__ = ["Blocklist", "canonical_url", "strip_uri"]

_DOC_ID = re.compile(r"[0-9a-f]{32}")


class Blocklist:
    """URLs, hosts (with all below them) and doc_ids that must not be read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._doc_ids: set[str] = set()
        self._urls: set[str] = set()
        self._bare: set[str] = set()
        self._hosts: set[str] = set()
        for line in lines:
            entry = re.sub(r"(?:^|\s)#.*$", "", line).strip()
            if entry:
                self._add(entry)

    def _add(self, entry: str) -> None:
        if _DOC_ID.fullmatch(entry.lower()):
            self._doc_ids.add(entry.lower())
        elif re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:(?!\d+(/|$))", entry):
            self._urls.add(canonical_url(entry))
        elif "/" in entry.rstrip("/"):
            self._bare.add(canonical_url("http://" + entry).partition("://")[2])
        else:
            self._hosts.add(idna(entry.rstrip("/").removeprefix("*.").removeprefix(".")))

    def __len__(self) -> int:
        return len(self._doc_ids) + len(self._urls) + len(self._bare) + len(self._hosts)

    def match(self, canonical: str, doc_id: str) -> str | None:
        """What of the list names this document: `doc_id`, `url` or the host entry; None if nothing does."""
        if doc_id in self._doc_ids:
            return "doc_id"
        if canonical in self._urls or canonical.partition("://")[2] in self._bare:
            return "url"
        if not self._hosts:
            return None
        try:
            host = urlsplit(canonical).hostname or ""
        except ValueError:
            return None
        labels = host.split(".")
        for start in range(len(labels)):
            if (suffix := ".".join(labels[start:])) in self._hosts:
                return f"host {suffix}"
        return None
