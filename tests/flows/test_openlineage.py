"""OpenLineage events as a receiver gets them, held against the client's own classes; and receivers that misbehave."""

from __future__ import annotations

import enum
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
import time
import types
import typing
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import attr
import pytest
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde
from prefect.exceptions import CancelledRun
from pydantic import ValidationError

from artifacts.errors import UserError, Waiting
from artifacts.exchange import openlineage
from artifacts.exchange.columns import IDENTITY, TRANSFORMATION, derivations
from artifacts.exchange.openlineage import Execution, artifact_events, as_line, completed, pipeline_name
from artifacts.exchange.openlineage_datasets import name_of, output_datasets
from artifacts.redaction import redact_text
from artifacts.store import Store
from artifacts.tables import DOCUMENTS, SEQUENCES, TOKENS
from flows import openlineage_events
from flows.config import load_pipeline
from flows.openlineage_events import OpenLineageSettings, Sender, told
from flows.records import start_record
from tests.artifacts import chain
from tests.flows.test_pipeline import write_config
from tests.warcs import CRAWL, CURATED, write_warc

# --- a receiver


@dataclass
class Receiver:
    """What was sent to a local HTTP server: (path, headers, event)."""

    url: str
    got: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, _, event in self.got]


@contextmanager
def receiver(status: int = 200) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


# --- the client's classes as a schema: an event is read back into them, and must come out the same


def facet_classes() -> dict[str, type]:
    """Schema URL to class, of every facet of the client and of our own two."""
    own = [openlineage.ArtifactRunFacet, openlineage.ProgressRunFacet]
    found: dict[str, type] = {}
    for name in facet_v2.__all__:
        module = getattr(facet_v2, name)
        for _, kind in inspect.getmembers(module, inspect.isclass) if inspect.ismodule(module) else ():
            if issubclass(kind, facet_v2.BaseFacet) and kind.__module__ == module.__name__:
                found[kind._get_schema()] = kind
    assert len(found) > 30
    return found | {kind.__name__: kind for kind in own}


FACETS = facet_classes()
OWN = {"crawl2chat_artifact": "ArtifactRunFacet", "crawl2chat_progress": "ProgressRunFacet"}


def revived(kind: Any, value: Any) -> Any:
    """A JSON value as an instance of a type of the client's. Unknown fields and wrong types are errors."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [one for one in inner if one is not type(None)]
        return None if value is None else revived(kinds[0], value)
    if origin is list:
        assert isinstance(value, list)
        return [revived(inner[0], one) for one in value]
    if origin is dict:
        assert isinstance(value, dict)
        if inspect.isclass(inner[1]) and issubclass(inner[1], facet_v2.BaseFacet):
            return {name: facet(name, inner[1], one) for name, one in value.items()}
        return {name: revived(inner[1], one) for name, one in value.items()}
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return kind(value)
    if not attr.has(kind):
        if kind is not Any:
            assert isinstance(value, (int, float) if kind is float else kind), (kind, value)
        return value
    attr.resolve_types(kind)
    fields = {one.name: one for one in attr.fields(kind)}
    assert set(value) <= set(fields), (kind, set(value) - set(fields))
    given = {fields[name].alias: revived(fields[name].type, one) for name, one in value.items() if fields[name].init}
    made = kind(**given)
    assert all(getattr(made, name) == one for name, one in value.items() if not fields[name].init)
    return made


def facet(name: str, base: type, value: dict[str, Any]) -> Any:
    kind = FACETS[OWN.get(name) or value["_schemaURL"]]
    assert issubclass(kind, base), (name, kind, base)
    assert value["_producer"].startswith("pkg:generic/crawl2chat@") or name == "tags"
    return revived(kind, value)


def check(event: dict[str, Any]) -> None:
    """Raise if an event is not one of the client's, field for field."""
    assert Serde.to_dict(revived(event_v2.RunEvent, event)) == event


