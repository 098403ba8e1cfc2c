"""External files: data manifests, and finding each file by its hash in cache, mirror or network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """One external file, local and checked.

    Attributes:
        name: base name as upstream spells it (what `warc_file` and error messages show).
        path: the local file.
        source: the value of the `source` column for rows that come from it.
        manifest: name of its data manifest, None for a bare path.
        options: reader options of its data manifest (`format` and others).
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    source: str
    manifest: str | None = None
    role: str | None = None
    licence: str | None = None
    url: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)


def resolve_sources(entries: Sequence[str], default_source: str) -> list[Source]:
    """The files behind config entries: each a data manifest (`*.yaml`), a path, a glob or a URL. In order."""
    raise RuntimeError("written by the ingest work")
