"""Holding artifacts against their manifests: hashes, digests, names, row accounts and the chain of inputs.

Nothing that is damaged is ever parsed: a Parquet file is opened only when its hash is the one that was committed. Where
the run chain vouches for a manifest, its files are hashed by BLAKE3, and else by SHA-256, of which contents and recipes
are made: whoever forges a file and its BLAKE3 has to forge the manifest, and then the whole chain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.audit.verify_runs import RunsReport, verify_runs
from artifacts.digest import SHORT, HashName, content_digest, recipe_digest
from artifacts.errors import RunError, UserError
from artifacts.manifest import Counts, Manifest
from artifacts.runs import record_path
from artifacts.store import Artifact, Store

MANIFEST = "manifest.json"
THREADS = min(16, os.cpu_count() or 1)
SPELT: dict[HashName, str] = {"sha256": "SHA-256", "blake3": "BLAKE3"}
Checksums = Mapping[tuple[str, str], str]  # (run, stage@recipe) to the checksum in the run chain


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file of an artifact (`manifest.json` for what concerns the artifact as a whole)."""

    artifact: str
    file: str
    problem: str


@dataclass
class VerifyReport:
    """`checked` counts artifacts; `ok` means that no problem was found in any of them, nor in the records of runs.

    `notes` are no problems: what killed runs have left. `entries` and `heads` are those of the run chain.
    """

    checked: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    entries: int = 0
    heads: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(store: Store, refs: Sequence[str] | None = None, thorough: bool = False) -> VerifyReport:
    """Check the artifacts that `refs` name, or every artifact of the store.

    The bytes of those artifacts are read and hashed where the store keeps them. Of the artifacts that they were made
    from, all the way up, the presence and the content digest are checked.

    The records of runs are held against the run chain (`artifacts.audit.verify_runs`). With `thorough`, files are
    hashed by SHA-256 whatever the chain says: for those who do not trust the store's owner.

    Raises:
        UserError: a reference names no artifact.
    """
    report = VerifyReport()
    if refs is None:
        artifacts = store.artifacts()
        report.problems += _strays(store)
    else:
        artifacts = list(dict.fromkeys(store.resolve(ref) for ref in refs))
    runs = verify_runs(store, artifacts)
    for problems in _check(store, artifacts, runs.checksums, thorough):
        report.checked += 1
        report.problems += problems
    if refs is not None:
        damaged = {(p.artifact, p.file) for p in report.problems}
        above = _check_ancestors(store, artifacts)
        report.problems += [p for p in above if (p.artifact, p.file) not in damaged]
    _add_runs(runs, artifacts, report, every=refs is None)
    return report


def _bytes(artifact: Artifact) -> int:
    try:
        return sum(entry.bytes for entry in artifact.manifest.files.values())
    except (RunError, UserError, OSError):  # told of by the check
        return 0


def _add_runs(runs: RunsReport, artifacts: Sequence[Artifact], report: VerifyReport, every: bool) -> None:
    """The records of runs and their chain; where artifacts were named, only the records of the runs that made them."""
    report.entries, report.heads = runs.entries, runs.heads
    about = {artifact.ref for artifact in artifacts} | set(_records_of(artifacts))
    for target, found in ((report.problems, runs.problems), (report.notes, runs.notes)):
        target += [Problem(f.artifact, f.file, f.problem) for f in found if every or about & {f.artifact, f.file}]


def _records_of(artifacts: Sequence[Artifact]) -> Iterator[str]:
    for artifact in artifacts:
        with suppress(RunError, UserError):  # a damaged manifest has been told of
            yield record_path(artifact.manifest.run.run_id or "")


def _strays(store: Store) -> Iterator[Problem]:
    """Artifact folders without a manifest. On an object store that is an upload under way, or one that was cut off."""
    if store.remote:
        return
    for stage in store.stages():
        for folder in store.list_dir(stage):
            recipe, dot, _ = folder.partition(".")
            if dot and len(recipe) == SHORT and not store.holds(f"{stage}/{folder}/{MANIFEST}"):
                yield Problem(f"{stage}@{recipe}", MANIFEST, "missing: the folder is no artifact without it")


def _check(store: Store, artifacts: Sequence[Artifact], checksums: Checksums, thorough: bool) -> list[list[Problem]]:
    """What is wrong with each. Hashing and decompression run outside Python's lock: files are hashed a processor each,
    the largest artifacts first, while others are counted."""
    order = sorted(artifacts, key=_bytes, reverse=True)
    with ThreadPoolExecutor(THREADS) as hashing, ThreadPoolExecutor(THREADS) as checking:
        try:
            # All files wait to be hashed before the first rows are counted: no processor is without work.
            begun = [checking.submit(_begin, store, artifact, checksums, thorough, hashing) for artifact in order]
            done = {check: checking.submit(lambda check: _finish(check.result()), check) for check in begun}
            found = dict(zip(order, (done[check].result() for check in begun), strict=True))
        except BaseException:  # Ctrl-C: nobody waits for what is still to be hashed
            hashing.shutdown(wait=False, cancel_futures=True)
            checking.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[artifact] for artifact in artifacts]


