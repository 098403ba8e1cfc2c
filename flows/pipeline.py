"""The pipeline flow: the stages of a config, one after the other, and the record of what was run."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from typing import Any

from prefect import flow, get_run_logger
from prefect.context import FlowRunContext, SettingsContext
from prefect.exceptions import FailedRun, MissingResult

from artifacts.errors import RunError, UserError
from artifacts.store import Store
from flows.config import Pipeline
from flows.openlineage_events import told
from flows.planning import inputs_for, walk
from flows.records import RunRecord, now
from flows.runner import end_clusters
from flows.server import embedded
from flows.stage_flows import failed, flow_caller
from flows.ui import showing

Listener = Callable[[dict[str, Any]], None]


def run_pipeline(
    pipeline: Pipeline,
    store: Store,
    record: RunRecord,
    *,
    until: str | None = None,
    force_from: str | None = None,
    listener: Listener | None = None,
) -> RunRecord:
    """Run a pipeline as a Prefect flow and fill its record. A failing stage raises; the record keeps what was done."""

    def whole() -> None:
        _walk(pipeline, store, record, until, force_from, listener)

    body = _as_flow("pipeline", f"{pipeline.name} {record.run}", whole)
    return _recorded(record, store, told(pipeline.settings.openlineage, record, body))


def walk_pipeline(
    pipeline: Pipeline, store: Store, record: RunRecord, *, until: str | None = None, force_from: str | None = None
) -> RunRecord:
    """The same inside a flow that runs already: that of a deployment."""
    body = told(pipeline.settings.openlineage, record, lambda: _walk(pipeline, store, record, until, force_from, None))
    return _recorded(record, store, body)


def _walk(
    pipeline: Pipeline,
    store: Store,
    record: RunRecord,
    until: str | None,
    force_from: str | None,
    listener: Listener | None,
) -> None:
    rows = _Listening(record, store, listener)
    call = flow_caller(store, pipeline.settings, pipeline.config, record.run, rows)
    with showing(store, record, pipeline.name):
        walk(pipeline, store, until, force_from, call)


def run_single(
    pipeline: Pipeline,
    store: Store,
    record: RunRecord,
    name: str,
    given: dict[str, list[str]],
    *,
    force: bool = False,
    listener: Listener | None = None,
) -> RunRecord:
    """Run one stage as a Prefect flow on given artifacts, or on those that the config has made."""
    inputs = inputs_for(pipeline, store, name, given)
    rows = _Listening(record, store, listener)
    call = flow_caller(store, pipeline.settings, pipeline.config, record.run, rows)

    def one() -> None:
        with showing(store, record):
            call(name, inputs, force)

    body: Callable[[], Any] = one
    if FlowRunContext.get() is None:  # from the command line; a deployment's flow runs already
        body = _as_flow("stage", f"{name} of {pipeline.name} {record.run}", one)
    return _recorded(record, store, told(pipeline.settings.openlineage, record, body))


def _as_flow(name: str, run_name: str, body: Callable[[], None]) -> Callable[[], Any]:
    """`body` as a flow. An error for people is one line in its log and its state's message, without a traceback."""
    ended: list[Exception | None] = []  # where Prefect loses it, as it loses results (flows.stage_flows)

    @flow(name=name, flow_run_name=run_name, validate_parameters=False, persist_result=False)
    def whole() -> Any:
        try:
            body()
        except (UserError, RunError) as error:
            get_run_logger().error(str(error))
            ended.append(error)
            return failed(error)
        ended.append(None)
        return None

    def call() -> None:
        try:
            whole()
        except (FailedRun, MissingResult):
            if not ended:
                raise
            if ended[0] is not None:
                raise ended[0] from None

    return call


def _recorded(record: RunRecord, store: Store, body: Callable[[], Any]) -> RunRecord:
    record.save(store)
    try:
        with _without_heartbeats() if embedded() else nullcontext():
            body()
        record.ok = True
    except BaseException as error:
        record.error = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.errno in FULL:
            raise RunError(
                f"{store.url}: {os.strerror(error.errno)}. Nothing half-written counts as an artifact; with room made, "
                "the same command goes on from here"
            ) from error
        if isinstance(error, BrokenProcessPool):
            raise RunError(
                "a worker process was killed, for want of memory most likely. The same command goes on from here; "
                "fewer workers need less (--set workers=1)"
            ) from error
        raise
    finally:
        end_clusters()
        record.finished = now()
        # Where the run has failed for want of room, its record may find none either: the first failure is the one told.
        with nullcontext() if record.ok else suppress(OSError):
            record.save(store)
    return record


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _without_heartbeats() -> SettingsContext:
    """Prefect waits up to a second for each subflow's heartbeat thread to end; an embedded server that ends with the
    run has nobody to hear them. (3.8.8 has no spelling of "none" for this setting in the environment.)"""
    context = SettingsContext.get()
    assert context is not None
    flows = context.settings.flows.model_copy(update={"heartbeat_frequency": None})
    return SettingsContext(profile=context.profile, settings=context.settings.model_copy(update={"flows": flows}))


class _Listening(list[dict[str, Any]]):
    """The rows of a run, saved and announced as they come, so that a killed run has a record too."""

    def __init__(self, record: RunRecord, store: Store, listener: Listener | None) -> None:
        super().__init__()
        self._record, self._store, self._listener = record, store, listener

    def append(self, row: dict[str, Any]) -> None:
        super().append(row)
        self._record.stages.append(row)
        self._record.save(self._store)
        if self._listener:
            self._listener(row)
