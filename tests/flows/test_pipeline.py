"""The command line over a small pipeline: run, reuse, plan, rebuild, audit, and what it says of bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.warcs import CRAWL, CURATED, write_warc

STAGES = ["ingest", "dedup", "quality", "decontaminate", "tokenize", "mix"]


def crawl2chat(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"CRAWL2CHAT_STORE": str(folder / "store"), "PREFECT_HOME": str(folder / "prefect")}
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def said(result: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr and "leaked" not in result.stderr, result.stderr
    return json.loads(result.stdout)


def write_config(folder: Path, **sections: Any) -> str:
    config = {
        "workers": 1,
        "ingest": {"paths": [str(folder / "*.warc.gz")], "languages": []},
        "dedup": {},
        "quality": {"positives": {"urls": ["curated"]}, "alpha": 1.0},
        "decontaminate": {},
        "tokenize": {"vocab_size": 400},
        "mix": {"weights": {"crawl": 1.0}, "sequence_length": 64, "tokens": 10_000},
        **sections,
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with WARC files, a config, and a store in which it was run once."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_warc(folder / "a.warc.gz", CRAWL, 40, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 30, 2, "curated.example")
    config = write_config(folder)
    first = said(crawl2chat(folder, "run", config, "--json"))
    assert first["ok"]
    assert [row["stage"] for row in first["stages"]] == STAGES
    assert not any(row["reused"] for row in first["stages"])
    return folder, config


def test_every_row_is_accounted_for(made: tuple[Path, str]) -> None:
    folder, config = made
    rows = said(crawl2chat(folder, "run", config, "--json"))["stages"]
    assert all(row["reused"] for row in rows)
    assert rows[0]["rows_in"] == 70
    for before, row in pairwise(rows[:4]):
        assert row["rows_in"] == before["kept"]
    for row in rows:
        assert row["rows_in"] == row["kept"] + row["dropped"] + row["failed"]
        assert Path(row["path"], "manifest.json").exists()


def test_plan_says_what_a_changed_field_rebuilds(made: tuple[Path, str]) -> None:
    folder, config = made
    steps = {step["stage"]: step for step in said(crawl2chat(folder, "plan", config, "--json"))["stages"]}
    assert {step["status"] for step in steps.values()} == {"reuse"}
    changed = crawl2chat(folder, "plan", config, "--set", "quality.alpha=3", "--json")
    steps = {step["stage"]: step for step in said(changed)["stages"]}
    assert [steps[name]["status"] for name in STAGES] == ["reuse", "reuse", "build"] + ["unknown"] * 3
    assert "quality.alpha 1.0 -> 3.0" in steps["quality"]["because"]


def test_why_tells_the_fate_of_every_page(made: tuple[Path, str]) -> None:
    folder, _ = made
    kept = said(crawl2chat(folder, "why", "http://curated.example/1.html", "--json"))["documents"]
    assert [step["stage"] for step in kept[0]["fate"]][:4] == STAGES[:4]
    duplicate = said(crawl2chat(folder, "why", "http://crawl.example/10.html", "--json"))["documents"][0]["fate"]
    assert any(step["reason"] == "near_duplicate" for step in duplicate) or any(
        step["reason"] == "near_duplicate"
        for step in said(crawl2chat(folder, "why", "http://crawl.example/9.html", "--json"))["documents"][0]["fate"]
    )


def test_one_stage_alone_on_a_given_artifact(made: tuple[Path, str]) -> None:
    folder, config = made
    given = crawl2chat(
        folder, "stage", "dedup", "--config", config, "--set", "dedup.threshold=1.0", "--input",
        "documents=ingest@latest", "--json",
    )  # fmt: skip
    row = said(given)
    assert (row["stage"], row["reused"], row["rows_in"]) == ("dedup", False, 70)
    listed = said(crawl2chat(folder, "ls", "dedup", "--json"))["artifacts"]
    assert row["artifact"] in [artifact["artifact"] for artifact in listed]
    manifest = said(crawl2chat(folder, "show", row["artifact"], "--json"))
    assert manifest["config"]["threshold"] == 1.0
    assert manifest["path"] == row["path"]


def test_verify_finds_one_flipped_byte(made: tuple[Path, str]) -> None:
    folder, _ = made
    clean = said(crawl2chat(folder, "verify", "--all", "--json"))
    assert clean["ok"] and clean["checked"] >= len(STAGES)
    target = next((folder / "store" / "decontaminate").glob("*/data/*.parquet"))
    original = target.read_bytes()
    target.write_bytes(original[:100] + bytes([original[100] ^ 1]) + original[101:])
    try:
        found = said(crawl2chat(folder, "verify", "--all", "--json"), code=1)
        assert [problem["file"] for problem in found["problems"]] == ["data/part-00000.parquet"]
    finally:
        target.write_bytes(original)


def test_a_damaged_manifest_is_named_and_hides_no_other(made: tuple[Path, str]) -> None:
    folder, config = made
    target = next((folder / "store" / "mix").glob("*/manifest.json"))
    original = target.read_text()
    target.write_text(original[:200])
    try:
        rows = said(crawl2chat(folder, "ls", "--json"))["artifacts"]
        assert [row["stage"] for row in rows if "problem" in row] == ["mix"]
        assert {row["stage"] for row in rows if row["kept"] is not None} == set(STAGES) - {"mix"}
        planned = crawl2chat(folder, "plan", config)
        assert planned.returncode == 1
        assert str(target) in planned.stderr and "--force-from mix" in planned.stderr
        rebuilt = said(crawl2chat(folder, "run", config, "--force-from", "mix", "--json"))["stages"]
        assert [row["stage"] for row in rebuilt if not row["reused"]] == ["mix"]
        assert json.loads(target.read_text())["content"] == json.loads(original)["content"]
    finally:
        target.write_text(original)


def test_a_page_nobody_saw_is_an_error(made: tuple[Path, str]) -> None:
    result = crawl2chat(made[0], "why", "http://nowhere.example/")
    assert result.returncode == 1
    assert "no artifact" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("run", "CONFIG", "--set", "dedup.bands=x"), 2, "dedup.bands"),
        (("run", "CONFIG", "--set", "ingest.paths=[/nowhere/x.warc.gz]"), 2, "/nowhere/x.warc.gz"),
        (("run", "CONFIG", "--until", "nothing"), 2, "no stage 'nothing'"),
        (("stage", "nothing"), 2, "no stage 'nothing'"),
        (("stage", "dedup", "--config", "CONFIG", "--input", "documents=ingest@ffff"), 2, "no such artifact"),
        (("show", "dedup@"), 2, "dedup@"),
        (("stage", "pretrain", "--config", "CONFIG", "--input", "tokenizer=dedup@latest"), 2, "pretrain"),
        (("takedown",), 2, "--urls"),
        (("nothing",), 2, "No such command"),
        (("why",), 2, "URL|DOC_ID"),
        (("plan", "--nothing"), 2, "--nothing"),
        (("run", "CONFIG", "too", "many"), 2, "many"),
        (("run", "CONFIG", "--until", "dedup", "--force-from", "mix"), 2, "--force-from mix"),
        (("run", "CONFIG", "--set", "runner=slurm"), 2, "got 'slurm'"),
        (("ls", "nothing"), 2, "no stage 'nothing'"),
        (("verify", "--store", "CONFIG"), 2, "a store is a folder"),
        (("ls", "--store", ""), 2, "--store"),
        (("chat", "dedup@latest"), 2, "holds no language model"),
        (("why", "http://[bad"), 1, "no artifact"),
        (("run", "CONFIG", "--set", "ingest=null"), 2, "dedup reads 'documents', which no stage of this config makes"),
    ],
)
def test_bad_input_is_one_clear_message(
    made: tuple[Path, str], words: tuple[str, ...], code: int, message: str
) -> None:
    folder, config = made
    result = crawl2chat(folder, *(config if word == "CONFIG" else word for word in words))
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_prefect_server_that_is_not_there(made: tuple[Path, str]) -> None:
    folder, config = made
    environment = os.environ | {"CRAWL2CHAT_STORE": str(folder / "store"), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "flows.cli", "run", config]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert "PREFECT_API_URL=http://127.0.0.1:9/api" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_crawl(tmp_path: Path) -> None:
    (tmp_path / "empty.warc.gz").write_bytes(b"")
    config = write_config(tmp_path)
    result = crawl2chat(tmp_path, "run", config)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert "empty" in result.stderr


def test_a_crawl_in_which_nothing_survives(tmp_path: Path) -> None:
    write_warc(tmp_path / "a.warc.gz", CRAWL, 20, 1, "crawl.example")
    config = write_config(tmp_path, ingest={"paths": [str(tmp_path / "a.warc.gz")], "languages": ["zh"]})
    result = crawl2chat(tmp_path, "run", config)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "nothing survived of 20 rows (lang 20)" in result.stderr
    failed = said(crawl2chat(tmp_path, "run", config, "--json"), code=1)
    assert (failed["ok"], [row["stage"] for row in failed["stages"]]) == (False, ["ingest"])
