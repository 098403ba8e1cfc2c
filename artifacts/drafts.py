"""Drafts: the folders in which artifacts are made, and the lock files that say whose they are while a process lives.

A lock goes with its process, however that dies: a draft whose lock nobody holds is swept away by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Draft:
    """An artifact in the making: `folder` becomes it, `work` survives a crash and goes on to the next attempt."""

    folder: Path
    work: Path


@contextmanager
def open_draft(root: Path, stage: str, recipe: str) -> Iterator[Draft]:
    """`Store.draft` in the folder for drafts and checkpoints."""
    (root / ".tmp").mkdir(parents=True, exist_ok=True)
    _sweep(root / ".tmp")
    folder = Path(tempfile.mkdtemp(prefix=f"{stage}-{recipe}-{os.getpid()}-", dir=root / ".tmp"))
    # The lock says whose draft this is for as long as the process lives, however it dies.
    with open(folder / ".locking", "w") as own, _work_folder(root, stage, recipe, folder) as work:
        fcntl.flock(own, fcntl.LOCK_EX)
        os.rename(folder / ".locking", folder / ".lock")
        (folder / "files").mkdir()
        try:
            yield Draft(folder / "files", work)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def exclusive(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which is removed afterwards. Raises `BlockingIOError` with `wait=False` if another holds it.

    Whoever waited on a file that its holder has removed meanwhile holds a lock that nobody else sees: it tries again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            try:
                current = path.stat().st_ino == os.fstat(stream.fileno()).st_ino
            except FileNotFoundError:
                current = False
            if not current:
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def _work_folder(root: Path, stage: str, recipe: str, private: Path) -> Iterator[Path]:
    work = root / ".work" / f"{stage}-{recipe}"
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(Path(f"{work}.lock"), wait=False))
        except BlockingIOError:
            work = private / "work"  # another process builds the same recipe and owns the resumable folder
        work.mkdir(parents=True, exist_ok=True)
        yield work


def sweep_committed(root: Path, stage: str, recipe: str) -> None:
    """Remove what a process has left that was killed behind its commit of this recipe, when it had only to tidy up: its
    draft, its folder for checkpoints and its locks. What somebody holds stays."""
    if (root / ".tmp").is_dir():
        _sweep(root / ".tmp")
    work = root / ".work" / f"{stage}-{recipe}"
    for lock in (root / ".tmp" / f"commit-{stage}-{recipe}.lock", Path(f"{work}.lock")):
        if lock.exists() or (lock.parent == work.parent and work.exists()):
            with suppress(OSError), exclusive(lock, wait=False):  # held, or on a disk that is read-only
                if lock.parent == work.parent:
                    shutil.rmtree(work, ignore_errors=True)


# A draft's folder is named before it is locked; one that is still without a lock after this time lost its process.
UNLOCKED_SECONDS = 3600.0


def _sweep(folder: Path) -> None:
    """Remove the drafts of processes that are gone: those whose lock nobody holds."""
    for draft in folder.iterdir():
        try:
            with open(draft / ".lock") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft, ignore_errors=True)
        except BlockingIOError:
            continue
        except NotADirectoryError:  # a commit's lock file
            continue
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > UNLOCKED_SECONDS:
                    shutil.rmtree(draft, ignore_errors=True)
