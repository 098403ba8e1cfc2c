"""What dead processes leave in a store: drafts, checkpoints, half-made copies. Never artifacts."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from artifacts.drafts import UNLOCKED_SECONDS
from artifacts.store import Store


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can go. `inside` is its path in the store; None: `path` is local."""

    path: str
    bytes: int
    because: str
    inside: str | None = None

    def remove(self, store: Store) -> None:
        """Remove it. What is gone already is no error."""
        if self.inside is not None:
            with suppress(FileNotFoundError):
                store.fs.rm(store._full(self.inside), recursive=True)
        elif os.path.isdir(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            Path(self.path).unlink(missing_ok=True)


def left_behind(store: Store, gone: Collection[str] = (), unfinished: bool = False) -> Iterator[Leftover]:
    """What nobody comes back to.

    Args:
        gone: folders of artifacts that go too.
        unfinished: also the work of recipes that were not finished, which the next run of them would go on from.
    """
    root = store.scratch_root()
    yield from _drafts(root / ".tmp")
    yield from _work(store, root / ".work", gone, unfinished)
    yield from _partial_files(store, root)
    if store.remote:
        for copy in sorted((root / "copies").glob("*/*")):
            yield _leftover(copy, "a local copy; fetched again when it is needed")
        yield from _cut_off(store, gone)


def _drafts(folder: Path) -> Iterator[Leftover]:
    for draft in sorted(folder.iterdir()) if folder.is_dir() else ():
        if draft.is_dir() and draft.name.startswith("gc-"):
            yield _leftover(draft, "removed before; the removal was interrupted")
        elif draft.is_dir():
            if _abandoned(draft / ".lock", draft):
                yield _leftover(draft, "the draft of a process that is gone")
        elif _abandoned(draft, draft):
            yield _leftover(draft, "the lock of a process that is gone")


def _work(store: Store, folder: Path, gone: Collection[str], unfinished: bool) -> Iterator[Leftover]:
    for work in sorted(folder.iterdir()) if folder.is_dir() else ():
        if work.name.endswith(".lock"):
            if _abandoned(work, work):
                yield _leftover(work, "the lock of a process that is gone")
            continue
        lock = work.with_name(f"{work.name}.lock")
        if lock.exists() and not _abandoned(lock, lock):
            continue
        stage, _, recipe = work.name.rpartition("-")
        made = store.find(stage, recipe)
        if made is not None and made.folder not in gone:
            yield _leftover(work, f"checkpoints of {made.ref}, which is finished")
        elif unfinished or made is not None:
            yield _leftover(work, f"checkpoints of {stage}@{recipe}, which is not there")


def _partial_files(store: Store, root: Path) -> Iterator[Leftover]:
    """Halves of small files, of a process that was killed while it wrote one."""
    folders = ("runs", "runs/chain", "takedown", "takedown/versions", "reports")
    for path in sorted(path for name in folders if not store.remote for path in (root / name).glob(".*")):
        with suppress(FileNotFoundError):
            if path.is_file() and time.time() - path.stat().st_mtime > UNLOCKED_SECONDS:
                yield _leftover(path, "half of a file; its process is gone")


def _cut_off(store: Store, gone: Collection[str]) -> Iterator[Leftover]:
    """Folders of an object store that an earlier removal was interrupted in: they have files, and no manifest."""
    for folder in sorted(_once_removed(store) - set(gone)):
        if not store.holds(f"{folder}/manifest.json") and (files := store.walk(folder)):
            size = sum(store.fs.size(store._full(f"{folder}/{name}")) or 0 for name in files)
            yield Leftover(store.join(folder), size, "removed before; the removal was interrupted", folder)


def _once_removed(store: Store) -> set[str]:
    from artifacts.runs import entry_names, read_link

    links = [read_link(store, name) for name in entry_names(store)]
    events = [link.entry.payload for link in links if link.entry and link.entry.kind == "gc"]
    return {str(folder) for payload in events for folder in payload.get("artifacts") or ()}


def _abandoned(lock: Path, whose: Path) -> bool:
    """Whether nobody holds a lock file. A draft without one may be about to get it: its age decides."""
    try:
        with open(lock) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            return time.time() - whose.stat().st_mtime > UNLOCKED_SECONDS
        return False


def _leftover(path: Path, because: str) -> Leftover:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    size = 0
    for file in files:
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    return Leftover(str(path), size, because)
