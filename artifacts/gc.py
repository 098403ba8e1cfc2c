"""Store care: what no kept run reaches, and what dead processes have left; listed first, then removed.

Reached is what the records of the kept runs name, what they built, and all that it was made from. What no record names
(a stage called from Python, a copy of somebody else's artifact) is kept too, with all above it, unless asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.errors import RunError, UserError
from artifacts.graph import StoreGraph, inputs_first
from artifacts.leftovers import Leftover, left_behind
from artifacts.lock import alone
from artifacts.runs import append_event, find_run, load_run, record_path, run_ids, starting_order, who
from artifacts.store import Artifact, Store


@dataclass
class Garbage:
    """What can go. `artifacts` come in the order of removal: nothing ever stands without what it was made from."""

    artifacts: list[tuple[Artifact, str]] = field(default_factory=list)  # with the reason
    leftovers: list[Leftover] = field(default_factory=list)
    kept: list[Artifact] = field(default_factory=list)
    unrecorded: list[Artifact] = field(default_factory=list)  # of those kept
    kept_runs: list[str] = field(default_factory=list)
    dropped_runs: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # each a reason to remove nothing

    def as_json(self, removed: bool) -> dict[str, Any]:
        artifacts = [
            {"artifact": a.ref, "path": a.path, "bytes": _bytes(a), "because": because} for a, because in self.artifacts
        ]
        leftovers = [{"path": left.path, "bytes": left.bytes, "because": left.because} for left in self.leftovers]
        return {
            "removed": removed,
            "artifacts": artifacts,
            "leftovers": leftovers,
            "bytes": sum(entry["bytes"] for entry in [*artifacts, *leftovers]),
            "kept": len(self.kept),
            "unrecorded": [artifact.ref for artifact in self.unrecorded],
            "runs": {"kept": self.kept_runs, "dropped": self.dropped_runs},
            "problems": self.problems,
        }


def gc(
    store: Store,
    *,
    keep_last: int | None = None,
    drop_runs: Sequence[str] = (),
    published: Sequence[str | Path] = (),
    unrecorded: bool = False,
    unfinished: bool = False,
    remove: bool = False,
) -> dict[str, Any]:
    """List, or with `remove` take away, what no kept run reaches.

    Args:
        keep_last: keep the newest runs, so many that were successful and those that failed since; None keeps all.
        drop_runs: runs (ids, or unique beginnings) that are not kept.
        published: folders of published runs (or their files), which are kept whatever the others say.
        unrecorded: also what no recorded run names.
        unfinished: also the checkpoints of recipes that were never finished.
        remove: without it nothing is changed.

    Returns:
        `removed`, `artifacts` and `leftovers` (what goes, with `bytes` and `because`), `bytes`, `kept` (how many
        artifacts stay), `unrecorded` (those of them that no record names), `runs`, `problems`.

    Raises:
        UserError: a run is not there, or is published and to be dropped.
        RunError: somebody uses the store; a record or a manifest that decides what is kept cannot be read.
    """
    with alone(store) if remove else nullcontext():
        found = _garbage(store, keep_last, drop_runs, published, unrecorded, unfinished)
        if remove:
            if found.problems:
                raise RunError("nothing was removed: " + "; ".join(found.problems))
            _remove(store, found)
    return found.as_json(remove)


def _garbage(
    store: Store,
    keep_last: int | None = None,
    drop_runs: Sequence[str] = (),
    published: Sequence[str | Path] = (),
    unrecorded: bool = False,
    unfinished: bool = False,
) -> Garbage:
    """See `gc`. Changes nothing."""
    records = {run: load_run(store, run) for run in run_ids(store)}
    kept_runs = _kept_runs(store, records, keep_last, drop_runs, _published_runs(published))
    whole = StoreGraph(store)
    members = _members(whole, records)
    recorded = set().union(*members.values())
    strangers = [artifact for artifact in whole.artifacts if artifact.folder not in recorded]
    wanted = set().union(*(members[run] for run in kept_runs))
    start = [a for a in whole.artifacts if a.folder in wanted] + ([] if unrecorded else strangers)
    reached = {ancestor for artifact in start for ancestor in whole.ancestors(artifact)} | set(start)
    gone = set(whole.artifacts) - reached
    ordered = list(reversed(inputs_first(whole, gone)))
    found = Garbage(
        artifacts=[(artifact, _because(artifact, members)) for artifact in ordered],
        kept=[artifact for artifact in whole.artifacts if artifact in reached],
        unrecorded=[] if unrecorded else strangers,
        kept_runs=kept_runs,
        dropped_runs=[run for run in records if run not in kept_runs],
        problems=[*_damaged(store, whole, recorded - wanted), *_elsewhere(store, records)],
    )
    found.leftovers = [
        *_of_runs(store, found.dropped_runs, gone),
        *left_behind(store, {artifact.folder for artifact in gone}, unfinished),
    ]
    return found


# --- which runs


def _kept_runs(
    store: Store,
    records: dict[str, dict[str, Any]],
    keep_last: int | None,
    drop_runs: Sequence[str],
    published: Collection[str],
) -> list[str]:
    dropped = {find_run(store, run) for run in drop_runs}
    for run in sorted(dropped & set(published)):
        raise UserError(f"run {run} is published and cannot be dropped")
    newest = set(records) if keep_last is None else _newest(store, records, keep_last)
    return [run for run in records if run in published or (run in newest and run not in dropped)]


def _newest(store: Store, records: dict[str, dict[str, Any]], wanted: int) -> set[str]:
    """So many successful runs, and those that failed since.

    Runs are in the order in which the run chain has them started, since a clock may have been set back; those that it
    does not know come before them, by the time in their records.
    """
    order = starting_order(store)
    newest: set[str] = set()
    successful = 0
    for run in sorted(records, key=lambda r: (order.get(r, 0), str(records[r].get("started") or ""), r), reverse=True):
        if successful >= wanted:
            break
        newest.add(run)
        successful += bool(records[run].get("ok"))
    return newest


def _published_runs(places: Sequence[str | Path]) -> set[str]:
    """The runs that published files name; files of other stores' runs do no harm."""
    found = set()
    for place in map(Path, places):
        for path in sorted(place.glob("*.json")) if place.is_dir() else [place]:
            try:
                value = json.loads(path.read_text("utf8"))
                run = value["run"]
                found.add(str(run["id"]))
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{path}: not a published run ({error}); nothing is removed before it is read"
                ) from error
    return found


