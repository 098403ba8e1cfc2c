"""Progress, in the terminal (rich, on standard error), in the run's log and as Prefect progress artifacts."""

from __future__ import annotations

import logging
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
# The run's log is read afterwards: a line a minute, and of training one at each tenth of its steps.
LOG_SECONDS = 60.0
TENTH_SECONDS = 5.0

Log = logging.Logger | logging.LoggerAdapter[Any]


class StageProgress:
    """Reports one stage's progress; the interface is `tasks.stage.Progress`.

    Training says how far it is at every step, with its loss or reward; what is passed on is limited here.
    """

    def __init__(self, stage: str, bar: Progress | None, log: Log | None = None, training: bool = False) -> None:
        self._stage = stage
        self._log = log
        self._training = training
        self._tenth = 0
        self._bar = bar
        self._row = bar.add_task(stage, total=None) if bar else None
        self._artifact: Any = None
        # The first artifact comes after a while: most stages of a small run are done before.
        self._reported = time.monotonic()
        self._printed = time.monotonic()
        self._logged = time.monotonic()

    def __call__(self, done: int, total: int | None, what: str) -> None:
        now = time.monotonic()
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, completed=done, total=total, description=f"{self._stage}: {what}")
        elif now - self._printed > PLAIN_SECONDS:
            self._printed = now
            console.print(f"  {self._stage}: {_place(done, total, what)}", highlight=False)
        if self._log is not None:
            self._write(self._log, now, done, total, what)
        if total and now - self._reported > ARTIFACT_SECONDS:
            self._reported = now
            self._publish(100.0 * done / total, what)

    def finish(self) -> None:
        """The stage has ended well: its artifact, if there is one, is not left at the share that was told last."""
        if self._artifact is not None:
            self._publish(100.0, "done")

    def _write(self, log: Log, now: float, done: int, total: int | None, what: str) -> None:
        tenth = 10 * done // total if total and self._training else 0
        passed = tenth > self._tenth and now - self._logged >= TENTH_SECONDS
        if passed or now - self._logged >= LOG_SECONDS:
            self._logged, self._tenth = now, tenth
            log.info("%s: %s", self._stage, _place(done, total, what))

    def _publish(self, percent: float, what: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        with suppress(Exception):  # progress must never fail a run
            if self._artifact is None:
                self._artifact = create_progress_artifact(
                    progress=percent, key=f"{self._stage.replace('_', '-')}-progress", description=what
                )
            else:
                update_progress_artifact(artifact_id=self._artifact, progress=percent, description=what)


def _place(done: int, total: int | None, what: str) -> str:
    return (f"{done:,} of {total:,}" if total else f"{done:,}") + f": {what}"


@contextmanager
def stage_progress(stage: str, log: Log | None = None, training: bool = False) -> Iterator[StageProgress]:
    """A progress reporter for the time of one stage: a live bar on a terminal, a line now and then elsewhere.

    Args:
        log: where lines for the operator go, too.
        training: whether each tenth of the steps is worth a line.
    """
    if not sys.stderr.isatty():
        plain = StageProgress(stage, None, log, training)
        yield plain
        plain.finish()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        live = StageProgress(stage, bar, log, training)
        yield live
        live.finish()
