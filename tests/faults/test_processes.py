"""SIGKILL to each kind of process of a run from the command line, and a database that another program holds.

The moments come from seeds and from what the run has said so far, not from a clock: under load everything is slower.
`CRAWL2CHAT_FAULT_MOMENTS` sets how often each kind is killed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from artifacts.audit.verify import verify
from artifacts.store import Store
from tests.faults.attempts import contents
from tests.faults.command import RANK, SERVER, WORKER, Run
from tests.faults.conftest import Calm

SEED = 20
MOMENTS = int(os.environ.get("CRAWL2CHAT_FAULT_MOMENTS", "1"))
DATA = ("ingest", "dedup", "quality", "decontaminate", "tokenize", "mix")
PRETRAIN = {
    "model": {"layers": 1, "width": 32, "heads": 2, "context": 64},
    "batch_tokens": 512,
    "checkpoint_every": 3,
    "launcher": {"threads": 1},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks for child processes in /proc"),
]


@dataclass(frozen=True)
class Trained:
    """A config that ends with a training stage, and what an undisturbed run from the command line made of it."""

    config: str
    contents: dict[str, str]


@pytest.fixture(scope="module")
def trained(calm: Calm, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    sections = yaml.safe_load(Path(calm.config).read_text())
    config = folder / "pipeline.yaml"
    config.write_text(yaml.safe_dump({**sections, "workers": 2, "pretrain": PRETRAIN}))
    run = Run(folder, "run", str(config))
    assert run.end() == 0, run.text()
    found = contents(folder / "store")
    assert calm.contents.items() <= found.items()  # with Prefect and worker processes, or without
    return Trained(str(config), found)


def ends_well(folder: Path, trained: Trained) -> None:
    """Nothing is half there, and the same command makes what an undisturbed run makes."""
    assert verify(Store(folder / "store"), None).ok
    again = Run(folder, "run", trained.config)
    assert again.end() == 0, again.text()
    assert contents(folder / "store") == trained.contents
    report = verify(Store(folder / "store"), None)
    assert report.ok, report.problems
    assert not (folder / "store" / ".work").exists() or list((folder / "store" / ".work").iterdir()) == []


def draws(kind: str) -> list[random.Random]:
    sys.stdout.write(f"{kind}: seeds {SEED} to {SEED + MOMENTS - 1}\n")
    return [random.Random(SEED + number) for number in range(MOMENTS)]


def test_the_run_itself(trained: Trained, tmp_path: Path) -> None:
    for chance in draws("run"):
        run = Run(tmp_path, "run", trained.config)
        stage = chance.choice(DATA)
        if not (tmp_path / "store" / stage).exists():
            run.until_said(f"  {stage} ")
        time.sleep(chance.uniform(0.0, 3.0))
        run.kill()
        assert verify(Store(tmp_path / "store"), None).ok
    ends_well(tmp_path, trained)


def test_a_worker_process(trained: Trained, tmp_path: Path) -> None:
    for _ in draws("worker"):
        run = Run(tmp_path, "run", trained.config)
        run.kill_child(WORKER)
        if run.end() == 1:
            assert "failed: a worker process was killed" in run.text()
            assert "The same command goes on from here" in run.text() and "Traceback" not in run.text()
    ends_well(tmp_path, trained)


def test_a_training_process(trained: Trained, tmp_path: Path) -> None:
    for chance in draws("rank"):
        run = Run(tmp_path, "run", trained.config)
        run.until(lambda run=run: run.children(RANK))  # type: ignore[misc]
        time.sleep(chance.uniform(0.0, 3.0))
        run.kill_child(RANK)
        assert run.end() == 1
        assert "a training process was ended by SIGKILL" in run.text() and "Traceback" not in run.text()
    ends_well(tmp_path, trained)


def disturbed(trained: Trained, folder: Path, disturb: Callable[[Run], None]) -> str:
    """What a run says that must end well although something happened to it after its second stage."""
    run = Run(folder, "run", trained.config)
    run.until_said("  dedup ")
    disturb(run)
    assert run.end() == 0, run.text()
    assert "Traceback" not in run.text()
    assert contents(folder / "store") == trained.contents
    assert verify(Store(folder / "store"), None).ok
    return run.text()


def test_the_embedded_server_is_started_again(trained: Trained, tmp_path: Path) -> None:
    for number, chance in enumerate(draws("server")):

        def kill(run: Run, pause: float = chance.uniform(0.0, 3.0)) -> None:
            time.sleep(pause)
            run.kill_child(SERVER)

        said = disturbed(trained, tmp_path / f"{number}", kill)
        assert "the embedded Prefect server has ended (SIGKILL); it is started again" in said


def test_a_database_that_another_program_holds(trained: Trained, tmp_path: Path) -> None:
    def hold(_: Run) -> None:
        with sqlite3.connect(tmp_path / "prefect" / "prefect.db", timeout=60, isolation_level=None) as database:
            database.execute("begin exclusive")
            time.sleep(20)
            database.rollback()
        database.close()

    disturbed(trained, tmp_path, hold)
