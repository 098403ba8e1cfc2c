"""Hashes that identify things: files, configs, recipes and contents. SHA-256 throughout; names show 16 hex digits.

A file's BLAKE3 stands beside its SHA-256: the store's own checks recompute that one. Where the processor has no SHA
extensions it takes an eighth of the time (2 against .2 to .4 gigabytes a second by a core of a Xeon with AVX-512).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from blake3 import blake3

SHORT = 16
BLOCK = 2**20  # bytes read at a time: they are still in the processor's cache when they are hashed
HashName = Literal["sha256", "blake3"]
File = TypeVar("File")
Found = TypeVar("Found")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes (RFC 8785's idea, not its number rules)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_stream(stream: BinaryIO, *kinds: HashName) -> tuple[tuple[str, ...], int]:
    """The hashes asked for (64 hex digits each) of all that is left to read, by one reading; and its bytes."""
    hashes = [blake3() if kind == "blake3" else hashlib.sha256() for kind in kinds]
    size = 0
    while block := stream.read(BLOCK):
        size += len(block)
        for found in hashes:
            found.update(block)
    return tuple(found.hexdigest() for found in hashes), size


def digest_file(path: str | Path, kind: HashName = "sha256") -> str:
    """SHA-256 or BLAKE3 (64 hex digits) of a file's bytes."""
    return digests_of_file(path, kind)[0]


def digests_of_file(path: str | Path, *kinds: HashName) -> tuple[str, ...]:
    """`digest_stream` of a file's bytes."""
    with open(path, "rb", buffering=0) as stream:
        return digest_stream(stream, *kinds)[0]


def a_file_a_core(digest: Callable[[File], Found], files: Sequence[File]) -> list[Found]:
    """`digest` of each, in order, by as many threads as there are cores: hashing lets other threads run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(cores, len(files)) < 2:
        return [digest(file) for file in files]
    with ThreadPoolExecutor(min(cores, len(files))) as threads:
        return list(threads.map(digest, files))


def content_digest(files: Mapping[str, str]) -> str:
    """The digest of an artifact's content: of its relative paths and their SHA-256, in path order.

    `README.md` and `manifest.json` are not content: they hold times and prose and may differ between equal builds.
    """
    return digest_json([[path, files[path]] for path in sorted(files) if path not in OUTSIDE_CONTENT])


OUTSIDE_CONTENT = frozenset({"README.md", "manifest.json"})


def source_identity(sha256: str, name: str, role: str | None, source: str | None, options: Mapping[str, Any]) -> str:
    """A digest of all that may change what is read from an external file: content, name, role, source and options."""
    return digest_json([sha256, name, role, source, dict(options)])


def recipe_digest(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, list[str]],
    sources: list[str],
    seed: int,
) -> str:
    """The recipe of an artifact: what was to be done, to which content (DESIGN section 3).

    Args:
        config: the fields that may change the result, as plain JSON values.
        inputs: input name to the content digests of the artifacts given for it, in order.
        sources: identities of the external files that the stage reads (content, name, role, options), in order.
    """
    return digest_json(
        {
            "stage": stage,
            "version": version,
            "config": config,
            "inputs": inputs,
            "sources": sources,
            "seed": seed,
        }
    )[:SHORT]
