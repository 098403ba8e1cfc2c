"""A full disk, a store that cannot be written, damaged and lost files, a clock that goes back: stages as functions."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

import artifacts.runs
import flows.records
import tasks.execution
from artifacts.audit.verify import verify
from artifacts.runs import find_run
from artifacts.store import Store
from artifacts.tables import DOCUMENTS
from flows.records import start_record
from tests.faults.attempts import Attempt, contents, worked_on
from tests.faults.command import Run
from tests.faults.conftest import Calm
from tests.support import make_documents, put_table


@pytest.fixture
def store_of(calm: Calm, tmp_path: Path) -> Attempt:
    """The undisturbed store, copied, and an attempt on it."""
    shutil.copytree(calm.store, tmp_path / "store")
    return Attempt(calm.config, str(tmp_path / "store"), str(tmp_path / "log"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(calm: Calm, small_disk: Path, tmp_path: Path) -> None:
    attempt = Attempt(calm.config, str(small_disk / "store"), str(tmp_path / "log"))
    (small_disk / "ballast").write_bytes(b"x" * 700_000)
    run = Run(tmp_path / "command", "run", calm.config, CRAWL2CHAT_STORE=attempt.store)
    assert run.end() == 1
    assert f"failed: {attempt.store}: No space left on device. Nothing half-written counts" in run.text()
    assert "Traceback" not in run.text()
    assert verify(Store(attempt.store), None).ok
    assert [path.name for path in (small_disk / "store" / ".tmp").iterdir()] == []
    done = contents(attempt.store)
    assert done.items() <= calm.contents.items() and len(done) < len(calm.contents)
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert attempt.run() == 0, worked_on(tmp_path / "log")
    assert contents(attempt.store) == calm.contents


def test_a_limit_of_file_sizes(calm: Calm, tmp_path: Path) -> None:
    attempt = Attempt(calm.config, str(tmp_path / "store"), str(tmp_path / "log"), file_bytes=20_000)
    assert attempt.run() == 1
    assert worked_on(tmp_path / "log")[-1].startswith("error OSError: [Errno 27]")
    assert verify(Store(attempt.store), None).ok
    assert contents(attempt.store) == {}
    assert [path.name for path in (tmp_path / "store" / ".tmp").iterdir()] == []
    assert replace(attempt, file_bytes=resource.RLIM_INFINITY).run() == 0, worked_on(tmp_path / "log")
    assert contents(attempt.store) == calm.contents


@pytest.fixture
def read_only(store_of: Attempt) -> Iterator[Attempt]:
    """The undisturbed store on a file system that is mounted read-only."""
    flags = ["mount", "--bind", store_of.store, store_of.store]
    if os.geteuid() or subprocess.run(flags, capture_output=True).returncode:
        pytest.skip("mounting read-only needs root")
    subprocess.run(["mount", "-o", "remount,bind,ro", store_of.store], check=True)
    try:
        yield store_of
    finally:
        subprocess.run(["umount", "-l", store_of.store], check=True)


def test_a_read_only_store_can_be_read_and_reused(calm: Calm, read_only: Attempt) -> None:
    assert verify(Store(read_only.store), None).ok
    assert read_only.run() == 0, worked_on(Path(read_only.log))
    run = Run(Path(read_only.log).parent / "command", "run", calm.config, CRAWL2CHAT_STORE=read_only.store)
    assert run.end() == 2
    assert f"error: store {read_only.store}: cannot be written: Read-only file system" in run.text()
    assert replace(read_only, force_from="dedup").run() == 1
    assert "[Errno 30] Read-only file system" in worked_on(Path(read_only.log))[-1]
    assert contents(read_only.store) == calm.contents


def table_of(attempt: Attempt, stage: str) -> Path:
    return next(Path(attempt.store, stage).glob("*/data/*.parquet"))


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_table(calm: Calm, store_of: Attempt, cut: bool) -> None:
    table = table_of(store_of, "dedup")
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 255
    table.write_bytes(data[: len(data) // 3] if cut else data)
    shutil.rmtree(Path(store_of.store, "quality"))
    problems = verify(Store(store_of.store), None).problems
    assert {(p.artifact.partition("@")[0], p.file) for p in problems if "quality" not in p.problem} == {
        ("dedup", "data/part-00000.parquet")
    }
    assert store_of.run() == 1
    said = worked_on(Path(store_of.log))[-1]
    assert "dedup@" in said and "--force-from dedup" in said, said
    assert "quality" not in Store(store_of.store).stages() or not Store(store_of.store).artifacts("quality")
    assert replace(store_of, force_from="dedup").run() == 0, worked_on(Path(store_of.log))
    assert contents(store_of.store) == calm.contents
    assert verify(Store(store_of.store), None).ok


def test_a_lost_manifest(calm: Calm, store_of: Attempt) -> None:
    folder = next(Path(store_of.store, "dedup").iterdir())
    (folder / "manifest.json").unlink()
    problems = [p for p in verify(Store(store_of.store), None).problems if p.artifact.startswith("dedup")]
    assert [p.file for p in problems] == ["manifest.json"]
    assert store_of.run() == 0, worked_on(Path(store_of.log))
    assert contents(store_of.store) == calm.contents
    assert verify(Store(store_of.store), None).ok


def test_a_clock_that_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    first = put_table(store, DOCUMENTS, make_documents(["one"]))
    run = start_record("pipeline.yaml", None)
    run.save(store)

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) - timedelta(days=400)

    for module in (tasks.execution, flows.records, artifacts.runs):
        monkeypatch.setattr(module, "datetime", Earlier)
    later = start_record("pipeline.yaml", None)
    later.save(store)
    assert later.run < run.run  # ids begin with the time
    assert find_run(store, "latest") == later.run
    second = put_table(store, DOCUMENTS, make_documents(["two"]))
    assert store.resolve("given@latest") == second != first
    assert store.artifacts("given") == [first, second]
    assert second.manifest.run.started < first.manifest.run.finished < second.manifest.run.finished
    assert verify(store, None).ok
