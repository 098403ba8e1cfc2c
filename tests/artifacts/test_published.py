"""A published run: what it says, and that a store bears it out or refutes it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from artifacts.audit.published import cut, digest_of, dumps, publish, write_published
from artifacts.audit.verify_published import read_published, verify_published
from artifacts.errors import RunError, UserError
from artifacts.runs import CHAIN, entry_names, record_path
from artifacts.store import Store
from flows.records import RunRecord, now
from tests.artifacts.chain import build

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "docs/published.schema.json"
RUN = "20260101-000000-aaaa"


def record(store: Store, run: str, ok: bool = True, finished: bool = True, stages: tuple[str, ...] = ()) -> None:
    made = RunRecord(run, "/home/someone/configs/pipeline.yaml", [], now(), user="someone")
    made.save(store)
    for ref in stages:
        artifact = store.resolve(ref)
        made.stages.append({"stage": artifact.stage, "artifact": artifact.ref, "path": artifact.path})
    made.finished, made.ok = now() if finished else None, ok
    made.error = None if ok else "it broke"
    made.save(store)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of all stages, and the run as it was published."""
    folder = tmp_path_factory.mktemp("published")
    store = Store(folder / "store")
    build(store)
    record(store, RUN, stages=("mix", "ppo"))
    write_published(store, RUN, folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> tuple[Store, Path]:
    shutil.copytree(whole, tmp_path / "copy")
    return Store(tmp_path / "copy" / "store"), tmp_path / "copy" / f"{RUN}.json"


def test_the_published_schema_is_current_and_holds(whole: Path) -> None:
    command = [sys.executable, "-m", "artifacts.audit.published"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout == SCHEMA.read_text(), (
        "write it: python -m artifacts.audit.published > docs/published.schema.json"
    )
    jsonschema.validate(json.loads((whole / f"{RUN}.json").read_text()), json.loads(SCHEMA.read_text()))


def test_it_says_all_of_a_run_and_nothing_of_the_machine(whole: Path) -> None:
    store, text = Store(whole / "store"), (whole / f"{RUN}.json").read_text()
    found = json.loads(text)
    assert publish(store, "latest").dumps() == publish(store, RUN[:9]).dumps() == text
    stages = [row["artifact"].partition("@")[0] for row in found["artifacts"]]
    assert stages.index("ingest") < stages.index("mix") < stages.index("pretrain") < stages.index("ppo")
    ppo = found["artifacts"][stages.index("ppo")]
    manifest = store.resolve("ppo").manifest
    assert (ppo["content"], ppo["manifest"], ppo["seed"]) == (manifest.content, manifest.checksum, manifest.seed)
    assert found["builds"] == [{"code": manifest.code, "environment": manifest.environment}]
    assert found["licences"] == ppo["licences"] == ["CC0-1.0"]
    assert found["run"]["config"] == "pipeline.yaml" and found["run"]["id"] == RUN
    assert found["chain"]["number"] == len(entry_names(store)) == 3
    for word in (str(whole), "/home", "someone", f'"{socket.gethostname()}"'):
        assert word not in text
    assert verify_published(store, whole / f"{RUN}.json").problems == []


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit a published run, and make its digest right again: a forger can."""
    value = json.loads(path.read_text())
    edit(value)
    value["digest"] = digest_of(value)
    path.write_text(dumps(value))


def of(value: dict[str, Any], stage: str) -> dict[str, Any]:
    return next(row for row in value["artifacts"] if row["artifact"].startswith(f"{stage}@"))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda v: of(v, "ppo").update(content="0" * 64), "not in the store"),
        (lambda v: of(v, "ppo").update(artifact="ppo@" + "0" * 16), "not in the store"),
        (lambda v: of(v, "ppo").update(manifest="0" * 64), "manifest: published as"),
        (lambda v: of(v, "dedup")["counts"].update(kept=99), "counts.kept: published as 99"),
        (lambda v: of(v, "pretrain")["metrics"].update(parameters=1), "metrics"),
        (lambda v: of(v, "pretrain")["config"].update(steps=4), "config.steps: published as 4"),
        (lambda v: of(v, "ingest")["sources"][0].update(sha256="0" * 64), "sources"),
        (lambda v: of(v, "ingest")["sources"][0].update(licence="MIT"), "sources"),
        (lambda v: of(v, "ppo").update(licences=["MIT"]), "licences"),
        (lambda v: v.update(licences=["MIT"]), "licences"),
        (lambda v: of(v, "ppo").update(inputs=[]), "inputs"),
        (lambda v: of(v, "ppo").update(seed=7), "seed: published as 7"),
        (lambda v: of(v, "ppo").update(stage_version=7), "stage_version"),
        (lambda v: of(v, "ppo").update(bytes=7), "bytes: published as 7"),
        (lambda v: v["builds"][0]["environment"].update(torch="9"), "build.environment.torch"),
        (lambda v: v["builds"][0]["code"].update(commit="0"), "build.code.commit"),
        (lambda v: v["run"].update(started="2020-01-01T00:00:00Z"), "run.started"),
        (lambda v: v["run"].update(record="0" * 64), "published as 0000"),
        (lambda v: v["run"].update(id="20200101-000000-aaaa"), "no record of this run"),
        (lambda v: v["chain"].update(sha256="0" * 64), "lacks the published entry"),
        (lambda v: v.update(chain=None), "published as a run of a store without a run chain"),
        (lambda v: v["artifacts"].remove(of(v, "ppo")), "says nothing of it"),
        (lambda v: v.update(artifacts=[], licences=[]), "says nothing of it"),
    ],
)
def test_every_claim_is_held_against_the_store(
    copy: tuple[Store, Path], edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    store, path = copy
    change(path, edit)
    problems = verify_published(store, path).problems
    assert any(said in problem.problem for problem in problems), problems


def test_a_flipped_byte_is_never_passed(copy: tuple[Store, Path]) -> None:
    store, path = copy
    data, chance = path.read_bytes(), random.Random(0)
    refuted = 0
    for place in chance.sample(range(len(data)), 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            published, altered = read_published(path)
        except UserError:
            continue
        assert published is None and altered is not None
        refuted += 1
    assert refuted > 30  # the others are no JSON any more
    path.write_bytes(data.replace(b"CC0-1.0", b"CC1-1.0", 1))
    (problem,) = verify_published(store, path).problems
    assert problem.problem == "altered after it was published: its digest does not match"


def test_what_is_no_published_run_is_wrong_input(copy: tuple[Store, Path]) -> None:
    store, path = copy
    with pytest.raises(UserError, match="cannot be read"):
        verify_published(store, path.with_name("none.json"))
    change(path, lambda value: value.update(published_version=99))
    with pytest.raises(UserError, match="published_version is 99"):
        verify_published(store, path)
    change(path, lambda value: value.update(published_version=1, more=1))
    with pytest.raises(UserError, match="more"):
        verify_published(store, path)
    path.write_text('{"published_version": 1, "a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(UserError, match="not JSON"):
        verify_published(store, path)
    for text, said in (("{", "not JSON"), ("[]", "not a published run"), ("{}", "not a published run")):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            verify_published(store, path)


def test_a_changed_store_refutes_it(copy: tuple[Store, Path]) -> None:
    store, path = copy
    ppo = store.resolve("ppo")
    table = next(iter(ppo.local().glob("data/*.parquet")))
    data = table.read_bytes()
    table.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert [(p.artifact, p.file) for p in verify_published(store, path).problems] == [(ppo.ref, f"data/{table.name}")]
    table.write_bytes(data)
    assert verify_published(store, path).ok
    shutil.rmtree(store.resolve("tokenize").path)
    found = {
        (p.artifact.partition("@")[0], p.problem.partition(":")[0]) for p in verify_published(store, path).problems
    }
    assert ("tokenize", "not in the store with the content " + store_content(path, "tokenize")) in found


def store_content(path: Path, stage: str) -> str:
    return str(of(json.loads(path.read_text()), stage)["content"])[:16]


def test_a_cut_chain_shows_by_the_published_head(copy: tuple[Store, Path]) -> None:
    """What the store alone cannot tell: its newest entries are gone, with the record that names them."""
    store, path = copy
    (Path(store.root) / record_path(RUN)).unlink()
    for name in entry_names(store)[1:]:
        (Path(store.root) / CHAIN / name).unlink()
    first = Path(store.root) / CHAIN / entry_names(store)[0]
    first.unlink()
    record(store, "20260101-000001-bbbb")
    problems = [problem.problem for problem in verify_published(store, path).problems]
    assert any("cut or rewritten" in problem for problem in problems)
    assert any("no record of this run" in problem for problem in problems)


def test_a_chain_that_was_begun_later_confirms_what_was_published_without_one(copy: tuple[Store, Path]) -> None:
    store, path = copy
    shutil.rmtree(Path(store.root) / CHAIN)
    old = {k: v for k, v in json.loads(store.read_text(record_path(RUN))).items() if k != "chain"}
    store.write_text(record_path(RUN), json.dumps(old))  # of a version that had no chain
    write_published(store, RUN, path.parent)
    assert json.loads(path.read_text())["chain"] is None and verify_published(store, path).problems == []
    record(store, "20260101-000001-bbbb")
    assert verify_published(store, path).problems == []
    store.write_text(record_path(RUN), json.dumps(old) + "\n")
    said = [problem.problem for problem in verify_published(store, path).problems]
    assert any("is not the one in the run chain" in problem for problem in said), said


def test_later_runs_change_nothing(copy: tuple[Store, Path]) -> None:
    store, path = copy
    record(store, "20260101-000001-bbbb")
    assert publish(store, RUN).dumps() == path.read_text() and verify_published(store, path).ok


def test_only_what_ended_well_is_published(copy: tuple[Store, Path]) -> None:
    store, _ = copy
    record(store, "20260102-000000-aaaa", ok=False)
    record(store, "20260103-000000-aaaa", finished=False)
    for run, said in (("20260102", "has failed"), ("20260103", "has not finished"), ("2999", "no such run")):
        with pytest.raises(UserError, match=said):
            publish(store, run)
    store.write_text(record_path(RUN), store.read_text(record_path(RUN)).replace("someone", "anyone"))
    with pytest.raises(RunError, match="does not hold this record"):
        publish(store, RUN)


def test_long_values_are_cut_to_their_digest() -> None:
    assert cut({"a": list(range(24)), "b": "x" * 400}) == {"a": list(range(24)), "b": "x" * 400}
    numbers = json.dumps(list(range(25)), separators=(",", ":"))
    digest = hashlib.sha256(numbers.encode()).hexdigest()
    assert cut({"a": list(range(25))}) == {"a": {"cut": "list", "length": 25, "sha256": digest}}
    assert cut("x" * 401)["length"] == 401


def test_the_commands_and_their_exit_codes(copy: tuple[Store, Path]) -> None:
    store, path = copy

    def crawl2chat(*words: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "flows.cli", *words, "--store", store.url, "--json"]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=120)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    (path.parent / "data_manifests").mkdir()
    code, said = crawl2chat("publish", "latest")
    assert code == 0 and Path(path.parent, said["path"]).read_text() == path.read_text()
    assert said["path"] == f"data_manifests/published/{RUN}.json"
    assert crawl2chat("publish", RUN, "--out", str(path.parent / "out"))[1] == {"path": f"{path.parent}/out/{RUN}.json"}
    assert crawl2chat("publish", "none")[0] == 2
    code, said = crawl2chat("verify", "--published", str(path))
    assert code == 0 and said["ok"] and said["checked"] == 9 and said["problems"] == []
    change(path, lambda value: of(value, "ppo").update(seed=7))
    code, said = crawl2chat("verify", "--published", str(path))
    assert code == 1 and not said["ok"] and said["problems"][0]["artifact"].startswith("ppo@")
    assert crawl2chat("verify", "--published", str(path), "--all")[0] == 2
    assert crawl2chat("verify", "--published", "nowhere.json")[0] == 2
