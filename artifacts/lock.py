"""Who uses a store: runs share it, and `gc` has it alone.

What a run has reused must not vanish while it runs, so every run holds a shared lock on `<store>/.lock` from its first
look at the store to its end, and `gc` wants it exclusively. Beside it each user keeps a note that says who it is. The
kernel takes a lock from a process that dies, however it dies. On an object store the lock lies in this machine's cache
folder: it knows nothing of other machines.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from artifacts.errors import RunError
from artifacts.runs import now
from artifacts.store import Store

NOTES = ".users"


@contextmanager
def in_use(store: Store, what: str) -> Iterator[None]:
    """Hold the store as one of its users; waits for as long as another process removes things from it.

    Args:
        what: who this is, for people: `run 20260101-120000-ab12`.

    A store that cannot be written is not locked: nobody can remove anything from it either.
    """
    with ExitStack() as held:
        stream = _open(store)
        if stream is not None:
            held.enter_context(stream)
            with suppress(OSError):  # a full disk: the lock holds without its note
                held.enter_context(_note(store, what))  # first the name, then the lock: no holder is nameless
            fcntl.flock(stream, fcntl.LOCK_SH)
            held.callback(fcntl.flock, stream, fcntl.LOCK_UN)
        yield


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Hold the store alone.

    Raises:
        RunError: somebody uses it; the message says who.
    """
    stream = _open(store, write=True)
    assert stream is not None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = "; ".join(
                f"{user['what']} (pid {user['pid']} on {user['host']}, since {user['since']})" for user in users(store)
            )
            raise RunError(
                f"{store.url} is in use by {found or 'another process'}. Try again when it has ended"
            ) from error
        yield


def users(store: Store) -> list[dict[str, Any]]:
    """Who holds the store now: `what`, `pid`, `host`, `since`. Notes of dead processes are removed."""
    folder = store.scratch_root() / NOTES
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with suppress(OSError, ValueError), open(path, encoding="utf8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(json.loads(stream.read()))
            else:
                path.unlink(missing_ok=True)
    first = {
        (user["what"], user["pid"]): user for user in sorted(found, key=lambda user: str(user["since"]), reverse=True)
    }
    return sorted(first.values(), key=lambda user: (user["since"], user["what"]))


@contextmanager
def _note(store: Store, what: str) -> Iterator[None]:
    folder = store.scratch_root() / NOTES
    folder.mkdir(parents=True, exist_ok=True)
    about = {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": now()}
    partial = folder / f".{uuid.uuid4().hex}"
    path = partial.with_name(f"{partial.name[1:]}.json")
    with open(partial, "w", encoding="utf8") as stream:
        stream.write(json.dumps(about))
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        os.rename(partial, path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _open(store: Store, write: bool = False) -> TextIO | None:
    path = Path(store.scratch_root(), ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a", encoding="utf8")
    except OSError:
        if write:
            raise
    try:
        return open(path, encoding="utf8")
    except OSError:
        return None
