"""Cancelling works for as long as a run lasts, whatever became of the server meanwhile.

Prefect's worker hears of cancelled runs by a websocket and asks only once that has failed with an error. In 3.8.8 a
request to cancel is lost when it is made while the websocket is down, or after it was closed cleanly; and when the
server cannot be reached three times in a row, some 25 seconds, a run that is under way can never be cancelled again.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from prefect._internal.observers import FlowRunCancellingObserver, OnCancellingCallback
from prefect.runner import _flow_run_executor
from prefect.utilities.services import critical_service_loop

POLL_SECONDS = 4.0


class PersistentObserver(FlowRunCancellingObserver):
    """Listens to the websocket and asks as well, often enough to cancel within 15 seconds, until the run has ended."""

    def __init__(self, on_cancelling: OnCancellingCallback, **keywords: Any) -> None:
        def once(flow_run_id: UUID) -> None:
            if flow_run_id not in self._told:
                self._told.add(flow_run_id)
                on_cancelling(flow_run_id)

        super().__init__(once, **(keywords | {"polling_interval": POLL_SECONDS}))
        self._told: set[UUID] = set()

    def remove_in_flight_flow_run_id(self, flow_run_id: UUID) -> None:
        super().remove_in_flight_flow_run_id(flow_run_id)
        self._told.discard(flow_run_id)

    async def __aenter__(self) -> PersistentObserver:
        await super().__aenter__()  # type: ignore[no-untyped-call]
        if self._polling_task is None:  # it polls already where there was no websocket
            self._ask()
        return self

    def _ask(self) -> None:
        loop = critical_service_loop(
            workload=self._check_for_cancelled_flow_runs,
            interval=self.polling_interval,
            jitter_range=0.3,
            printer=lambda *_: None,
        )
        self._polling_task = asyncio.create_task(loop)
        self._polling_task.add_done_callback(self._handle_polling_task_done)

    def _start_polling_task(self, task: asyncio.Task[None]) -> None:
        """The websocket is gone for good."""
        if not task.cancelled():
            task.exception()  # is told to nobody: asking goes on

    def _handle_polling_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._is_shutting_down:
            return
        task.exception()  # the server cannot be reached; it is asked again
        self._ask()


def install() -> None:
    """Let every run that this process executes be watched by it."""
    _flow_run_executor.FlowRunCancellingObserver = PersistentObserver  # type: ignore[assignment, attr-defined]
