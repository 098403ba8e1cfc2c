"""Where a stage's shards are worked on: threads or processes of this machine, Ray or Dask. No result depends on it.

Not Prefect's task runners. Its process pool lives for one flow, so each worker of each stage's pool imported Prefect
and all of our packages anew, and each shard cost API calls (benchmarks/README.md has what that took). Here one pool
lives for the run, and its workers import what a shard needs. This module must stay cheap to import: every worker does.
Ray and Dask are driven directly for the same reason, and no worker needs Prefect's API (`flows/runners/`).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from artifacts.errors import UserError
from flows.runners.calls import AHEAD, Pool, in_order

if TYPE_CHECKING:
    from flows.config import RunnerName

Item = TypeVar("Item")
Result = TypeVar("Result")

START = "spawn"  # a fork of a process that has threads may hang

# The environment variable that names a running cluster where the config does not, and what must be installed.
ADDRESS = {"ray": "RAY_ADDRESS", "dask": "DASK_SCHEDULER_ADDRESS"}
NEEDS = {"ray": "ray", "dask": "distributed"}

_pools: dict[int, ProcessPoolExecutor] = {}  # by the number of workers
_clusters: dict[tuple[str, int | None, str | None], Pool] = {}  # by runner, workers and address


def shard_map(
    runner: RunnerName, workers: int | None, address: str | None = None, folder: Path | None = None
) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]:
    """A `tasks.stage.Mapper` over `workers` processes, threads or workers of a cluster (default: one a core of the
    machine or cluster); results come in item order. Nothing is started before there is a shard to work on.

    If the caller stops early or a shard fails, the shards that are still being worked on are ended with their workers;
    Dask workers that were there before the run finish theirs, for nobody.

    Args:
        address: of a running Ray or Dask cluster; by default what the environment names; without either, the run
            starts its own, on this machine.
        folder: of the store's drafts, which all machines of a running cluster must see.

    Raises:
        UserError: the runner is not installed.
    """
    check_runner(runner)
    if runner == "threads":
        return _over_threads(workers or os.cpu_count() or 1)
    if runner == "processes":
        return _over_processes(workers or os.cpu_count() or 1)
    return _over_cluster(runner, workers, address or os.environ.get(ADDRESS[runner]) or None, folder)


def check_runner(runner: str) -> None:
    """Raise `UserError` if the runner's package is not installed."""
    if runner in NEEDS and find_spec(NEEDS[runner]) is None:
        raise UserError(f"runner: {runner} needs an extra that is not installed: pip install 'crawl2chat[{runner}]'")


def _over_threads(count: int) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]:
    def mapped(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        if len(items) <= 1 or count == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(count) as pool:
            yield from _futures(pool, count, function, items)

    return mapped


def _over_processes(count: int) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]:
    def mapped(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        if len(items) <= 1 or count == 1:
            yield from map(function, items)
            return
        with _processes(count) as pool:
            yield from _futures(pool, count, function, items)

    return mapped


def _over_cluster(
    runner: str, workers: int | None, address: str | None, folder: Path | None
) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]:
    def mapped(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        if len(items) <= 1 or (workers == 1 and address is None):
            yield from map(function, items)
            return
        yield from in_order(_cluster(runner, workers, address, folder), function, items, shared=address is not None)

    return mapped


def _futures(pool: Executor, count: int, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
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


def _cluster(runner: str, workers: int | None, address: str | None, folder: Path | None) -> Pool:
    """The Ray or Dask of the run, started or connected to on first use."""
    key = (runner, workers, address)
    if key in _clusters and not _clusters[key].closed:
        return _clusters[key]
    pool: Any
    if runner == "ray":
        from flows.runners.ray_environment import prepare

        prepare(local=address is None)
        from flows.runners.ray_pool import RayPool

        pool = RayPool(workers, address)
    else:
        from flows.runners.dask_pool import DaskPool

        pool = DaskPool(workers, address)
    _clusters[key] = pool
    atexit.register(end_clusters)  # they have folders of their own
    if address is not None and folder is not None:
        from flows.runners.sharing import check_machines

        try:
            check_machines(pool.ask, folder, f"the {runner.capitalize()} cluster at {address}")
        except BaseException:
            end_clusters()
            raise
    return pool  # type: ignore[no-any-return]


def end_clusters() -> None:
    """Stop the Ray or Dask that this process started, and leave those that it was connected to."""
    while _clusters:
        _, pool = _clusters.popitem()
        pool.close()


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
    """End all workers now; the next map starts new ones. Idle processes end by themselves with the program."""
    end_clusters()
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