@dataclass
class _Begun:
    """An artifact whose files are being hashed, and what has been found wrong so far. What a damaged manifest says of
    the other files is not used: `manifest` is None."""

    store: Store
    artifact: Artifact
    manifest: Manifest | None = None
    problems: list[Problem] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    hashed: dict[str, Future[str | None]] = field(default_factory=dict)

    def add(self, file: str, text: str) -> None:
        self.problems.append(Problem(self.artifact.ref, file, text))


def _begin(store: Store, artifact: Artifact, checksums: Checksums, thorough: bool, hashing: Executor) -> _Begun:
    """Hold an artifact's manifest against itself and the run chain, and have its files hashed."""
    found = _Begun(store, artifact)
    try:
        data = store.read_bytes(f"{artifact.folder}/{MANIFEST}")
        manifest = Manifest.loads(data.decode("utf8", errors="replace"), MANIFEST, check=True)
        if manifest.dumps().encode() != data:
            raise RunError("altered after it was written (its bytes are not those of any manifest)")
    except (RunError, UserError, OSError) as error:
        found.add(MANIFEST, str(error).removeprefix(f"{MANIFEST}: "))
        return found
    for text in _identity(artifact, manifest):
        found.add(MANIFEST, text)
    wrote = checksums.get((manifest.run.run_id or "", artifact.ref))
    if wrote not in (None, manifest.checksum):
        found.add(MANIFEST, f"altered: the run chain says that its run wrote one with the checksum {wrote[:SHORT]}…")
    quick = wrote == manifest.checksum and not thorough
    found.manifest, found.present = manifest, set(store.walk(artifact.folder))
    for name, entry in sorted(manifest.files.items(), key=lambda item: -item[1].bytes):
        if name in found.present:
            kind, digest = entry.quickest if quick else ("sha256", entry.sha256)
            found.hashed[name] = hashing.submit(_file_problem, store, artifact, name, entry.bytes, kind, digest)
    return found


def _finish(begun: _Begun) -> list[Problem]:
    """Everything that is wrong with an artifact, by the hashes of its files and the rows of those that are intact."""
    manifest, hashed, intact = begun.manifest, begun.hashed, []
    if manifest is None:
        return begun.problems
    if any(name.endswith(".parquet") for name in hashed):
        import artifacts.query  # noqa: F401 (and DuckDB: 0.1 s, for `_rows`, which pass while other threads hash)
    for name in sorted(manifest.files):
        if wrong := hashed[name].result() if name in hashed else "missing":
            begun.add(name, wrong)
        else:
            intact.append(name)
    for name in sorted(begun.present - set(manifest.files) - {MANIFEST}):
        begun.add(name, "not listed in the manifest")
    for name, text in _rows(begun.artifact, manifest, intact):
        begun.add(name, text)
    for text in _missing_inputs(begun.store, manifest):
        begun.add(MANIFEST, text)
    return begun.problems


def _file_problem(store: Store, artifact: Artifact, name: str, size: int, kind: HashName, digest: str) -> str | None:
    try:
        found, read = store.digest(f"{artifact.folder}/{name}", kind)
    except OSError as error:
        return f"cannot be read: {error}"
    if read != size:
        return f"{read} bytes, the manifest says {size}"
    if found != digest:
        return f"altered: its {SPELT[kind]} is {found[:SHORT]}…, the manifest says {digest[:SHORT]}…"
    return None


def _identity(artifact: Artifact, manifest: Manifest) -> Iterator[str]:
    """The folder's name against the manifest, and the manifest's recipe and content against their definitions."""
    if manifest.stage != artifact.stage:
        yield f"it is of the stage {manifest.stage}, but lies in the folder {artifact.stage}"
    if manifest.recipe != artifact.recipe:
        yield f"its recipe is {manifest.recipe}, its folder's name says {artifact.recipe}"
    if manifest.content[:SHORT] != artifact.content:
        yield f"its content is {manifest.content[:SHORT]}, its folder's name says {artifact.content}"
    content = content_digest({name: entry.sha256 for name, entry in manifest.files.items()})
    if content != manifest.content:
        yield f"its files give the content {content[:SHORT]}, it says {manifest.content[:SHORT]}"
    inputs: dict[str, list[str]] = {}
    for entry in manifest.inputs:
        inputs.setdefault(entry.name, []).append(entry.content)
    sources = [source.identity for source in manifest.sources]
    # A stage without randomness has the seed 0 in its recipe, whatever the run's seed was.
    recipes = [
        recipe_digest(manifest.stage, manifest.stage_version, manifest.config, inputs, sources, seed)
        for seed in (manifest.seed, 0)
    ]
    if manifest.recipe not in recipes:
        yield f"its stage, config, seed, inputs and sources give the recipe {recipes[0]}, not {manifest.recipe}"


