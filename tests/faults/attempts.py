"""Attempts at a small pipeline in processes of their own, without Prefect, which die where a test wants them to.

A fork server that has imported and loaded everything (tests/faults/warm.py) starts an attempt in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flows.runner
import tasks.resume
from artifacts.errors import RunError, UserError
from artifacts.reader import InputTable, Shard
from artifacts.store import Artifact, Store
from flows.config import load_pipeline
from flows.planning import walk
from flows.registry import BY_NAME
from tasks.execution import execute

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.attempts", "tests.faults.warm"])

PATIENCE = 900.0  # seconds: only to end a test that hangs


@dataclass(frozen=True)
class Attempt:
    """One run of a config.

    Attributes:
        log: file that gets a line for each shard worked on: function and which shard.
        rows: documents a shard at most.
        die_in, die_after: the process kills itself once the function of that name has worked on so many shards.
        file_bytes: the largest file that the process may write (RLIMIT_FSIZE).
        workers: in processes of their own, as a run has them; 0 for the attempt's own process.
        worth: `tasks.resume.WORTH_SECONDS` of this run.
        code: stands for the digest of the code, so that editing the checkout while the tests run changes no count.
    """

    config: str
    store: str
    log: str
    rows: int = 8
    die_in: str = ""
    die_after: int = 0
    workers: int = 0
    file_bytes: int = resource.RLIM_INFINITY
    worth: float = 0.0
    code: str = "0" * 16
    force_from: str | None = None

    def start(self) -> Any:
        process = CONTEXT.Process(target=run_attempt, args=(self,))
        process.start()
        return process

    def run(self) -> int:
        """The exit code: 0 done, 1 or 2 as the command line's, −9 killed."""
        process = self.start()
        process.join(PATIENCE)
        assert process.exitcode is not None, "the attempt hangs"
        code: int = process.exitcode
        return code


def run_attempt(attempt: Attempt) -> None:
    """What an attempt's process does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (attempt.file_bytes, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as every Python program begins; a fork server's children do not
    tasks.resume.WORTH_SECONDS = attempt.worth
    tasks.resume.code_digest = lambda: attempt.code  # type: ignore[assignment]
    whole = InputTable.shards

    def small(table: InputTable, rows: int = 2_048) -> list[Shard]:
        return whole(table, min(rows, attempt.rows))

    InputTable.shards = small  # type: ignore[method-assign]
    flows.runner.START = "fork"  # nothing has to be imported again, and this process has no threads yet
    mapper: Any = flows.runner.shard_map("processes", attempt.workers) if attempt.workers else _map(attempt)
    pipeline, store = load_pipeline(attempt.config, []), Store(attempt.store)

    def call(name: str, inputs: dict[str, list[Artifact]], force: bool) -> Artifact:
        seed = pipeline.settings.seed
        config = pipeline.config(name)
        outcome = execute(BY_NAME[name].stage, config, inputs, store, seed=seed, mapper=mapper, force=force)
        return outcome.artifact

    try:
        walk(pipeline, store, None, attempt.force_from, call)
        flows.runner.end_workers()  # a process of multiprocessing waits for its children before it ends a pool
    except (UserError, RunError, OSError, BrokenProcessPool) as error:
        with open(attempt.log, "a") as log:
            log.write(f"error {type(error).__name__}: {error}\n")
        os._exit(2 if isinstance(error, UserError) else 1)


def _map(attempt: Attempt) -> Any:
    worked = {"": 0}

    def mapped(function: Callable[[Any], Any], pairs: Sequence[Any], /) -> Iterator[Any]:
        name = function.function.__name__  # type: ignore[attr-defined]
        for pair in pairs:
            result = function(pair)
            with open(attempt.log, "a") as log:
                log.write(f"{name} {_which(pair[0])}\n")
            worked[name] = worked.get(name, 0) + 1
            if name == attempt.die_in and worked[name] == attempt.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    return mapped


def _which(item: Any) -> str:
    shard = getattr(item, "shard", None)
    return f"row {shard.first_row} of {Path(shard.path).parent.parent.parent.name}" if shard else f"job {item.number}"


def worked_on(log: Path) -> list[str]:
    """The lines of an attempt's log: one a shard that was computed."""
    return log.read_text().splitlines() if log.exists() else []


def contents(store: str | Path) -> dict[str, str]:
    """Reference to content of everything in a store."""
    return {artifact.ref: artifact.content for artifact in Store(store).artifacts()}
