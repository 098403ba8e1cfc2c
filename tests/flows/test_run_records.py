"""A run's record names Prefect's flow run, so that it is found in the UI."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect.context import FlowRunContext

from artifacts.audit.verify_runs import verify_runs
from artifacts.runs import load_run, record_path
from artifacts.store import Store
from flows.records import RunRecord, now, start_record
from flows.ui import run as shown
from flows.ui.run import showing

FLOW_RUN = UUID(int=7)


def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on as within a flow."""
    flow_run = SimpleNamespace(id=FLOW_RUN, created_by=None)
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=flow_run))


def test_a_run_of_the_command_line_knows_its_flow_run_once_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record = Store(tmp_path / "store"), start_record("pipeline.yaml", None)
    record.save(store)
    assert load_run(store, record.run)["prefect_flow_run"] is None
    monkeypatch.setattr(shown, "publish_run", lambda *_: None)
    with monkeypatch.context() as flow:
        inside(flow)
        with showing(store, record):
            # In the store before anything can be killed.
            assert load_run(store, record.run)["prefect_flow_run"] == str(FLOW_RUN)
    record.finished, record.ok = now(), True
    record.save(store)
    assert load_run(store, record.run)["prefect_flow_run"] == str(FLOW_RUN)
    assert verify_runs(store).problems == []


def test_a_run_of_a_deployment_knows_it_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    inside(monkeypatch)
    record = start_record("pipeline.yaml", None)
    record.save(store)
    assert load_run(store, record.run)["prefect_flow_run"] == str(FLOW_RUN)


def test_a_record_of_before_is_still_borne_out_by_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")

    def as_before(record: RunRecord, store: Store) -> None:
        value = {name: getattr(record, name) for name in record.__dataclass_fields__ if name != "prefect_flow_run"}
        store.write_text(record_path(record.run), json.dumps(value, indent=1) + "\n")

    with monkeypatch.context() as before:
        before.setattr(RunRecord, "_write", as_before)
        old = start_record("pipeline.yaml", None)
        old.save(store)
        old.finished, old.ok = now(), True
        old.save(store)
    new = start_record("pipeline.yaml", None)
    new.save(store)
    new.finished, new.ok = now(), True
    new.save(store)
    assert "prefect_flow_run" not in load_run(store, old.run) and "prefect_flow_run" in load_run(store, new.run)
    assert verify_runs(store).problems == [] and verify_runs(store).notes == []
