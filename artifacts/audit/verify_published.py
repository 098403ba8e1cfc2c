"""Holding a published run (`artifacts.audit.published`) against a store: each of its claims, and its own digest.

Two stores of one pipeline need not agree in the times of their runs: a third party checks the file against a copy of
the store that it speaks of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from artifacts.audit.published import (
    PUBLISHED_VERSION,
    Published,
    PublishedArtifact,
    PublishedBuild,
    claims_of,
    cut,
    digest_of,
    dumps,
    of_run,
    run_claims,
    with_ancestors,
)
from artifacts.audit.verify import Problem, VerifyReport, verify
from artifacts.audit.verify_runs import verify_runs
from artifacts.digest import SHORT
from artifacts.errors import RunError, UserError
from artifacts.runs import FINISHED, SEALED, STARTED, entry_names, load_run, read_link, record_path
from artifacts.store import Artifact, Store

MANIFEST = "manifest.json"


def read_published(path: Path) -> tuple[Published | None, str | None]:
    """(a published run, None), or (None, what was altered in it).

    Raises:
        UserError: it cannot be read, is no published run, or is of a version that this program does not know.
    """
    try:
        text = path.read_bytes().decode("utf8", errors="surrogateescape")
        value = json.loads(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict) or "published_version" not in value:
        raise UserError(f"{path}: not a published run (it has no published_version)")
    try:
        intact = value.get("digest") == digest_of(value) and dumps(value) == text
    except (ValueError, RecursionError):  # NaN, half a character, or lists in lists without end
        intact = False
    if not intact:
        return None, "altered after it was published: its digest does not match"
    if value["published_version"] != PUBLISHED_VERSION:
        known = f"this program knows version {PUBLISHED_VERSION}"
        raise UserError(f"{path}: published_version is {value['published_version']!r}; {known}")
    try:
        return Published.model_validate(value), None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: not a published run: {where}: {first['msg']}") from error


def verify_published(store: Store, path: Path) -> VerifyReport:
    """Check a published run against a store. `checked` counts its artifacts; their bytes are all read.

    Raises:
        UserError: as `read_published`.
    """
    published, altered = read_published(path)
    if published is None:
        return VerifyReport(problems=[Problem("published", str(path), altered or "")])
    present = []
    report = VerifyReport(checked=len(published.artifacts))
    for claim in published.artifacts:
        stage, _, recipe = claim.artifact.partition("@")
        artifact = Artifact(store, stage, recipe, claim.content[:SHORT])
        if store.holds(f"{artifact.folder}/{MANIFEST}"):
            present.append((artifact, claim))
        else:
            said = f"not in the store with the content {claim.content[:SHORT]}"
            report.problems.append(Problem(claim.artifact, MANIFEST, said))
    if present:
        found = verify(store, [f"{artifact.ref}.{artifact.content}" for artifact, _ in present], thorough=True)
        report.problems += found.problems
        report.notes += found.notes
    for artifact, claim in present:
        report.problems += _compare(artifact, claim, published.builds)
    report.problems += _licences(published)
    _check_run(store, published, report)
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _compare(artifact: Artifact, claim: PublishedArtifact, builds: list[PublishedBuild]) -> list[Problem]:
    """The claims about one artifact that its manifest, or those above it, do not bear out."""
    try:
        own: list[PublishedBuild] = []
        stated, found = _plain(claim), _plain(claims_of(artifact, own))
    except RunError:
        return []  # the manifest is damaged, which has been told
    stated["build"] = _plain(builds[claim.build]) if 0 <= claim.build < len(builds) else None
    found["build"] = _plain(own[0])
    return [
        Problem(artifact.ref, MANIFEST, text)
        for name in stated
        for text in _differences(name, stated[name], found[name])
    ]


def _plain(model: BaseModel) -> dict[str, Any]:
    value: dict[str, Any] = model.model_dump(mode="json")
    return value


def _differences(place: str, stated: Any, found: Any) -> list[str]:
    """Where two JSON values differ, by the deepest field that is in both."""
    if stated == found:
        return []
    if isinstance(stated, dict) and isinstance(found, dict) and stated.keys() == found.keys():
        return [text for key in stated for text in _differences(f"{place}.{key}", stated[key], found[key])]
    return [f"{place}: published as {_short(stated)}, the store has {_short(found)}"]


def _short(value: Any) -> str:
    text = json.dumps(cut(value), ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _licences(published: Published) -> list[Problem]:
    stated = {name.lower() for name in published.licences}
    found = {name.lower() for claim in published.artifacts for name in claim.licences}
    if stated == found:
        return []
    text = f"licences: published as {_short(sorted(stated))}, its artifacts have {_short(sorted(found))}"
    return [Problem("published", "licences", text)]


def _left_out(store: Store, published: Published, record: dict[str, Any]) -> list[Problem]:
    """Artifacts of the run, or above them, of which the file says nothing: their licences would be unsaid too."""
    told = {f"{claim.artifact}.{claim.content[:SHORT]}" for claim in published.artifacts}
    try:
        made = with_ancestors(of_run(store, record))
    except RunError as error:
        return [Problem("runs", record_path(published.run.id), str(error))]
    names = [f"{artifact.ref}.{artifact.content}" for artifact in made]
    text = "the run has it, and the published file says nothing of it"
    return [Problem(name.rpartition(".")[0], MANIFEST, text) for name in names if name not in told]


def _check_run(store: Store, published: Published, report: VerifyReport) -> None:
    """The run's record, and that the run chain still holds the entry that sealed it."""
    claim, path = published.run, record_path(published.run.id)

    def problem(file: str, text: str) -> None:
        report.problems.append(Problem("runs", file, text))

    if not store.holds(path):
        problem(path, "the store has no record of this run")
    else:
        sha256, _ = store.digest(path)
        if sha256 != claim.record:
            problem(path, f"its SHA-256 is {sha256[:SHORT]}…, published as {claim.record[:SHORT]}…")
        try:
            record = load_run(store, claim.id)
            found = run_claims(record, sha256)
            for text in _differences("run", _plain(claim), _plain(found) | {"record": claim.record}):
                problem(path, text)
            report.problems += _left_out(store, published, record)
        except (RunError, UserError) as error:
            problem(path, str(error))
    runs = verify_runs(store)
    report.entries, report.heads = runs.entries, runs.heads
    if published.chain is not None:
        if published.chain.sha256 not in runs.digests:
            problem("runs/chain", f"the run chain lacks the published entry {published.chain.sha256}: cut or rewritten")
    elif chained := _chained(store, claim.id):
        problem("runs/chain", f"published as a run of a store without a run chain, which has it: {chained}")
    if runs.entries or published.chain is not None:
        report.problems += [Problem(f.artifact, f.file, f.problem) for f in runs.problems]


def _chained(store: Store, run: str) -> str | None:
    """The entry of the run chain that a run has written itself, by its file's name.

    A chain that was begun after the run took its record in (`began`), and does not speak against a file that was
    published before that.
    """
    for name in entry_names(store):
        entry = read_link(store, name).entry
        if entry is not None and entry.kind in (STARTED, FINISHED, SEALED) and entry.payload.get("run") == run:
            return name
    return None