def _rows(artifact: Artifact, manifest: Manifest, intact: list[str]) -> Iterator[tuple[str, str]]:
    """The row account, recounted from those Parquet files that are as they were committed."""
    import duckdb

    from artifacts.audit.chunks import rows_of_files

    parquet = [name for name in manifest.files if name.endswith(".parquet")]
    root = artifact.local() if any(name in intact for name in parquet) else Path()
    for name in parquet:
        if name in intact:
            try:
                [rows] = rows_of_files([root / name])
            except duckdb.Error as error:
                yield name, f"not readable as Parquet: {error}"
            else:
                if rows != manifest.files[name].rows:
                    yield name, f"{rows} rows, the manifest says {manifest.files[name].rows}"
    counts = manifest.counts
    if counts.rows_in is not None:
        parts = (counts.kept or 0) + (counts.dropped or 0) + (counts.failed or 0)
        if counts.rows_in != parts:
            yield MANIFEST, f"{counts.rows_in} rows in, but kept + dropped + failed is {parts}"
    decisions = sorted(name for name in parquet if name.startswith("decisions/"))
    if not decisions or not set(decisions) <= set(intact):
        return
    try:
        counted = _counted([root / name for name in decisions])
    except duckdb.Error as error:
        yield decisions[0], f"its decisions cannot be counted: {error}"
        return
    for field_name, value in counted.model_dump().items():
        stated = getattr(counts, field_name)
        if stated != value:
            yield decisions[0], f"{field_name} is {value} by its decisions, {stated} by the manifest"


def _counted(decisions: Sequence[Path]) -> Counts:
    """Rows in, kept, dropped and failed, and the reasons of the last two: by another reader than the one at commit."""
    from artifacts.query import connect, text

    sql = f"""select coalesce(kept, false), coalesce(failed, false), coalesce(reason, ''), count(*)
        from read_parquet([{", ".join(map(text, decisions))}]) group by all order by all"""
    with connect() as connection:
        groups = connection.execute(sql).fetchall()
    totals = {"rows_in": sum(rows for *_, rows in groups), "kept": 0, "dropped": 0, "failed": 0}
    reasons: dict[str, int] = {}
    for kept, failed, reason, rows in groups:
        totals["kept" if kept else "failed" if failed else "dropped"] += rows
        if not kept:
            reasons[reason] = reasons.get(reason, 0) + rows
    return Counts(**totals, reasons=dict(sorted(reasons.items())))


def _missing_inputs(store: Store, manifest: Manifest) -> Iterator[str]:
    for entry in manifest.inputs:
        text = f"its input {entry.name}, {entry.artifact} with content {entry.content[:SHORT]}, is not in the store"
        try:
            if find_input(store, entry.artifact, entry.content) is None:
                yield text
        except RunError:
            continue  # a damaged manifest is told where it lies, not again of all that was made from it


def find_input(store: Store, ref: str, content: str) -> Artifact | None:
    """The artifact that a manifest names as an input: of that recipe and that content. None if it is gone.

    Raises:
        RunError: its manifest is there and cannot be read.
    """
    stage, _, recipe = ref.partition("@")
    artifact = Artifact(store, stage, recipe, content[:SHORT])
    if not store.holds(f"{artifact.folder}/{MANIFEST}"):
        return None
    return artifact if artifact.manifest.content == content else None


def _check_ancestors(store: Store, artifacts: Sequence[Artifact]) -> Iterator[Problem]:
    """Gaps in the chain above the given artifacts, each told of the artifact whose input is gone."""
    waiting, seen = list(artifacts), set(artifacts)
    while waiting:
        artifact = waiting.pop(0)
        try:
            manifest = artifact.manifest
        except RunError as error:
            yield Problem(artifact.ref, MANIFEST, str(error))
            continue
        for text in _missing_inputs(store, manifest):
            yield Problem(artifact.ref, MANIFEST, text)
        for entry in manifest.inputs:
            stage, _, recipe = entry.artifact.partition("@")
            above = Artifact(store, stage, recipe, entry.content[:SHORT])
            if above not in seen and store.holds(f"{above.folder}/{MANIFEST}"):
                seen.add(above)
                waiting.append(above)
