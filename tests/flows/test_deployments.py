"""Deployments: what `up` makes of a config, and that a run of one does what the command line does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Scheduled

from artifacts.audit.verify import verify
from artifacts.errors import UserError
from artifacts.store import Store
from flows.config import ROOT, load_pipeline
from flows.deployments import deployments_of
from flows.planning import plan
from flows.registry import NODES
from tests.flows.runs import Deployed, served
from tests.flows.test_pipeline import write_config
from tests.warcs import CRAWL, CURATED, write_warc


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    write_warc(folder / "a.warc.gz", CRAWL, 20, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 20, 2, "curated.example")
    write_config(folder, name="small", tokenize=None, mix=None, decontaminate=None)
    return folder


@pytest.fixture(scope="module")
def deployed(folder: Path) -> Iterator[Deployed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.delenv("PREFECT_API_URL", raising=False)
        with served(str(folder / "pipeline.yaml"), str(folder / "store")) as deployed:
            yield deployed


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "store" / "runs").glob("*.json"))]


def test_every_pipeline_and_every_stage_is_a_deployment() -> None:
    found = deployments_of([load_pipeline("configs/demo.yaml"), load_pipeline("configs/public.yaml")], "/a/store")
    names = [f"{one.flow}/{one.name}" for one in found]
    assert names[:3] == ["pipeline/demo", "stage/demo-crawl", "stage/demo-ingest"]
    assert len(names) == len(set(names))
    assert [one.name for one in found if one.flow == "stage" and "demo" in one.tags] == [
        f"demo-{node.name}" for node in load_pipeline("configs/demo.yaml").nodes
    ]
    by_name = dict(zip(names, found, strict=True))
    assert by_name["pipeline/demo"].parameters == {"config": "configs/demo.yaml", "store": "/a/store"}
    assert by_name["stage/demo-dedup"].tags == ["stage", "dedup", "demo"]
    assert "near-duplicates by MinHash-LSH" in by_name["stage/demo-dedup"].description
    assert "crawl → ingest → dedup" in by_name["pipeline/demo"].description
    gpu = {one.name.removeprefix("demo-") for one in found if one.gpu and "demo" in one.tags and one.flow == "stage"}
    assert gpu == {node.name for node in NODES if node.stage.gpu}
    assert all(one.description and one.parameter_openapi_schema["properties"] for one in found)


def test_two_configs_of_one_name() -> None:
    with pytest.raises(UserError, match="another config is called 'demo' too"):
        deployments_of([load_pipeline("configs/demo.yaml"), load_pipeline("configs/demo.yaml")], "./store")


def test_entrypoints_load_from_the_checkout_and_take_every_parameter_of_the_forms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    for one in deployments_of([load_pipeline("configs/demo.yaml")], "./store"):
        flow = load_flow_from_entrypoint(one.entrypoint)
        assert flow.name == one.flow
        assert set(one.parameter_openapi_schema["properties"]) <= set(flow.parameters.properties)


def test_a_run_does_what_the_command_line_does(deployed: Deployed, folder: Path) -> None:
    given = {"until": "quality", "dedup": {"threshold": 0.7}}
    run = deployed.execute_apart(deployed.create("pipeline/small", given))
    assert run.state is not None and run.state.is_completed(), run.state
    assert re.fullmatch(r"small \d{4}-\d\d-\d\d \d\d:\d\d", run.name)
    record = records(folder)[-1]
    assert (record["config"], record["overrides"]) == (str(folder / "pipeline.yaml"), ["dedup.threshold=0.7"])
    assert (record["ok"], [row["stage"] for row in record["stages"]]) == (True, ["ingest", "dedup", "quality"])
    assert record["prefect_flow_run"] == str(run.id)
    assert f"run {record['run']}: 3 built, 0 reused" in str(run.state.message)
    assert (folder / "store" / "reports" / f"{record['run']}.html").exists()
    store = Store(folder / "store")
    same = load_pipeline(record["config"], record["overrides"])
    assert [step.status for step in plan(same, store)] == ["reuse"] * 3

    alone = deployed.run("stage/small-dedup", {"settings": {"threshold": 0.9}, "inputs": {"documents": "latest"}})
    assert alone.state is not None and alone.state.is_completed(), alone.state
    assert alone.name.startswith("dedup of small 2")
    assert records(folder)[-1]["overrides"] == ["dedup.threshold=0.9"]
    assert store.resolve("dedup@latest").manifest.config["threshold"] == 0.9


def test_a_bad_value_is_refused_by_the_server_and_by_the_run(deployed: Deployed, folder: Path) -> None:
    bad = {"quality": {"alpha": -1}}
    with pytest.raises(PrefectHTTPStatusError) as refused:
        deployed.create("pipeline/small", bad)
    assert refused.value.response.status_code == 409
    assert "Validation failed for field 'quality.alpha'" in refused.value.response.text
    before = len(records(folder))
    # As with the box "Validate parameters" of the form unticked.
    state = deployed.run("pipeline/small", bad, enforce_parameter_schema=False).state
    assert state is not None and state.is_failed()
    assert state.message == f"{folder / 'pipeline.yaml'}: quality.alpha: Input should be greater than 0 (got -1)"
    assert len(records(folder)) == before


def test_a_retried_run_goes_on_and_each_try_keeps_its_record(deployed: Deployed, folder: Path) -> None:
    config = folder / "pipeline.yaml"
    right = config.read_text()
    config.write_text(right.replace("- curated", "- nowhere"))
    run = deployed.run("pipeline/small", {"quality": {"alpha": 0.5}})
    # No page is of the curated class, so quality has nothing to learn from.
    assert run.state is not None and run.state.is_failed()
    first = records(folder)[-1]
    assert (first["ok"], [row["stage"] for row in first["stages"]]) == (False, ["ingest", "dedup"])
    assert first["error"] == run.state.message
    config.write_text(right)
    # What the button Retry of the UI asks the server.
    deployed.client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"))
    again = deployed.execute(run.id)
    assert again.state is not None and again.state.is_completed(), again.state
    assert again.parameters == run.parameters
    last = records(folder)[-1]
    assert last["run"] != first["run"] and first in records(folder)
    assert last["prefect_flow_run"] == first["prefect_flow_run"] == str(run.id)
    assert (last["ok"], last["overrides"]) == (True, ["quality.alpha=0.5"])
    assert [(row["stage"], row["reused"]) for row in last["stages"]] == [
        ("ingest", True),
        ("dedup", True),
        ("quality", False),
    ]
    assert verify(Store(folder / "store")).problems == []