def _members(whole: StoreGraph, records: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Run to the folders of its artifacts: those that its record names, and those that say that they are its work."""
    found: dict[str, set[str]] = {run: set() for run in records}
    for run, record in records.items():
        for row in record.get("stages") or ():
            found[run].add("/".join(str(row["path"]).rsplit("/", 2)[-2:]))
    for artifact in whole.artifacts:
        maker = artifact.manifest.run.run_id
        if maker in found:
            found[maker].add(artifact.folder)
    return found


def _because(artifact: Artifact, members: dict[str, set[str]]) -> str:
    runs = [run for run, folders in members.items() if artifact.folder in folders]
    if not runs:
        return "no recorded run names it"
    several = len(runs) > 1
    return f"only of {'runs' if several else 'run'} {', '.join(runs)}, which {'are' if several else 'is'} not kept"


def _damaged(store: Store, whole: StoreGraph, dropped: Collection[str]) -> Iterator[str]:
    """Artifacts whose manifests cannot be read: what they were made from is not known, and must not go."""
    known = {artifact.folder for artifact in whole.artifacts}
    for artifact in store.artifacts():
        if artifact.folder not in known and artifact.folder not in dropped:
            yield f"what {artifact.ref} was made from is not known: its manifest is damaged (see `crawl2chat verify`)"


def _elsewhere(store: Store, records: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Runs of other machines on an object store, where no lock tells whether they go on."""
    for run, record in records.items() if store.remote else ():
        if not record.get("finished") and record.get("host") != socket.gethostname():
            yield f"run {run} on {record.get('host')} has not finished; drop it (--drop-run {run}) if it is dead"


def _of_runs(store: Store, runs: Sequence[str], gone: Collection[Artifact]) -> Iterator[Leftover]:
    """The records of runs that are not kept, and reports of what is gone."""
    for run in runs:
        path = record_path(run)
        yield Leftover(store.join(path), store.fs.size(store._full(path)), "the record of a run that is not kept", path)
    folder = (store.scratch_root() if store.remote else Path(store.root)) / "reports"
    for name in [*runs, *(f"{artifact.stage}-{artifact.recipe}" for artifact in gone)]:
        report = folder / f"{name}.html"
        if report.is_file():
            yield Leftover(str(report), report.stat().st_size, "the report of what is not kept")


# --- removing


def _bytes(artifact: Artifact) -> int:
    return sum(entry.bytes for entry in artifact.manifest.files.values())


def _remove(store: Store, found: Garbage) -> None:
    """Take it away; the run chain is told first, so that what is missing is never missing unsaid."""
    if not found.artifacts and not found.leftovers:
        return
    folders = [artifact.folder for artifact, _ in found.artifacts]
    if folders or found.dropped_runs:
        append_event(
            store, "gc", {"user": who(), "host": socket.gethostname(), "runs": found.dropped_runs, "artifacts": folders}
        )
    trash = store.scratch_root() / ".tmp" / f"gc-{uuid.uuid4().hex}"
    trash.mkdir(parents=True, exist_ok=True)
    try:
        for number, (artifact, _) in enumerate(found.artifacts):
            remove_artifact(store, artifact, trash / str(number))
        for left in found.leftovers:
            left.remove(store)
    finally:
        shutil.rmtree(trash, ignore_errors=True)


def remove_artifact(store: Store, artifact: Artifact, trash: Path) -> None:
    """Make it no artifact in one step: by a rename, or, on an object store, by taking its manifest away first.

    Args:
        trash: a name on the store's own disk that is not there yet.
    """
    if store.remote:
        place = store._full(artifact.folder)
        store.fs.rm_file(f"{place}/manifest.json")
        store.fs.rm(place, recursive=True)
        return
    folder = Path(store.root, artifact.folder)
    os.rename(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)
    with suppress(OSError):  # the stage's last one
        folder.parent.rmdir()
