"""The pipeline flow: the stages of a config, one after the other, and the record of what was run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from prefect import flow
from prefect.context import SettingsContext

from artifacts.store import Artifact, Store
from flows.config import Pipeline
from flows.planning import inputs_for, walk
from flows.records import RunRecord, now, start_record
from flows.server import embedded
from flows.stage_flows import flow_caller

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
    rows = _Listening(record, store, listener)

    @flow(name=f"pipeline-{pipeline.settings.name or 'unnamed'}", flow_run_name=record.run, validate_parameters=False)
    def pipeline_flow() -> int:
        walk(
            pipeline, store, until, force_from, flow_caller(store, pipeline.settings, pipeline.config, record.run, rows)
        )
        return len(rows)

    return _recorded(record, store, pipeline_flow)


def run_single(
    pipeline: Pipeline,
    store: Store,
    name: str,
    given: dict[str, list[str]],
    *,
    overrides: list[str] | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> RunRecord:
    """Run one stage as a Prefect flow on given artifacts, or on those that the config has made."""
    inputs = inputs_for(pipeline, store, name, given)
    record = start_record(pipeline.origin, overrides)
    rows = _Listening(record, store, listener)
    call = flow_caller(store, pipeline.settings, pipeline.config, record.run, rows)

    def one() -> Artifact:
        return call(name, inputs, force)

    return _recorded(record, store, one)


def _recorded(record: RunRecord, store: Store, body: Callable[[], Any]) -> RunRecord:
    record.save(store)
    try:
        with _without_heartbeats() if embedded() else nullcontext():
            body()
        record.ok = True
    except BaseException as error:
        record.error = str(error) or type(error).__name__
        raise
    finally:
        record.finished = now()
        record.save(store)
    return record


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
