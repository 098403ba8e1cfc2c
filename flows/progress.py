"""Progress, in the terminal (rich, on standard error) and as Prefect progress artifacts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(stderr=True)

# A Prefect artifact is an API call: often enough to watch, seldom enough not to cost.
ARTIFACT_SECONDS = 3.0
PLAIN_SECONDS = 20.0


class StageProgress:
    """Reports one stage's progress; the interface is `tasks.stage.Progress`."""

    def __init__(self, stage: str, bar: Progress | None) -> None:
        self._stage = stage
        self._bar = bar
        self._row = bar.add_task(stage, total=None) if bar else None
        self._artifact: Any = None
        # The first artifact comes after a while: most stages of a small run are done before.
        self._reported = time.monotonic()
        self._printed = time.monotonic()

    def __call__(self, done: int, total: int | None, what: str) -> None:
        now = time.monotonic()
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, completed=done, total=total, description=f"{self._stage}: {what}")
        elif now - self._printed > PLAIN_SECONDS:
            self._printed = now
            console.print(f"  {self._stage}: {what} {done}" + (f" of {total}" if total else ""), highlight=False)
        if total and now - self._reported > ARTIFACT_SECONDS:
            self._reported = now
            self._publish(100.0 * done / total, what)

    def _publish(self, percent: float, what: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        with suppress(Exception):  # progress must never fail a run
            if self._artifact is None:
                self._artifact = create_progress_artifact(
                    progress=percent, key=f"{self._stage.replace('_', '-')}-progress", description=what
                )
            else:
                update_progress_artifact(artifact_id=self._artifact, progress=percent, description=what)


@contextmanager
def stage_progress(stage: str) -> Iterator[StageProgress]:
    """A progress reporter for the time of one stage: a live bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield StageProgress(stage, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield StageProgress(stage, bar)
