"""Running a stage: reuse by content, atomic commit, and the row account (DESIGN section 3).

`execute` decides by content whether there is anything to do, and commits what the stage wrote after checking that
rows in = kept + dropped + failed.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from artifacts.audit.blocklist import blocklist_source
from artifacts.audit.licences import licences_in
from artifacts.digest import HashName, a_file_a_core, content_digest, digest_file, digests_of_file, recipe_digest
from artifacts.drafts import Draft
from artifacts.errors import AccountError, RunError, UserError
from artifacts.exchange.card import write_card
from artifacts.lock import in_use
from artifacts.manifest import Counts, FileEntry, InputEntry, Manifest, RunBlock, SourceEntry
from artifacts.reader import InputTable, count_decisions
from artifacts.redaction import redact_url
from artifacts.runs import who
from artifacts.sources import Source
from artifacts.store import Artifact, Store
from artifacts.tables import DECISIONS, TOKENIZER, TableKind
from tasks.resume import ResumableMap
from tasks.stage import (
    Mapper,
    Progress,
    Stage,
    StageContext,
    Summary,
    no_progress,
    serial_map,
    split_config,
)

Inputs = Mapping[str, Sequence[Artifact]]


def recipe_of(stage: Stage, config: BaseModel, inputs: Inputs, sources: Sequence[Source], seed: int) -> str:
    """The recipe that `execute` would build or reuse. Reads the inputs' manifests only."""
    return recipe_digest(
        stage.name,
        stage.version,
        stage.recipe_config(config),
        {name: [a.manifest.content for a in artifacts] for name, artifacts in sorted(inputs.items()) if artifacts},
        [source.identity for source in sources],
        seed if stage.seeded else 0,
    )


