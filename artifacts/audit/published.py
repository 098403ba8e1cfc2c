"""A published run: a small JSON for git, by which others can check an audit against a store.

It says what a run read (hashes, licences), with which configs, what came out (digests, counts, metrics), and with which
code and libraries. It names no path, host or user of a machine and no secret. Everything in it follows from the run's
record and the manifests, so the same store and run give the same bytes; `artifacts.audit.verify_published` holds it
against a store. The schema is `docs/published.schema.json` (`python -m artifacts.audit.published` prints it).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from artifacts.audit.licences import artifact_above, licences_of, stated
from artifacts.digest import canonical_json, digest_json
from artifacts.errors import RunError, UserError
from artifacts.manifest import Counts, InputEntry, Strict
from artifacts.redaction import redact_url, redacted
from artifacts.runs import BEGAN, FINISHED, SEALED, entry_names, find_run, load_run, read_link, record_path
from artifacts.store import Artifact, Store
from artifacts.urls import address

PUBLISHED_VERSION = 1
# Longer lists and texts are cut: what stays is their number and digest.
LONGEST_LIST = 24
LONGEST_TABLE = 64
LONGEST_TEXT = 400


class PublishedRun(Strict):
    id: str
    config: str = Field(description="the config's name, without folders of a machine")
    started: str
    finished: str
    record: str = Field(description="SHA-256 of the run's record, runs/<id>.json")


class PublishedHead(Strict):
    """The entry that sealed the run's record. Through its parents it stands for every entry before it."""

    number: int
    sha256: str


class PublishedSource(Strict):
    name: str
    manifest: str | None = None
    role: str | None = None
    source: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    licence: str = Field(description="`unknown` where none is stated")
    url: str | None = Field(None, description="without credentials; none for a file of the machine")
    sha256: str
    bytes: int


class PublishedBuild(Strict):
    code: dict[str, str] = Field(description="commit and version of crawl2chat")
    environment: dict[str, str] = Field(description="versions of what a result may depend on")


class PublishedArtifact(Strict):
    artifact: str = Field(description="stage@recipe")
    stage_version: int
    content: str = Field(description="content digest, 64 hex digits")
    manifest: str = Field(description="the manifest's checksum")
    seed: int
    config: dict[str, Any]
    inputs: list[InputEntry]
    sources: list[PublishedSource]
    licences: list[str] = Field(description="of every source in it, down the whole chain")
    files: int
    bytes: int
    counts: Counts
    metrics: dict[str, Any] = Field(description="long lists and texts cut to their number and digest")
    build: int = Field(description="with which of `builds` it was built")
    finished: str
    run_id: str | None = Field(None, description="the run that built it; another one where this run reused it")


class Published(Strict):
    published_version: int = PUBLISHED_VERSION
    run: PublishedRun
    chain: PublishedHead | None = Field(None, description="null for a store whose run chain had not begun")
    licences: list[str]
    builds: list[PublishedBuild]
    artifacts: list[PublishedArtifact] = Field(description="those of the run and all that they were made from")
    digest: str = Field("", description="SHA-256 of this object's canonical JSON with an empty digest")

    def sealed(self) -> Published:
        return self.model_copy(update={"digest": digest_of(self.model_dump(mode="json"))})

    def dumps(self) -> str:
        """The exact text of the file: one canonical spelling."""
        return dumps(self.model_dump(mode="json"))


def digest_of(value: dict[str, Any]) -> str:
    return digest_json({**value, "digest": ""})


def dumps(value: dict[str, Any]) -> str:
    return json.dumps(json.loads(canonical_json(value)), indent=1, ensure_ascii=False) + "\n"


def publish(store: Store, run: str) -> Published:
    """A run of the store as it is published.

    Raises:
        UserError: there is no such run, or it has failed or not finished: only what ended well is worth checking.
        RunError: its record is not the one in the run chain, or an artifact of it is gone or damaged.
    """
    run = find_run(store, run)
    record = load_run(store, run)
    if not record.get("finished"):
        raise UserError(f"run {run} has not finished (or was killed); a run is published once it has ended well")
    if not record.get("ok"):
        raise UserError(f"run {run} has failed ({record.get('error')}); only a run that ended well is published")
    sha256, _ = store.digest(record_path(run))
    builds: list[PublishedBuild] = []
    artifacts = [claims_of(artifact, builds) for artifact in with_ancestors(of_run(store, record))]
    names = {name.lower(): name for artifact in artifacts for name in artifact.licences}
    return Published(
        run=run_claims(record, sha256),
        chain=head_of(store, run, sha256),
        licences=[names[key] for key in sorted(names)],
        builds=builds,
        artifacts=artifacts,
    ).sealed()


def run_claims(record: dict[str, Any], sha256: str) -> PublishedRun:
    """What is published of a record; raises `RunError` if it lacks a field."""
    try:
        config = _public(str(record["config"]))
        return PublishedRun(
            id=record["run"], config=config, started=record["started"], finished=record["finished"], record=sha256
        )
    except (KeyError, ValueError) as error:
        raise RunError(f"the run's record is damaged ({error}); see `crawl2chat verify`") from error


