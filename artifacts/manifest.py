"""`manifest.json`: what an artifact is, how it was made and what is in it. Its presence is the commit mark.

The JSON schema is published as `docs/manifest.schema.json` (`python -m artifacts.manifest` prints it).
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from artifacts.digest import HashName, canonical_json, digest_json, source_identity
from artifacts.errors import RunError

MANIFEST_VERSION = 1


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileEntry(Strict):
    """One file of the artifact, by its path relative to the artifact's folder."""

    sha256: str
    blake3: str | None = Field(None, description="what the store's own checks recompute; older manifests have none")
    bytes: int
    rows: int | None = Field(None, description="rows, for Parquet files")

    @property
    def quickest(self) -> tuple[HashName, str]:
        """The hash that is recomputed soonest, and its value."""
        return ("blake3", self.blake3) if self.blake3 else ("sha256", self.sha256)

    @model_serializer(mode="wrap")
    def _without_an_unknown_blake3(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        value: dict[str, Any] = plain(self)
        return value if self.blake3 is not None else {key: value[key] for key in value if key != "blake3"}


class InputEntry(Strict):
    """An artifact that was read, under the name that the stage knows it by."""

    name: str
    artifact: str = Field(description="stage@recipe")
    content: str = Field(description="content digest, 64 hex digits")


class SourceEntry(Strict):
    """An external file that was read: never by its path, always by its hash."""

    name: str = Field(description="file name, or name in its data manifest")
    manifest: str | None = Field(None, description="name of the data manifest that lists it")
    role: str | None = None
    source: str | None = Field(None, description="value of the `source` column of its rows")
    options: dict[str, Any] = Field(default_factory=dict, description="reader options, the format among them")
    licence: str | None = None
    url: str | None = None
    sha256: str
    bytes: int

    @property
    def identity(self) -> str:
        return source_identity(self.sha256, self.name, self.role, self.source, self.options)


class Counts(Strict):
    """The row account: rows_in = kept + dropped + failed. All null for a stage that reads no rows."""

    rows_in: int | None = None
    kept: int | None = None
    dropped: int | None = None
    failed: int | None = None
    reasons: dict[str, int] = Field(default_factory=dict, description="dropped and failed rows by reason")


class RunBlock(Strict):
    """When, where, by whom and by what it was made. Outside every digest: equal builds differ here."""

    run_id: str | None = None
    user: str | None = Field(None, description="who ran it; manifests of version 0.1.0 do not say")
    started: str
    finished: str
    seconds: float
    host: str
    pid: int
    timings: dict[str, float] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_an_unknown_user(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Older manifests have no such field, and keep their spelling and checksum."""
        value: dict[str, Any] = plain(self)
        return value if self.user is not None else {key: value[key] for key in value if key != "user"}


class Manifest(Strict):
    manifest_version: int = MANIFEST_VERSION
    stage: str
    stage_version: int
    recipe: str = Field(description="16 hex digits: hash of stage, version, config, seed and input contents")
    content: str = Field(description="64 hex digits: hash of the content files' paths and hashes")
    seed: int
    config: dict[str, Any]
    outside_recipe: dict[str, Any] = Field(default_factory=dict, description="settings that never change a result")
    inputs: list[InputEntry] = Field(default_factory=list)
    sources: list[SourceEntry] = Field(default_factory=list)
    files: dict[str, FileEntry]
    counts: Counts = Field(default_factory=Counts)
    metrics: dict[str, Any] = Field(default_factory=dict)
    code: dict[str, str] = Field(default_factory=dict, description="commit and version of crawl2chat")
    environment: dict[str, str] = Field(default_factory=dict, description="versions of what the result depends on")
    run: RunBlock
    checksum: str = Field("", description="SHA-256 of this manifest's canonical JSON with an empty checksum")

    def sealed(self) -> Manifest:
        """A copy whose checksum covers everything else in it.

        Raises:
            RunError: a number in it is not finite, which JSON cannot say.
        """
        for part in ("config", "outside_recipe", "metrics"):
            place = _not_finite(getattr(self, part), part)
            if place:
                raise RunError(f"{self.stage}: {place} is not a finite number and cannot stand in a manifest")
        return self.model_copy(update={"checksum": self._checksum()})

    def _checksum(self) -> str:
        return digest_json({**self.model_dump(mode="json"), "checksum": ""})

    def dumps(self) -> str:
        """The exact text of `manifest.json`: one canonical spelling, so that any flipped byte shows."""
        return json.dumps(json.loads(canonical_json(self.model_dump(mode="json"))), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def loads(cls, text: str, where: str, check: bool = False) -> Manifest:
        """Parse; with `check`, also hold the checksum and the spelling against the content.

        Raises:
            RunError: it is not a manifest, or (with `check`) was altered after it was written.
        """
        try:
            manifest = cls.model_validate_json(text)
        except ValueError as error:
            raise RunError(f"{where}: not a readable manifest ({_first_line(error)})") from error
        if check and (manifest.checksum != manifest._checksum() or manifest.dumps() != text):
            raise RunError(f"{where}: altered after it was written (its checksum does not match)")
        return manifest


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join([*[str(part) for part in first["loc"]], first["msg"]])
    return str(error).partition("\n")[0]


def _not_finite(value: Any, place: str) -> str | None:
    """The dotted place of the first NaN or infinity in a JSON value."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} ({value})"
    if isinstance(value, dict):
        parts = [(f"{place}.{key}", inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{number}]", inner) for number, inner in enumerate(value)]
    else:
        return None
    return next((found for name, inner in parts if (found := _not_finite(inner, name))), None)


def main() -> None:
    """Print the JSON schema of manifests."""
    sys.stdout.write(json.dumps(Manifest.model_json_schema(), indent=1) + "\n")


if __name__ == "__main__":
    main()