def find_sources(stage: Stage, config: BaseModel, store: Store, inputs: Inputs) -> list[Source]:
    """The external files that a stage reads: those that its config names, those that lie beside its inputs and, where
    it obeys it, the store's blocklist.

    The one place at which takedowns meet stages: whatever plans or runs a stage on a store comes through here. A store
    without entries in its blocklist gives the recipe that it always gave; a blocklist that the config names too is one
    source, not two.

    Raises:
        UserError: a file is missing, or is not what its data manifest says.
    """
    found = [*stage.sources(config)] if stage.sources else []
    found += stage.input_sources(config, inputs) if stage.input_sources else []
    own = blocklist_source(store) if stage.obeys_blocklist else None
    if own is not None and own.identity not in {source.identity for source in found}:
        found = [*found, own]
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of one stage in one run."""

    stage: str
    artifact: Artifact
    reused: bool
    seconds: float
    resumed: int = 0  # shards whose results an earlier attempt had left

    def row(self) -> dict[str, Any]:
        """The object that `run --json` and `stage --json` print."""
        counts = self.artifact.manifest.counts
        return {
            "stage": self.stage,
            "artifact": self.artifact.ref,
            "path": self.artifact.path,
            "reused": self.reused,
            "rows_in": counts.rows_in,
            "kept": counts.kept,
            "dropped": counts.dropped,
            "failed": counts.failed,
            "seconds": round(self.seconds, 3),
        }


def execute(
    stage: Stage,
    config: BaseModel,
    inputs: Inputs,
    store: Store,
    *,
    seed: int = 0,
    mapper: Mapper = serial_map,
    progress: Progress = no_progress,
    run_id: str | None = None,
    force: bool = False,
    building: Callable[[str], None] | None = None,
) -> Outcome:
    """Reuse the artifact of this recipe, or run the stage and commit what it wrote.

    Args:
        building: told the recipe before the stage is built; never if it is reused.

    Raises:
        UserError: an input is missing or of another kind, or a source cannot be had.
        RunError: the stage failed, or could not account for its rows. Nothing is left in the store.
    """
    began, started = time.monotonic(), _now()
    check_inputs(stage, inputs)
    sources = find_sources(stage, config, store, inputs)
    recipe = recipe_of(stage, config, inputs, sources, seed)
    found = store.find(stage.name, recipe)
    if found is not None and not force:
        store.sweep_committed(stage.name, recipe)
        return Outcome(stage.name, found, True, time.monotonic() - began)
    check_contents(inputs)
    if building is not None:
        building(recipe)
    user = f"run {run_id}" if run_id else f"the stage {stage.name}"
    with in_use(store, user), store.draft(stage.name, recipe) as draft:
        shards = ResumableMap(mapper, draft.work, draft.folder, store.scratch_root())
        context = StageContext(
            stage=stage,
            config=config,
            seed=seed,
            inputs={name: inputs.get(name, ()) for name in stage.reads},
            sources=sources,
            folder=draft.folder,
            work=draft.work,
            recipe=recipe,
            map=shards,
            progress=progress,
        )
        with closing(shards):
            summary = stage.run(context)
        context.close()
        manifest = _manifest(context, draft, summary)
        manifest.run = _run_block(store, stage.name, run_id, started, time.monotonic() - began)
        write_card(draft.folder, manifest, licences_in(store, manifest))
        manifest.files |= _describe_files(draft.folder, only="README.md")
        artifact = store.commit(draft, manifest, force=force)
    return Outcome(stage.name, artifact, False, time.monotonic() - began, shards.found)


def _run_block(store: Store, stage: str, run_id: str | None, started: str, seconds: float) -> RunBlock:
    return RunBlock(
        run_id=run_id,
        user=who(),
        started=started,
        finished=_after_the_newest(store, stage),
        seconds=round(seconds, 3),
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def check_contents(inputs: Inputs) -> None:
    """Raise `RunError` if a file of an input is not what its manifest says: a damaged table may well be readable, and
    what was made of it would carry the recipe of the whole one. Reads all bytes: 2 gigabytes a second and core."""
    stated: dict[Path, tuple[Artifact, str, FileEntry]] = {}
    for artifact in {a.folder: a for artifacts in inputs.values() for a in artifacts}.values():
        for name, entry in artifact.manifest.files.items():
            path = artifact.local() / name
            if not path.is_file():
                raise _damaged(artifact, name, "is missing")
            stated[path] = artifact, name, entry
    found = _digests({path: entry.quickest[0] for path, (_, _, entry) in stated.items()})
    for path, (artifact, name, entry) in stated.items():
        if found[path] != entry.quickest[1]:
            raise _damaged(artifact, name, "is damaged: its bytes are not those that were committed")


# Several stages of a run read the same artifact. A file is known again by its size, time and inode.
_known: dict[tuple[str, str, int, int, int], str] = {}


def _digests(kinds: Mapping[Path, HashName]) -> dict[Path, str]:
    keys = {}
    for path, kind in kinds.items():
        status = path.stat()
        keys[path] = (str(path), kind, status.st_size, status.st_mtime_ns, status.st_ino)
    fresh = [path for path in kinds if keys[path] not in _known]
    digests = a_file_a_core(lambda path: digest_file(path, kinds[path]), fresh)
    _known.update(zip((keys[path] for path in fresh), digests, strict=True))
    return {path: _known[key] for path, key in keys.items()}


def _damaged(artifact: Artifact, file: str, what: str) -> RunError:
    return RunError(
        f"{artifact.path}/{file} {what}. To build it again: --force-from {artifact.stage} "
        f"(`crawl2chat verify {artifact.ref}` says what else is)"
    )


def check_inputs(stage: Stage, inputs: Inputs) -> None:
    """Raise `UserError` for an input that is unknown, missing, or lacks the columns that the stage reads."""
    for name in inputs:
        if name not in stage.reads:
            raise UserError(f"{stage.name} has no input {name!r}; it reads {', '.join(stage.reads) or 'nothing'}")
    for name, kind in stage.reads.items():
        artifacts = inputs.get(name, ())
        if not artifacts and name not in stage.optional:
            raise UserError(f"{stage.name}: the input {name!r} is missing (--input {name}=REF)")
        for artifact in artifacts:
            if not len(kind.schema):
                _check_model(artifact, kind, f"{stage.name}: input {name!r}", scores=name == "reward_model")
                continue
            files = artifact.files("data")
            if not files:
                raise UserError(f"{stage.name}: input {name!r}: {artifact.ref} holds no table")
            try:
                schema = pq.read_schema(files[0])
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(artifact, str(files[0].relative_to(artifact.local())), f"is damaged: {error}") from error
            try:
                kind.check(schema, f"input {name!r} ({artifact.ref})")
            except RunError as error:
                raise UserError(f"{stage.name}: {error}") from error


def _check_model(artifact: Artifact, kind: TableKind, where: str, scores: bool) -> None:
    """Raise `UserError` for a tokenizer, a classifier or a reward model in the place of a language model, and so on."""
    wanted = "tokenizer" if kind is TOKENIZER else "reward model" if scores else "language model"
    if wanted == "tokenizer":
        if "model/tokenizer.json" not in artifact.manifest.files:
            raise UserError(f"{where}: {artifact.ref} holds no tokenizer")
        return
    found = held_model(artifact)
    if found != wanted:
        raise UserError(f"{where} wants a {wanted}: {artifact.ref} holds {f'a {found}' if found else 'none'}")


def held_model(artifact: Artifact) -> str | None:
    """ "language model" or "reward model", by the architecture that its config states; None if it holds neither."""
    if "model/config.json" not in artifact.manifest.files:
        return None
    try:
        named = json.loads(artifact.store.read_text(f"{artifact.folder}/model/config.json")).get("architectures")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{artifact.path}/model/config.json: not a model's config (see `crawl2chat verify`)") from error
    return "reward model" if "ForSequenceClassification" in str(named) else "language model"


def _manifest(context: StageContext, draft: Draft, summary: Summary) -> Manifest:
    stage = context.stage
    files = _describe_files(draft.folder)
    inside, outside = split_config(context.config)
    return Manifest(
        stage=stage.name,
        stage_version=stage.version,
        recipe=context.recipe,
        content=content_digest({name: entry.sha256 for name, entry in files.items()}),
        seed=context.seed,
        config=inside,
        outside_recipe=outside,
        inputs=[
            InputEntry(name=name, artifact=artifact.ref, content=artifact.manifest.content)
            for name, artifacts in context.inputs.items()
            for artifact in artifacts
        ],
        sources=[
            SourceEntry(
                name=source.name,
                manifest=source.manifest,
                role=source.role,
                source=source.source,
                options=dict(source.options),
                licence=source.licence,
                url=redact_url(source.url) if source.url else None,
                sha256=source.sha256,
                bytes=source.bytes,
            )
            for source in context.sources
        ],
        files=files,
        counts=_account(stage, draft.folder, summary),
        metrics=dict(summary.metrics),
        code=code_identity(),
        environment=environment(),
        run=RunBlock(started="", finished="", seconds=0.0, host="", pid=0),
    )


def _describe_files(folder: Path, only: str = "*") -> dict[str, FileEntry]:
    paths = sorted(path for path in folder.rglob(only) if path.is_file())
    entries = {}
    digests = a_file_a_core(lambda path: digests_of_file(path, "sha256", "blake3"), paths)
    for path, (sha256, blake3) in zip(paths, digests, strict=True):
        rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
        entry = FileEntry(sha256=sha256, blake3=blake3, bytes=path.stat().st_size, rows=rows)
        entries[str(path.relative_to(folder))] = entry
    return entries


def _account(stage: Stage, folder: Path, summary: Summary) -> Counts:
    """The row account, checked: the stage's own figures against its decisions, and the sum against rows_in."""
    counts = Counts(
        rows_in=summary.rows_in,
        kept=summary.kept,
        dropped=summary.dropped,
        failed=summary.failed,
        reasons=dict(summary.reasons),
    )
    if stage.writes.get("decisions") is DECISIONS:
        decided = count_decisions(InputTable(sorted((folder / "decisions").glob("*.parquet"))))
        for name in ("rows_in", "kept", "dropped", "failed"):
            stated = getattr(counts, name)
            if stated is not None and stated != getattr(decided, name):
                raise AccountError(f"{stage.name}: {name} is {stated}, but its decisions say {getattr(decided, name)}")
        counts = decided
    if counts.rows_in is not None:
        parts = [counts.kept or 0, counts.dropped or 0, counts.failed or 0]
        if counts.rows_in != sum(parts):
            raise AccountError(
                f"{stage.name}: {counts.rows_in} rows in, but {parts[0]} kept + {parts[1]} dropped + {parts[2]} failed"
            )
        counts.kept, counts.dropped, counts.failed = parts
    return counts


