"""Mapping a stage's shards with Prefect's task runners. `runner:` chooses one; no result depends on it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from artifacts.errors import UserError
from flows.config import RunnerName

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many shards are handed out ahead of the one that is waited for: results are written in order, and those that
# finished early wait in memory.
AHEAD = 4


def task_runner(name: RunnerName, workers: int | None) -> TaskRunner[Any]:
    """The Prefect task runner of that name, with `workers` processes or threads (default: one a core)."""
    count = workers or os.cpu_count() or 1
    if name == "threads":
        return ThreadPoolTaskRunner(max_workers=count)
    if name == "processes":
        return ProcessPoolTaskRunner(max_workers=count, initializer=end_with_parent)
    raise UserError(f"runner: {name!r} is not here yet; use threads or processes")


def end_with_parent() -> None:
    """Make this worker process end when the run that started it is gone. Without it the workers of a killed run wait
    for ever: each holds both ends of the pool's queue, so none ever reads its end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@task(name="shard", task_run_name="shard {number}", cache_policy=NO_CACHE, persist_result=False)
def run_shard(function: Callable[[Any], Any], item: Any, number: int) -> Any:
    """One shard's work, wherever the task runner puts it."""
    return function(item)


def prefect_map(workers: int) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]:
    """A `Mapper` that submits to the task runner of the flow it is called in, and yields results in item order."""

    def mapped(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        if len(items) <= 1 or workers == 1:
            yield from map(function, items)
            return
        waiting: list[Any] = []
        ahead = workers * AHEAD
        for number, item in enumerate(items):
            waiting.append(run_shard.submit(function, item, number))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()

    return mapped
