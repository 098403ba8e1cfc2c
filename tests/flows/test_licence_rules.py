"""`licences: {deny: [...]}` stops a run, a stage and a plan before anything starts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from flows.cli.main import main
from flows.config import Pipeline, load_pipeline
from flows.planning import check_refs, check_sources, inputs_for, plan
from tasks import dedup, ingest
from tests.support import run_stage
from tests.warcs import CRAWL, write_warc


def write_manifest(folder: Path, name: str, licence: str) -> str:
    write_warc(folder / f"{name}.warc.gz", CRAWL, 4, len(name), f"{name}.example")
    data = (folder / f"{name}.warc.gz").read_bytes()
    entry = {"name": f"{name}.warc.gz", "url": f"{name}.warc.gz", "sha256": hashlib.sha256(data).hexdigest()}
    value = {"name": name, "role": "crawl", "licence": licence, "files": [{**entry, "bytes": len(data)}]}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value))
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRAWL2CHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRAWL2CHAT_MIRROR", raising=False)
    monkeypatch.setenv("CRAWL2CHAT_STORE", str(tmp_path / "store"))
    return tmp_path


def pipeline(folder: Path, deny: list[str], manifests: list[str], **ingest_fields: object) -> Pipeline:
    config = {"licences": {"deny": deny}, "ingest": {"languages": [], "manifests": manifests, **ingest_fields}}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({**config, "dedup": {}, "workers": 1}))
    return load_pipeline(str(path))


def test_a_forbidden_source_is_named_with_its_licence_and_the_rule(folder: Path) -> None:
    manifests = [write_manifest(folder, "free", "MIT"), write_manifest(folder, "bound", "CC-BY-NC-4.0")]
    given = pipeline(folder, ["cc-by-nc*"], manifests)
    with pytest.raises(UserError) as error:
        check_sources(given, None)
    assert str(error.value) == (
        f"{folder}/pipeline.yaml: licences.deny: ingest: bound: bound.warc.gz: licence CC-BY-NC-4.0, "
        "which 'cc-by-nc*' forbids"
    )
    steps = {step.stage: step for step in plan(given, Store(folder / "store"))}
    assert steps["ingest"].status == "denied" and "CC-BY-NC-4.0" in steps["ingest"].because
    assert steps["dedup"].status == "unknown"
    with pytest.raises(UserError, match=r"CC-BY-NC-4\.0"):
        inputs_for(given, Store(folder / "store"), "ingest", {})
    for allowed in (["GPL*"], []):
        check_sources(pipeline(folder, allowed, manifests), None)


def test_a_stage_whose_pipeline_would_read_a_forbidden_source_is_refused(folder: Path) -> None:
    manifests = [write_manifest(folder, "free", "MIT")]
    check_sources(pipeline(folder, [], manifests), None)  # which fetches it
    given = pipeline(folder, ["MIT"], manifests)
    with pytest.raises(UserError, match=r"ingest: free: .*licence MIT, which 'MIT' forbids"):
        inputs_for(given, Store(folder / "store"), "dedup", {})


def test_a_bare_path_is_unknown_and_a_blocklist_does_not_count(folder: Path) -> None:
    write_manifest(folder, "free", "MIT")
    (folder / "blocklist.txt").write_text("blocked.example\n")
    listed = {"blocklist": str(folder / "blocklist.txt")}
    check_sources(pipeline(folder, ["unknown"], [str(folder / "free.yaml")], **listed), None)
    with pytest.raises(UserError, match=r"free\.warc\.gz: licence unknown, which 'unknown' forbids"):
        check_sources(pipeline(folder, ["unknown"], [], paths=[str(folder / "free.warc.gz")], **listed), None)


def test_the_command_refuses_before_anything_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = pipeline(folder, ["MIT"], [write_manifest(folder, "free", "MIT")])
    for words in (["run"], ["stage", "ingest", "--config"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, given.origin])
        assert ended.value.code == 2 and "licence MIT, which 'MIT' forbids" in capsys.readouterr().err.replace("\n", "")
    assert not (folder / "store" / "runs").exists()


@pytest.fixture
def made(folder: Path) -> dict[str, Artifact]:
    """ingest and dedup of a source under a licence that is forbidden later."""
    store, manifest = Store(folder / "store"), write_manifest(folder, "bound", "CC-BY-NC-4.0")
    config = ingest.STAGE.config.model_validate({"languages": [], "manifests": [manifest]})
    first = run_stage(ingest.STAGE, config, store).artifact
    second = run_stage(dedup.STAGE, dedup.STAGE.config(), store, {"documents": first}).artifact
    return {"ingest": first, "dedup": second}


def test_what_given_artifacts_were_made_from_counts(folder: Path, made: dict[str, Artifact]) -> None:
    store = Store(folder / "store")
    free = [write_manifest(folder, "free", "MIT")]
    given = pipeline(folder, ["CC-BY-NC-4.0"], free)
    with pytest.raises(UserError, match=rf"dedup: input 'documents' \({made['ingest'].ref}\): bound: bound.warc.gz"):
        inputs_for(given, store, "dedup", {"documents": [made["ingest"].ref]})
    assert inputs_for(pipeline(folder, ["MIT"], free), store, "dedup", {"documents": [made["ingest"].ref]})
    # Earlier crawls that the config refers to are looked at before a run, too.
    path = Path(given.origin)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "dedup": {"against": [made["dedup"].ref]}}))
    with pytest.raises(UserError, match=r"input .against..*CC-BY-NC-4\.0, which .CC-BY-NC-4\.0. forbids"):
        check_refs(load_pipeline(given.origin, ["licences.deny=[CC-BY-NC-4.0]"]), store, None)
    check_refs(load_pipeline(given.origin, ["licences.deny=[MIT]"]), store, None)


def test_a_rule_is_a_name(folder: Path) -> None:
    with pytest.raises(UserError, match=r"licences\.deny"):
        pipeline(folder, [" "], [])
    with pytest.raises(UserError, match=r"licences\.allow: no such field"):
        load_pipeline(pipeline(folder, [], []).origin, ["licences.allow=[MIT]"])