def _after_the_newest(store: Store, stage: str) -> str:
    """The time; where the clock was set back, a millisecond after the stage's newest artifact: `latest` is by times."""
    newest = max((time for artifact in store.artifacts(stage) if (time := store.finished(artifact))), default="")
    now = _now()
    if now > newest:
        return now
    return _text(datetime.fromisoformat(newest) + timedelta(milliseconds=1))


def _now() -> str:
    return _text(datetime.now(UTC))


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@cache
def code_identity() -> dict[str, str]:
    """The commit of the checkout (with `-dirty` if it was changed), and the package's version."""
    root = Path(__file__).resolve().parent.parent
    identity = {}
    try:
        describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        identity["commit"] = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        identity["commit"] = "unknown"
    try:
        identity["version"] = metadata.version("crawl2chat")
    except metadata.PackageNotFoundError:
        identity["version"] = "unknown"
    return identity


@cache
def environment() -> dict[str, str]:
    """Versions of what a result may depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("torch", "transformers", "deepspeed", "tokenizers", "pyarrow", "numpy", "datasketch", "fastwarc"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def as_inputs(given: Mapping[str, Artifact | Iterable[Artifact]]) -> dict[str, list[Artifact]]:
    """Input name to a list of artifacts, from single artifacts or lists."""
    return {name: [value] if isinstance(value, Artifact) else list(value) for name, value in given.items()}
