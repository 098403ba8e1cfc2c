"""Where a stage's shards are worked on: processes or threads of this machine. No result depends on it.

Not Prefect's task runners. Its process pool lives for one flow, so each worker of each stage's pool imported Prefect
and all of our packages anew, and each shard cost API calls (benchmarks/README.md has what that took). Here one pool
lives for the run, and its workers import what a shard needs. This module must stay cheap to import: every worker does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, TypeVar

from artifacts.errors import UserError

if TYPE_CHECKING:
    from flows.config import RunnerName

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many shards are handed out ahead of the one that is waited for: results are written in order, and those that
# finished early wait in memory.
AHEAD = 4

START = "spawn"  # a fork of a process that has threads may hang

_pools: dict[int, ProcessPoolExecutor] = {}  # by the number of workers


def shard_map(
    runner: RunnerName, workers: int | None
) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]:
    """A `tasks.stage.Mapper` over `workers` processes or threads (default: one a core); results come in item order.

    If the caller stops early or a shard fails, the shards that are still being worked on are ended with their workers.

    Raises:
        UserError: a runner that is not here yet.
    """
    if runner not in ("threads", "processes"):
        raise UserError(f"runner: {runner!r} is not here yet; use threads or processes")
    count = workers or os.cpu_count() or 1

    def mapped(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        if len(items) <= 1 or count == 1:
            yield from map(function, items)
            return
        with _processes(count) if runner == "processes" else ThreadPoolExecutor(count) as pool:
            waiting: list[Future[Result]] = []
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > count * AHEAD:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    return mapped


@contextmanager
def _processes(count: int) -> Iterator[Executor]:
    """The pool of the run. It is ended if anything goes wrong within, so that no shard is worked on for nobody."""
    if count not in _pools:
        context = multiprocessing.get_context(START)
        _pools[count] = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)
    try:
        yield _pools[count]
    except BaseException:
        end_workers()
        raise


def end_workers() -> None:
    """End the worker processes now; the next map starts new ones. Idle ones end by themselves with the program."""
    while _pools:
        _, pool = _pools.popitem()
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(ValueError, OSError):
                process.terminate()
        for process in processes:
            process.join()


def _begin_worker() -> None:
    """Make this worker process end when the run that started it is gone, however that one ended. Without it the workers
    of a killed run wait for ever: each holds both ends of the pool's queue, so none ever reads its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the run decides
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
