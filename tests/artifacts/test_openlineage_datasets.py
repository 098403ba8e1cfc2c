"""OpenLineage: which column derives from which, and what datasets, jobs and executions are called."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from artifacts.exchange.columns import IDENTITY, TRANSFORMATION, derivations
from artifacts.exchange.openlineage import Execution, as_line, completed, pipeline_name
from artifacts.exchange.openlineage_datasets import name_of, output_datasets
from artifacts.store import Store
from artifacts.tables import DOCUMENTS, SEQUENCES, TOKENS
from tests.artifacts import chain
from tests.openlineage_support import check


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