def of(events: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [event for event in events if event["job"]["name"] == job]


def states(events: list[dict[str, Any]]) -> list[str]:
    return [event["eventType"] for event in events]


# --- a pipeline that runs


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
    assert set(written) == {"data", "decisions", "pairs", "signatures"}
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


# --- what derives from what


def lineage_of(dataset: Any) -> dict[str, list[tuple[str, str, str]]]:
    """Column to (input dataset's name, its column, subtype)."""
    return {
        name: [(one.name, one.field, one.transformations[0].subtype) for one in found.inputFields]
        for name, found in dataset.facets["columnLineage"].fields.items()
    }


def test_columns_of_the_chain_derive_from_the_columns_of_its_inputs(tmp_path: Path) -> None:
    made = chain.build(Store(tmp_path / "store"), until="mix")

    def table(stage: str, name: str = "data") -> str:
        return name_of(made[stage].store, made[stage].folder, name)[1]

    for stage, above in (("dedup", "ingest"), ("quality", "dedup")):
        data, decisions = output_datasets(made[stage])
        assert lineage_of(data) == {name: [(table(above), name, IDENTITY)] for name in DOCUMENTS.schema.names}
        assert lineage_of(decisions) == {"doc_id": [(table(above), "doc_id", IDENTITY)]}
    data, _ = output_datasets(made["mix"])
    assert lineage_of(data) == {
        "tokens": [(table("quality"), "text", TRANSFORMATION)],
        "spans": [(table("quality"), "doc_id", TRANSFORMATION)],
        "source": [(table("quality"), "source", IDENTITY)],
    }
    assert all("columnLineage" not in (dataset.facets or {}) for dataset in output_datasets(made["ingest"]))
    for stage in ("ingest", "mix"):
        check(json.loads(as_line(completed(Execution("r", "p", stage), made[stage], "2026-01-01T00:00:00Z", False))))


def test_text_that_a_stage_cut_is_not_the_same_text() -> None:
    for cut, subtype in ((0, IDENTITY), (2, TRANSFORMATION)):
        found = derivations(DOCUMENTS.schema, DOCUMENTS.schema, {"documents_cut": cut})
        ways = {rule.column: rule.subtype for rule in found}
        assert ways["text"] == subtype
        assert {way for name, way in ways.items() if name != "text"} == {IDENTITY}
    assert [rule.origin for rule in derivations(SEQUENCES.schema, TOKENS.schema, {})] == ["tokens", "doc_id", "source"]
    assert derivations(DOCUMENTS.schema, SEQUENCES.schema, {}) == []


def test_of_two_inputs_of_a_kind_the_first_is_passed_on(tmp_path: Path) -> None:
    from tests.support import run_stage

    store = Store(tmp_path / "store")
    made = chain.build(store, until="dedup")
    twice = chain._stage("dedup", chain._filter({}), chain.DOCS, reads={"documents": DOCUMENTS, "against": DOCUMENTS})
    given = {"documents": made["dedup"], "against": made["ingest"]}
    artifact = run_stage(twice, chain.ChainConfig(label="again"), store, given).artifact
    data, _ = output_datasets(artifact)
    assert {origin for found in lineage_of(data).values() for origin, _, _ in found} == {
        f"{made['dedup'].local()}/data"
    }


@pytest.mark.parametrize(
    ("url", "namespace", "name"),
    [
        ("/data/store", "file", "/data/store/dedup/r.c/data"),
        ("s3://bucket/a/b", "s3://bucket", "a/b/dedup/r.c/data"),
        ("s3://key:secret@bucket/a", "s3://bucket", "a/dedup/r.c/data"),
        ("abfss://box@account.example/a", "abfss://box@account.example", "a/dedup/r.c/data"),
    ],
)
def test_datasets_are_named_by_their_place(url: str, namespace: str, name: str) -> None:
    store = Store("/data/store")
    store.url, store.remote = url, "://" in url
    assert name_of(store, "dedup/r.c", "data") == (namespace, name)


def test_ids_follow_from_run_and_stage() -> None:
    run, stage = Execution("20260102-030405-1a2b", "demo"), Execution("20260102-030405-1a2b", "demo", "dedup")
    assert (run.job, stage.job, pipeline_name("configs/demo.yaml")) == ("demo", "demo.dedup", "demo")
    assert run.id == Execution("20260102-030405-1a2b", "other").id != stage.id
    assert uuid.UUID(run.id).int >> 80 == 1_767_323_045_000  # 2026-01-02 03:04:05 UTC, in milliseconds
    assert uuid.UUID(Execution("any text", "demo").id).version == 7


# --- settings, and receivers that misbehave


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "events go to either file or url"),
        ({"file": "a", "url": "http://h/"}, "events go to either file or url"),
        ({"url": "ftp://h/"}, "openlineage.url: .*starts with http"),
        ({"url": "https://user:hunter22@h/"}, "openlineage.url: .*OPENLINEAGE_API_KEY"),
        ({"url": "https://h/?api_key=hunter22"}, "openlineage.url: .*OPENLINEAGE_API_KEY"),
        ({"file": "a", "every": -1}, "openlineage.every"),
        ({"file": "a", "api_key": "hunter22"}, "openlineage.api_key: no such field"),
    ],
)
def test_wrong_settings_name_their_field_and_no_secret(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_pipeline(write_config(tmp_path, openlineage=given))
    assert "hunter22" not in str(caught.value)


def test_it_is_off_unless_a_config_says_so(tmp_path: Path) -> None:
    assert load_pipeline(write_config(tmp_path)).settings.openlineage is None

    def body() -> int:
        return 3

    assert told(None, start_record("configs/demo.yaml", None), body) is body


def run_body(settings: OpenLineageSettings, error: BaseException | None = None) -> float:
    """Seconds that a run of one event-rich stage takes, which ends with the error."""
    record = start_record("configs/demo.yaml", None)

    def body() -> None:
        with openlineage_events.stage_events(record.run, "dedup", {}) as events:
            report = events.progress(lambda done, total, what: None)
            for number in range(50):
                report(number, 50, "counting")
            if error is not None:
                raise error

    began = time.monotonic()
    told(settings, record, body)()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("a\nb token=hunter22"), "FAIL"),
        (KeyboardInterrupt(), "ABORT"),
        (CancelledRun("in the UI"), "ABORT"),
        (Waiting("for rankings"), "ABORT"),
    ],
)
def test_failures_and_interrupts_are_told_to_a_file(tmp_path: Path, error: BaseException, state: str) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    with pytest.raises(type(error)):
        run_body(OpenLineageSettings(file=str(path), every=3600), error)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("demo", "START"),
        ("demo.dedup", "START"),
        ("demo.dedup", "RUNNING"),
        ("demo.dedup", state),
        ("demo", state),
    ]
    for event in events:
        check(event)
    assert "hunter22" not in path.read_text()
    message = events[-1]["run"]["facets"]["errorMessage"]["message"]
    assert message == ("interrupted" if isinstance(error, KeyboardInterrupt) else redact_text(str(error)))
    assert events[1]["job"]["facets"]["documentation"]["description"].startswith("Dedup: one survivor")


