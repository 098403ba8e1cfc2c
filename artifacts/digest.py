"""Hashes that identify things: files, configs, recipes and contents. SHA-256 throughout; names show 16 hex digits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SHORT = 16


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes (RFC 8785's idea, not its number rules)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_files(paths: Sequence[str | Path]) -> list[str]:
    """`digest_file` of each, in order, a file a core at a time: hashing lets other threads run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if min(cores, len(paths)) < 2:
        return [digest_file(path) for path in paths]
    with ThreadPoolExecutor(min(cores, len(paths))) as threads:
        return list(threads.map(digest_file, paths))


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
