"""What differs between two artifacts of a stage: config, inputs, sources, code, counts, metrics, files and rows.

Rows are compared by key in DuckDB: by `doc_id`, `prompt_id` or what else names a row in its table, and by number where
nothing does. Tables whose files have equal hashes are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from artifacts.audit.diff_rows import diff_table
from artifacts.errors import UserError
from artifacts.manifest import Manifest, SourceEntry
from artifacts.query import side_by_side
from artifacts.store import Artifact, Store

LIMIT = 20


def diff(store: Store, a: str, b: str, *, limit: int = LIMIT) -> dict[str, Any]:
    """What differs between the artifacts that two references name, `a` before `b`.

    Args:
        limit: examples of each kind of difference; counts are always of all.

    Returns:
        `a` and `b` (artifact, content, path, made when and by whom), `same` (whether the contents are equal), `config`
        and `outside_recipe` (field, a, b), `inputs` (name, a, b), `sources` (added, removed, changed), `code`,
        `environment`, `counts` and `reasons` (name, a, b, delta), `metrics` (name, a, b, delta), `files`, and `tables`:
        of each its key, rows, and the numbers and examples of rows only in one, and of changed ones with the columns.

    Raises:
        UserError: a reference names no artifact, or the two are of different stages.
    """
    first, second = store.resolve(a), store.resolve(b)
    if first.stage != second.stage:
        raise UserError(
            f"{first.ref} and {second.ref} are of different stages: there is nothing to compare row by row. `lineage` "
            "shows how they hang together, `why` what became of a page between them"
        )
    old, new = first.manifest, second.manifest
    return {
        "stage": first.stage,
        "a": _about(first),
        "b": _about(second),
        "same": old.content == new.content,
        "config": _fields(
            {**old.config, "seed": old.seed, "stage_version": old.stage_version},
            {**new.config, "seed": new.seed, "stage_version": new.stage_version},
        ),
        "outside_recipe": _fields(old.outside_recipe, new.outside_recipe),
        "inputs": _inputs(old, new),
        "sources": _sources(old.sources, new.sources),
        "code": _fields(old.code, new.code),
        "environment": _fields(old.environment, new.environment),
        "counts": _numbers(old.counts.model_dump(exclude={"reasons"}), new.counts.model_dump(exclude={"reasons"})),
        "reasons": _numbers(old.counts.reasons, new.counts.reasons, default=0),
        "metrics": _numbers(flat(old.metrics), flat(new.metrics)),
        "files": _files(old, new),
        "tables": side_by_side(partial(diff_table, first, second, name, limit) for name in _tables(old, new)),
    }


def _about(artifact: Artifact) -> dict[str, Any]:
    block = artifact.manifest.run
    return {
        "artifact": artifact.ref,
        "content": artifact.manifest.content,
        "path": artifact.path,
        "finished": block.finished,
        "run": block.run_id,
    }


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names. Lists are values; those of mappings are numbered."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        place = f"{prefix}{name}"
        if isinstance(inner, Mapping) and inner:
            found |= flat(inner, f"{place}.")
        elif isinstance(inner, list) and inner and all(isinstance(part, Mapping) for part in inner):
            found |= flat({str(number): part for number, part in enumerate(inner)}, f"{place}.")
        else:
            found[place] = inner
    return found


def _fields(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fields that differ, by their dotted names; null where one has no such field."""
    old, new = flat(a), flat(b)
    return [
        {"field": name, "a": old.get(name), "b": new.get(name)}
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) or (name in old) != (name in new)
    ]


def _numbers(a: Mapping[str, Any], b: Mapping[str, Any], default: Any = None) -> list[dict[str, Any]]:
    """Entries that differ, with `delta` = b − a where both are numbers."""
    found = []
    for name in sorted({*a, *b}):
        old, new = a.get(name, default), b.get(name, default)
        if old != new:
            numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
            found.append({"name": name, "a": old, "b": new, "delta": new - old if numbers else None})
    return found


def _inputs(old: Manifest, new: Manifest) -> list[dict[str, Any]]:
    """Inputs whose contents differ, by name; several artifacts of one input are compared in their order."""
    found = []
    for name in dict.fromkeys(entry.name for entry in [*old.inputs, *new.inputs]):
        a, b = (
            [{"artifact": e.artifact, "content": e.content} for e in manifest.inputs if e.name == name]
            for manifest in (old, new)
        )
        if [entry["content"] for entry in a] != [entry["content"] for entry in b]:
            found.append({"name": name, "a": a, "b": b})
    return found


def _sources(old: Sequence[SourceEntry], new: Sequence[SourceEntry]) -> dict[str, list[dict[str, Any]]]:
    """External files: those only in one, and those of one name whose bytes or reader differ."""

    def place(entry: SourceEntry) -> tuple[str, str, str]:
        return entry.manifest or "", entry.role or "", entry.name

    def row(entry: SourceEntry) -> dict[str, Any]:
        return entry.model_dump(include={"name", "manifest", "role", "sha256", "bytes"})

    left = {entry.identity: entry for entry in old}
    right = {entry.identity: entry for entry in new}
    gone = {place(entry): entry for identity, entry in left.items() if identity not in right}
    come = {place(entry): entry for identity, entry in right.items() if identity not in left}
    return {
        "added": [row(entry) for where, entry in come.items() if where not in gone],
        "removed": [row(entry) for where, entry in gone.items() if where not in come],
        "changed": [
            {"name": entry.name, "manifest": entry.manifest, "role": entry.role}
            | {"a": row(gone[where]), "b": row(entry)}
            for where, entry in come.items()
            if where in gone
        ],
    }


def _files(old: Manifest, new: Manifest) -> list[dict[str, Any]]:
    """Files that differ: hash and bytes of each, null where there is none."""
    found = []
    for name in sorted({*old.files, *new.files}):
        a, b = old.files.get(name), new.files.get(name)
        if (a and a.sha256) != (b and b.sha256) and name != "README.md":
            found.append({"file": name, "a": a and a.model_dump(), "b": b and b.model_dump()})
    return found


def _tables(old: Manifest, new: Manifest) -> list[str]:
    names = {name.partition("/")[0] for manifest in (old, new) for name in manifest.files if name.endswith(".parquet")}
    return sorted(names, key=lambda name: (name != "data", name))