def head_of(store: Store, run: str, sha256: str) -> PublishedHead | None:
    """The entry that holds the hash of a run's record, or None where there is no chain.

    Raises:
        RunError: there is a chain, and it does not know this record.
    """
    names = entry_names(store)
    for name in reversed(names):
        link = read_link(store, name)
        entry = link.entry
        if entry is None:
            continue
        ended = entry.kind in (FINISHED, SEALED) and entry.payload.get("run") == run
        if ended or (entry.kind == BEGAN and run in entry.payload.get("records", {})):
            sealed = entry.payload.get("sha256") if ended else entry.payload["records"][run]
            if sealed != sha256:
                break
            return PublishedHead(number=entry.number, sha256=link.digest)
    if names:
        raise RunError(f"{store.join(record_path(run))}: the run chain does not hold this record (crawl2chat verify)")
    return None


def of_run(store: Store, record: dict[str, Any]) -> list[Artifact]:
    """The artifacts that a run's record names; raises `RunError` where one is gone or a row is damaged."""
    found = []
    for row in record.get("stages", []):
        if not isinstance(row, dict) or "path" not in row:
            raise RunError("the run's record is damaged (a stage without its path); see `crawl2chat verify`")
        stage, _, folder = "/".join(str(row["path"]).rstrip("/").rsplit("/", 2)[-2:]).partition("/")
        recipe, _, content = folder.partition(".")
        artifact = Artifact(store, stage, recipe, content)
        if not store.holds(f"{artifact.folder}/manifest.json"):
            raise RunError(f"{artifact.ref}: the run made it, and the store no longer has it")
        found.append(artifact)
    return found


def with_ancestors(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The artifacts and all that they were made from, inputs first.

    Raises:
        RunError: one of them is gone or damaged.
    """
    ordered: dict[Artifact, None] = {}

    def visit(artifact: Artifact) -> None:
        if artifact in ordered:
            return
        for entry in artifact.manifest.inputs:
            above = artifact_above(artifact.store, entry)
            if above is None:
                raise RunError(f"{artifact.ref}: its input {entry.artifact} is not in the store")
            visit(above)
        ordered[artifact] = None

    for artifact in artifacts:
        visit(artifact)
    return list(ordered)


def claims_of(artifact: Artifact, builds: list[PublishedBuild]) -> PublishedArtifact:
    """What is published of an artifact: all of it from its manifest and those above. Adds its build where it is new."""
    manifest = artifact.manifest
    build = PublishedBuild(code=manifest.code, environment=manifest.environment)
    if build not in builds:
        builds.append(build)
    return PublishedArtifact(
        artifact=artifact.ref,
        stage_version=manifest.stage_version,
        content=manifest.content,
        manifest=manifest.checksum,
        seed=manifest.seed,
        config=cut(_public(manifest.config)),
        inputs=manifest.inputs,
        sources=[
            PublishedSource(
                name=_public(source.name),
                manifest=source.manifest,
                role=source.role,
                source=source.source,
                options=cut(_public(source.options)),
                licence=stated(source.licence),
                url=redact_url(source.url) if source.url and address(source.url) else None,
                sha256=source.sha256,
                bytes=source.bytes,
            )
            for source in manifest.sources
        ],
        licences=licences_of(artifact),
        files=len(manifest.files),
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        counts=manifest.counts,
        metrics=cut(_public(manifest.metrics)),
        build=builds.index(build),
        finished=manifest.run.finished,
        run_id=manifest.run.run_id,
    )


def _public(value: Any) -> Any:
    """Without secrets, and without the folders of absolute paths."""
    if isinstance(value, str):
        if value.startswith(("/", "~/", "file:/")) and len(value) > 1:
            return value.rstrip("/").rpartition("/")[2]
        return redacted(value)
    if isinstance(value, dict):
        return redacted({key: _public(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    return value


def cut(value: Any) -> Any:
    """A JSON value in which long lists, tables and texts are their number and their digest."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else _cut("text", value)
    if isinstance(value, list):
        short = len(value) <= LONGEST_LIST
        return [cut(inner) for inner in value] if short else _cut("list", value)
    if isinstance(value, dict):
        short = len(value) <= LONGEST_TABLE
        return {key: cut(inner) for key, inner in value.items()} if short else _cut("table", value)
    return value


def _cut(what: str, value: Any) -> dict[str, Any]:
    return {"cut": what, "length": len(value), "sha256": digest_json(value)}


def write_published(store: Store, run: str, folder: Path) -> Path:
    """Write `<run>.json` into a folder, which is made. Raises as `publish`, and `UserError` if it cannot be written."""
    found = publish(store, run)
    path = folder / f"{found.run.id}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(found.dumps(), encoding="utf8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def main() -> None:
    """Print the JSON schema of published runs."""
    sys.stdout.write(json.dumps(Published.model_json_schema(), indent=1) + "\n")


if __name__ == "__main__":
    main()
