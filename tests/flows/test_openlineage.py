"""OpenLineage events of a run as a receiver gets them, held against the client's own classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from artifacts.exchange.openlineage import artifact_events
from artifacts.store import Store
from tests.flows.test_pipeline import write_config
from tests.openlineage_support import Receiver, check, of, receiver, states
from tests.warcs import CRAWL, CURATED, write_warc

# Both runs in one process with one Prefect server, whose start takes most of the time.
TWO_RUNS = """
import json, sys
from artifacts.errors import UserError
from artifacts.store import Store
from flows.config import load_pipeline
from flows.records import start_record
from flows.server import prefect_api

pipeline = load_pipeline(sys.argv[1], to_run=True)
with prefect_api():
    from flows.pipeline import run_pipeline

    for until in ("quality", "dedup"):
        record = start_record(pipeline.origin, [])
        try:
            run_pipeline(pipeline, Store(sys.argv[2]), record, until=until)
        except UserError as error:
            assert "quality.positives" in str(error)
        print(json.dumps(record.result()))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Receiver, Path, list[dict[str, Any]]]:
    """A run that builds ingest and dedup and fails in quality, then one that reuses both; all with one receiver."""
    folder = tmp_path_factory.mktemp("openlineage")
    write_warc(folder / "a.warc.gz", CRAWL, 12, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 8, 2, "curated.example")
    with receiver() as found:
        config = write_config(
            folder,
            openlineage={"url": f"{found.url}/base", "endpoint": "in/here", "namespace": "tests", "every": 0},
            quality={"positives": {"urls": ["nowhere.example"]}},
        )
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        environment |= {"PREFECT_HOME": str(folder / "prefect"), "OPENLINEAGE_API_KEY": "not-for-configs"}
        command = [sys.executable, "-c", TWO_RUNS, config, str(folder / "store")]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "openlineage:" not in result.stderr and "not-for-configs" not in result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["ok"] for record in records] == [False, True]
    return found, folder, records


def test_every_event_is_one_of_the_client_s_classes_and_comes_where_the_config_says(ran: Any) -> None:
    found, _, _ = ran
    assert len(found.got) > 12
    for path, headers, event in found.got:
        assert path == "/base/in/here"
        assert headers["Authorization"] == "Bearer not-for-configs"
        check(event)
        assert event["job"]["namespace"] == "tests"


def test_a_run_is_told_in_order_and_its_stages_name_it_as_parent(ran: Any) -> None:
    found, folder, records = ran
    run, again = of(found.events, "pipeline")[:2], of(found.events, "pipeline")[2:]
    assert (states(run), states(again)) == (["START", "FAIL"], ["START", "COMPLETE"])
    first = [
        event
        for event in found.events
        if event["run"]["facets"].get("parent", {}).get("run") == {"runId": run[0]["run"]["runId"], "facets": {}}
    ]
    for stage, end in (("ingest", "COMPLETE"), ("dedup", "COMPLETE"), ("quality", "FAIL")):
        told_of = of(first, f"pipeline.{stage}")
        said = states(told_of)
        assert (said[0], said[-1]) == ("START", end)
        # Quality finds no positives before it has anything to count.
        assert set(said[1:-1]) == (set() if stage == "quality" else {"RUNNING"})
        assert len({event["run"]["runId"] for event in told_of}) == 1
        assert all(before["eventTime"] <= after["eventTime"] for before, after in pairwise(told_of))
        for event in told_of:
            parent = event["run"]["facets"]["parent"]
            assert (parent["job"]["name"], parent["root"]["run"]["runId"]) == ("pipeline", run[0]["run"]["runId"])
            assert run[0]["eventTime"] <= event["eventTime"] <= run[-1]["eventTime"]
    ids = {event["run"]["runId"] for event in found.events}
    assert len(ids) == 2 + 3 + 2
    assert {uuid.UUID(value).version for value in ids} == {7}
    progress = of(first, "pipeline.dedup")[1]["run"]["facets"]["crawl2chat_progress"]
    assert progress["what"] and progress["done"] >= 0
    # The same execution has the same id when it is told from its manifest.
    store = Store(folder / "store")
    later = artifact_events(store.resolve("dedup@latest"), "tests")
    assert {event.run.runId for event in later} == {of(first, "pipeline.dedup")[0]["run"]["runId"]}
    assert {event.job.name for event in later} == {"pipeline.dedup"}
    assert records[0]["run"] != records[1]["run"]