@pytest.mark.parametrize("kind", ["refuses", "fails", "hangs"])
def test_a_bad_receiver_costs_one_line_and_a_few_seconds(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listening, receiver(status=404) as failing:
        listening.bind(("127.0.0.1", 0))
        if kind == "hangs":
            listening.listen(16)  # connections are taken, and never answered
        url = failing.url if kind == "fails" else f"http://127.0.0.1:{listening.getsockname()[1]}"
        seconds = run_body(OpenLineageSettings(url=url, timeout=0.5, every=0))
    complaints = [line for line in capfd.readouterr().err.splitlines() if line.startswith("openlineage:")]
    assert len(complaints) == 1 and url in complaints[0] and "the run goes on" in complaints[0]
    # What is promised is CLOSING_SECONDS; the rest is the machine's own slowness.
    assert seconds < openlineage_events.CLOSING_SECONDS + 10
    assert len(failing.got) == (openlineage_events.PATIENCE if kind == "fails" else 0)


def test_a_full_queue_drops_events_and_never_waits(monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(openlineage_events, "WAITING_EVENTS", 2)
    monkeypatch.setattr(openlineage_events, "CLOSING_SECONDS", 0.2)
    held = threading.Event()
    sender = Sender(OpenLineageSettings(file=str(tmp_path / "events.jsonl")))
    event = Execution("r").event(event_v2.RunState.START, "2026-01-01T00:00:00Z")

    def waiting() -> event_v2.RunEvent:
        held.wait(60)
        return event

    for _ in range(20):
        sender.put(waiting)
    sender.close()
    held.set()
    said = capfd.readouterr().err
    assert "events were not sent in time" in said
    assert int(said.split(": ")[2].split()[0]) >= 17


def test_the_code_s_place_is_that_of_the_remote_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def location(remote: str) -> Any:
        path = tmp_path / remote.replace("/", "_").replace(":", "_")
        subprocess.run(["git", "init", "-q", str(path)], check=True)
        subprocess.run(["git", "-C", str(path), "remote", "add", "origin", remote], check=True)
        monkeypatch.setattr(openlineage_events, "ROOT", path)
        openlineage_events._repository.cache_clear()
        execution = Execution("r", "demo", "dedup", code=openlineage_events._code("c0ffee", "tasks/dedup"))
        event = execution.event(event_v2.RunState.START, "2026-01-01T00:00:00Z")
        check(json.loads(as_line(event)))
        return (event.job.facets or {}).get("sourceCodeLocation")

    found = location("https://user:hunter22@code.example/a/b.git")
    assert (found.url, found.version, found.path) == ("https://code.example/a/b.git", "c0ffee", "tasks/dedup")
    assert location("git@code.example:a/b.git") is None
    openlineage_events._repository.cache_clear()


def test_settings_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="extra"):
        OpenLineageSettings.model_validate({"file": "a", "colour": "red"})
