"""A shard as it travels to a worker of a cluster and back. Cheap to import: every worker does.

Plain pickle both ways, as a process pool has it, and not what Ray and Dask would do themselves: Ray hands out arrays
that are read-only views into its object store and hold their room there for as long as a stage keeps them, and an
exception of a shard would come back as another class than it was raised with.
"""

from __future__ import annotations

import pickle
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from artifacts.errors import RunError, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many shards a worker are handed out ahead of the one that is waited for: results are written in order, and those
# that finished early wait in memory.
AHEAD = 4

RETRIES = 3  # of a shard whose worker has died


class RemoteTraceback(Exception):
    """Where an exception was raised, as text: the `__cause__` of the exception that came from a worker."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Pool(Protocol):
    """Workers that take shards: `submit` gives a handle, `result` waits for it, `cancel` ends what still runs. A closed
    pool takes no more."""

    workers: int
    closed: bool

    def submit(self, packed: bytes) -> Any: ...

    def result(self, handle: Any) -> bytes: ...

    def cancel(self, handles: Sequence[Any]) -> None: ...

    def close(self) -> None: ...


def in_order(pool: Pool, function: Callable[[Item], Result], items: Sequence[Item], shared: bool) -> Iterator[Result]:
    """The results of all items in their order, with at most `AHEAD` handed out ahead a worker. Closing the iterator, or
    an error, ends what is still being worked on.

    Args:
        shared: the workers may be on other machines, so that a missing file has a likely reason.

    Raises:
        whatever the function raised, as the class it was raised with; `RunError` if that class cannot travel.
    """
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(pickle.dumps((function, item))))
            if len(waiting) > pool.workers * AHEAD:
                yield _unpacked(pool.result(waiting[0]), shared)
                waiting.popleft()
        while waiting:
            yield _unpacked(pool.result(waiting[0]), shared)
            waiting.popleft()
    finally:
        if waiting:
            pool.cancel(waiting)


def work(packed: bytes) -> bytes:
    """What a worker does: the function applied to the item, and the result or the exception packed."""
    try:
        function, item = pickle.loads(packed)
        return pickle.dumps((True, function(item)))
    except Exception as error:
        text = traceback.format_exc()
        try:
            packed_error = pickle.dumps((False, (error, text)))
            pickle.loads(packed_error)  # some exceptions pickle, and then do not come back
        except Exception:
            packed_error = pickle.dumps((False, (RunError(f"{type(error).__name__}: {error}"), text)))
        return packed_error


def _unpacked(packed: bytes, shared: bool) -> Any:
    fine, value = pickle.loads(packed)
    if fine:
        return value
    error, text = value
    if shared and isinstance(error, FileNotFoundError) and (path := _here_but_not_there(error)):
        raise UserError(
            f"a worker of the cluster does not see {path}, which this machine does: store, cache and input files must "
            "lie on a file system that all machines of the cluster share, under the same path"
        ) from RemoteTraceback(text)
    raise error from RemoteTraceback(text)


def _here_but_not_there(error: FileNotFoundError) -> str | None:
    """The file that the worker missed, if it exists here. Arrow names it in its message only."""
    quoted = re.findall(r"'([^']+)'", str(error))
    named = [str(error.filename)] if error.filename is not None else quoted
    return next((path for path in named if Path(path).exists()), None)