def test_statistics_are_those_of_the_manifest(ran: Any) -> None:
    found, folder, records = ran
    artifact = Store(folder / "store").resolve("dedup@latest")
    done = next(e for e in of(found.events, "pipeline.dedup") if e["eventType"] == "COMPLETE")
    written = {dataset["name"].rpartition("/")[2]: dataset for dataset in done["outputs"]}
    assert set(written) == {"data", "decisions", "pairs", "signatures", "index"}
    files = [entry for name, entry in artifact.manifest.files.items() if name.startswith("index/")]
    statistics = written.pop("index")["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (sum(entry.bytes for entry in files), len(files))
    row = records[0]["stages"][1]
    assert row["stage"] == "dedup"
    for table, dataset in written.items():
        entry = artifact.manifest.files[f"{table}/part-00000.parquet"]
        statistics = dataset["outputFacets"]["outputStatistics"]
        assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (entry.rows, entry.bytes, 1)
        assert dataset["facets"]["dataQualityMetrics"]["rowCount"] == entry.rows
        assert dataset["facets"]["version"]["datasetVersion"] == artifact.manifest.content
        assert (dataset["namespace"], dataset["name"]) == ("file", f"{artifact.local()}/{table}")
    assert written["data"]["outputFacets"]["outputStatistics"]["rowCount"] == row["kept"]
    nulls = written["decisions"]["facets"]["dataQualityMetrics"]["columnMetrics"]
    assert (nulls["doc_id"]["nullCount"], nulls["url"]["nullCount"]) == (0, row["rows_in"])
    fields = {one["name"]: one for one in written["data"]["facets"]["schema"]["fields"]}
    assert (fields["text"]["type"], fields["lang_score"]["type"], fields["doc_id"]["ordinal_position"]) == (
        "string",
        "double",
        1,
    )
    (given,) = done["inputs"]
    assert given["inputFacets"]["inputStatistics"]["rowCount"] == row["rows_in"]
    facts = done["run"]["facets"]["crawl2chat_artifact"]
    assert (facts["artifact"], facts["reused"], facts["counts"]["kept"]) == (row["artifact"], False, row["kept"])


def test_sources_are_inputs_by_their_hash(ran: Any) -> None:
    found, folder, _ = ran
    done = next(e for e in of(found.events, "pipeline.ingest") if e["eventType"] == "COMPLETE")
    manifest = Store(folder / "store").resolve("ingest@latest").manifest
    versions = {dataset["name"]: dataset["facets"]["version"]["datasetVersion"] for dataset in done["inputs"]}
    assert versions == {f"sources/{source.name}": f"sha256:{source.sha256}" for source in manifest.sources}
    assert len(versions) == 2


def test_a_failed_stage_says_why(ran: Any) -> None:
    found, _, _ = ran
    for job in ("pipeline.quality", "pipeline"):
        failed = next(event for event in of(found.events, job) if event["eventType"] == "FAIL")
        assert "quality" in failed["run"]["facets"]["errorMessage"]["message"]
        assert failed["outputs"] == []


def test_a_reused_stage_completes_with_its_datasets_and_wrote_nothing(ran: Any) -> None:
    found, _, _ = ran
    built, reused = [e for e in of(found.events, "pipeline.dedup") if e["eventType"] == "COMPLETE"]
    assert reused["run"]["facets"]["crawl2chat_artifact"]["reused"] is True
    assert [d["name"] for d in reused["outputs"]] == [d["name"] for d in built["outputs"]]
    assert [d["name"] for d in reused["inputs"]] == [d["name"] for d in built["inputs"]]
    assert all("outputStatistics" not in d["outputFacets"] for d in reused["outputs"])
    assert reused["run"]["runId"] != built["run"]["runId"]
