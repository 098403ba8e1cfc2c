"""The worker process of the service: takes due runs from a work pool and starts a process for each.

Prefect's own worker, when told to stop, signals its runs and does not wait for them. This one takes no new run, ends
those in progress, waits until they have said so, and then goes. Their state is Crashed, which the UI can retry.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
from prefect.workers.process import ProcessWorker

from flows.serving.children import end_with_parent
from flows.serving.observer import install
from flows.serving.watch import WORKER_PID

GRACE = 9.0  # seconds that runs get between SIGTERM and SIGKILL

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it takes the place of Prefect's worker of this type

    class Worker(ProcessWorker):
        """A process worker that knows its runs' processes and can stop taking new ones."""

        stopping = False

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self.pids: set[int] = set()

        async def get_and_submit_flow_runs(self) -> list[Any]:
            return [] if self.stopping else await super().get_and_submit_flow_runs()

        async def run(
            self, flow_run: Any, configuration: Any, task_status: anyio.abc.TaskStatus[int] | None = None
        ) -> Any:
            noted = _Noting(self.pids, task_status)
            try:
                return await super().run(flow_run, configuration, noted)
            finally:
                if noted.pid is not None:
                    self.pids.discard(noted.pid)


class _Noting(anyio.abc.TaskStatus[int]):
    """Notes the process id that a run was started as."""

    def __init__(self, pids: set[int], inner: anyio.abc.TaskStatus[int] | None) -> None:
        self._pids, self._inner, self.pid = pids, inner, None

    pid: int | None

    def started(self, value: int | None = None) -> None:
        assert value is not None
        self.pid = value
        self._pids.add(value)
        if self._inner is not None:
            self._inner.started(value)


async def work(pool: str, name: str, limit: int | None) -> None:
    """Work until SIGTERM or SIGINT."""
    worker = Worker(
        name=name, work_pool_name=pool, limit=limit, create_pool_if_not_found=False, heartbeat_interval_seconds=15
    )
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_when_told, worker, group.cancel_scope)
        await worker.start(printer=lambda *_: None)


async def _stop_when_told(worker: Worker, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            worker.stopping = True
            await _end(worker.pids)
            scope.cancel()
            return


async def _end(pids: set[int]) -> None:
    """SIGTERM to each run's process group, and SIGKILL to what is left. Returns when the worker has seen their end."""
    for pid in pids:
        _signal(pid, signal.SIGTERM)
    with anyio.move_on_after(GRACE):
        while pids:
            await anyio.sleep(0.1)
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    with anyio.move_on_after(2):
        while pids:
            await anyio.sleep(0.1)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def main(pool: str, name: str, limit: str = "") -> None:
    os.environ[WORKER_PID] = str(os.getpid())
    # While a run waits for its turn, each attempt to start it would be two lines in the run's own log. (A filter, since
    # Prefect resets the levels of loggers when it sets up logging.)
    logging.getLogger("prefect.flow_runs.worker").addFilter(lambda record: record.levelno >= logging.WARNING)
    install()
    end_with_parent(linger=0.0, at_most=GRACE + 5)
    anyio.run(work, pool, name, int(limit) if limit else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
