"""Manifests: the published schema, the checksum, and what other programs make of an artifact."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import RunError
from artifacts.manifest import Manifest, RunBlock
from artifacts.store import Artifact, Store
from tests.artifacts.chain import IDS, SHA, build
from tests.support import read_rows

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "docs/manifest.schema.json"

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Artifact]:
    return build(Store(tmp_path / "store"))


def test_the_published_schema_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "artifacts.manifest"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout == SCHEMA.read_text(), (
        "write it anew: python -m artifacts.manifest > docs/manifest.schema.json"
    )


def test_every_manifest_of_a_pipeline_validates(made: dict[str, Artifact]) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for artifact in made.values():
        found = json.loads((Path(artifact.path) / "manifest.json").read_text())
        jsonschema.validate(found, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(found | {"unknown": 1}, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({key: value for key, value in found.items() if key != "content"}, schema)


def test_a_manifest_says_what_was_read(made: dict[str, Artifact]) -> None:
    mix = made["mix"].manifest
    assert [(e.name, e.artifact, e.content) for e in mix.inputs] == [
        ("documents", made["quality"].ref, made["quality"].manifest.content),
        ("tokenizer", made["tokenize"].ref, made["tokenize"].manifest.content),
    ]
    source = made["ingest"].manifest.sources[0]
    assert (source.name, source.manifest, source.role, source.licence) == ("made.warc.gz", "made", "crawl", "CC0-1.0")
    assert (source.sha256, source.bytes, source.source) == (SHA, 12, "crawl")
    assert made["dedup"].manifest.counts.reasons == {"near_duplicate": 1}


def empty(**fields: Any) -> Manifest:
    run = RunBlock(started="", finished="", seconds=0.0, host="", pid=0)
    given_: dict[str, Any] = {"stage": "s", "stage_version": 1, "recipe": "0" * 16, "content": "0" * 64, "seed": 0}
    return Manifest(**(given_ | {"config": {}, "files": {}, "run": run} | fields))


@given(metrics=st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_whatever_json_a_manifest_holds_it_reads_back_the_same(metrics: dict[str, Any]) -> None:
    sealed = empty(metrics=metrics).sealed()
    again = Manifest.loads(sealed.dumps(), "here", check=True)
    assert again.metrics == metrics and again.checksum == sealed.checksum


def test_an_altered_manifest_is_refused_where_it_is_checked() -> None:
    text = empty(metrics={"loss": 1.5}).sealed().dumps()
    assert Manifest.loads(text, "here", check=True).metrics == {"loss": 1.5}
    for altered in (text.replace("1.5", "1.4"), text.replace("1.5", "1.50"), text + "\n", text.replace("\n", "", 1)):
        assert altered != text
        with pytest.raises(RunError, match="here: altered after it was written"):
            Manifest.loads(altered, "here", check=True)
    for broken in ("", "{}", text[:-4], "[]", text.replace('"seed": 0', '"seed": "x"')):
        with pytest.raises(RunError, match="here: not a readable manifest"):
            Manifest.loads(broken, "here")


def test_duckdb_reads_a_store_as_it_lies(made: dict[str, Artifact]) -> None:
    folder = made["dedup"].path
    rows = duckdb.sql(f"select doc_id from '{folder}/data/*.parquet' order by 1").fetchall()
    assert rows == [(doc_id,) for doc_id in IDS[1:5]]
    dropped = f"from '{folder}/decisions/*.parquet' d anti join '{folder}/data/*.parquet' using (doc_id)"
    joined = duckdb.sql(f"select d.reason, d.detail {dropped}").fetchall()
    assert joined == [("near_duplicate", IDS[1])]


def test_load_dataset_gives_a_config_a_table(made: dict[str, Artifact], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = made["quality"].path
    assert datasets.get_dataset_config_names(folder) == ["data", "decisions"]
    loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].to_list() == read_rows(made["quality"])
    decisions = datasets.load_dataset(folder, "decisions", split="train", cache_dir=str(tmp_path / "cache"))
    assert decisions.to_list() == read_rows(made["quality"], "decisions")
    sequences = datasets.load_dataset(made["mix"].path, split="train", cache_dir=str(tmp_path / "cache"))
    assert sequences[0]["spans"] == [{"doc_id": IDS[1], "start": 0, "length": 4, "offset": 0}]


def test_the_card_says_what_it_is_and_where_it_comes_from(made: dict[str, Artifact]) -> None:
    text = (Path(made["ingest"].path) / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert [config["config_name"] for config in front["configs"]] == ["data", "decisions"]
    assert [config.get("default") for config in front["configs"]] == [True, None]
    assert "CC0-1.0" in json.dumps(front)
    assert "Rows in 7: kept 5, dropped 1, failed 1." in text and "- lang: 1" in text and "made.warc.gz" in text


def test_a_manifest_without_a_user_keeps_its_spelling_and_checksum(made: dict[str, Artifact]) -> None:
    """What version 0.1.0 wrote: a run block that does not say who."""
    manifest = made["ingest"].manifest.model_copy(deep=True)
    manifest.run.user = None
    old = json.loads(manifest.sealed().dumps())
    assert "user" not in old["run"]
    plain = json.dumps({**old, "checksum": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert old["checksum"] == hashlib.sha256(plain.encode()).hexdigest()
    assert Manifest.loads(manifest.sealed().dumps(), "old", check=True).run.user is None
    manifest.run.user = "someone"
    assert json.loads(manifest.sealed().dumps())["run"]["user"] == "someone"
