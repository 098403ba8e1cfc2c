"""Cancelling survives a restart of the server.

Prefect's worker hears of cancelled runs by a websocket. When that breaks it polls; when the server cannot be reached
three times in a row, some 25 seconds, version 3.8.8 gives up, and a run that is under way can never be cancelled again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prefect._internal.observers import FlowRunCancellingObserver
from prefect.runner import _flow_run_executor
from prefect.utilities.services import critical_service_loop

POLL_SECONDS = 4.0


class PersistentObserver(FlowRunCancellingObserver):
    """Polls for as long as there are runs to watch, and often enough to cancel within 15 seconds."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **(keywords | {"polling_interval": POLL_SECONDS}))

    def _handle_polling_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._is_shutting_down:
            return
        task.exception()  # the server cannot be reached; it is asked again
        again = critical_service_loop(
            workload=self._check_for_cancelled_flow_runs,
            interval=self.polling_interval,
            jitter_range=0.3,
            printer=lambda *_: None,
        )
        self._polling_task = asyncio.create_task(again)
        self._polling_task.add_done_callback(self._handle_polling_task_done)


def install() -> None:
    """Let every run that this process executes be watched by it."""
    _flow_run_executor.FlowRunCancellingObserver = PersistentObserver  # type: ignore[attr-defined]
