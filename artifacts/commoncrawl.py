"""A sample of one crawl of Common Crawl, chosen by hash.

A crawl publishes a list of its files for each kind (`crawl-data/<crawl>/warc.paths.gz`, `wet.paths.gz`), a path a line
below the base URL. A file is taken if the hash of seed and path falls below the fraction: the choice needs no state, is
the same on every machine, does not depend on the order of the list, and a larger fraction takes those files and more.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from artifacts.errors import UserError
from artifacts.fetch import fetch_unhashed, mirror_folders

BASE = "https://data.commoncrawl.org"
LIST_BYTES = 1 << 28  # a crawl's list has some 10 MB


class CommonCrawlBlock(BaseModel):
    """Which files of which crawl."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crawl: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*$", description="As CC-MAIN-2024-22")
    kind: Literal["warc", "wet"] = "warc"
    fraction: float = Field(gt=0, le=1, description="Share of the crawl's files; a file is some 30,000 pages")
    seed: int = 0
    most: int | None = Field(None, ge=1, description="No more files than these, the first by their hashes")
    base: str = Field(BASE, min_length=1, description="URL or folder that holds crawl-data/")

    @field_validator("base")
    @classmethod
    def _no_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @property
    def list_path(self) -> str:
        """The list's path below the base."""
        return f"crawl-data/{self.crawl}/{self.kind}.paths.gz"


def choose(paths: list[str], block: CommonCrawlBlock) -> list[str]:
    """The sampled paths, in the order of the list.

    Each is taken with probability `fraction`; of n paths, n·fraction are taken on average.
    """
    drawn = {path: _draw(path, block.seed) for path in paths}
    taken = [path for path in drawn if drawn[path] < block.fraction]
    if block.most is not None and len(taken) > block.most:
        first = set(sorted(taken, key=lambda path: (drawn[path], path))[: block.most])
        taken = [path for path in taken if path in first]
    return taken


def _draw(path: str, seed: int) -> float:
    """A number in [0, 1) that is a function of seed and path: the first 53 bits of a hash, all that a double holds."""
    digest = hashlib.blake2b(f"{seed}\n{path}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def find_files(block: CommonCrawlBlock, where: str) -> list[tuple[str, Path, str | None]]:
    """(base name, local file, URL) of each sampled file, in the order of the crawl's list.

    A file is looked for below `base` if that is a folder, then below each folder of `CRAWL2CHAT_MIRROR` under the same
    path (`crawl-data/…`; the lists give no hashes), then in the cache, then fetched.

    Args:
        where: the manifest, for messages.

    Raises:
        UserError: the list or a file is not to be had, the list is damaged, or the sample is empty.
    """
    listed = _find(block, block.list_path, where)
    try:
        with gzip.open(listed, "rb") as stream:
            text = stream.read(LIST_BYTES).decode("utf8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {listed}, the list of {block.crawl}, cannot be read ({error}); delete it") from error
    paths = [line.strip() for line in text.splitlines() if line.strip()]
    for path in paths:
        if path.startswith("/") or ".." in path.split("/") or "://" in path:
            raise UserError(f"{where}: {listed} names {path[:200]!r}, which is no path below {block.base}")
    chosen = choose(paths, block)
    if not chosen:
        raise UserError(
            f"{where}: no file of {block.crawl} is in the sample: it lists {len(paths)} {block.kind} files, and"
            f" commoncrawl.fraction is {block.fraction:g} (one file is {1 / max(1, len(paths)):.2g})"
        )
    url = f"{block.base}/" if "://" in block.base else None
    return [(path.rpartition("/")[2], _find(block, path, where), url and url + path) for path in chosen]


def _find(block: CommonCrawlBlock, path: str, where: str) -> Path:
    folders = [*mirror_folders()] if "://" in block.base else [Path(block.base).expanduser(), *mirror_folders()]
    for folder in folders:
        if os.path.isfile(found := folder / path):
            return found
    if "://" not in block.base:
        raise UserError(f"{where}: {path} is not in {block.base}, nor in a folder of CRAWL2CHAT_MIRROR")
    try:
        return fetch_unhashed(f"{block.base}/{path}")
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
