"""SIGKILL at random moments: nothing is half there afterwards, and the next attempt ends with an undisturbed run's.

The stages run in a process of their own, called as plain functions (tests/faults/attempts.py), so that a moment costs
a second or two. `CRAWL2CHAT_FAULT_MOMENTS` sets how many moments a test tries.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

from artifacts.audit.verify import verify
from artifacts.store import Store
from tests.faults.attempts import Attempt, contents, worked_on
from tests.faults.command import descendants, gone
from tests.faults.conftest import Calm

SEED = 20
MOMENTS = int(os.environ.get("CRAWL2CHAT_FAULT_MOMENTS", "30"))
POOL_MOMENTS = int(os.environ.get("CRAWL2CHAT_FAULT_MOMENTS", "12"))

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for child processes in /proc")


def moments(count: int, seconds: float, what: str) -> list[float]:
    """Moments of a run of that length, and one of a run that is over."""
    chance = random.Random(SEED)
    drawn = [chance.uniform(0.0, seconds) for _ in range(count)]
    sys.stdout.write(f"{what}: seed {SEED}, moments {', '.join(f'{moment:.3f}' for moment in drawn)} s\n")
    return drawn


def whole(store: str) -> None:
    """Nothing in the store is damaged, and no draft is left once its process is gone and another has begun."""
    report = verify(Store(store), None)
    assert report.ok, report.problems


def clean(store: str) -> None:
    assert [path.name for path in Path(store, ".tmp").iterdir()] == []
    assert [path.name for path in Path(store, ".work").iterdir()] == []


def test_the_process_that_runs_stages(calm: Calm, tmp_path: Path) -> None:
    killed = 0
    for number, moment in enumerate(moments(MOMENTS, calm.seconds, "stages")):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        attempt = Attempt(calm.config, str(folder / "store"), str(folder / "log"))
        process = attempt.start()
        time.sleep(moment)
        process.kill()
        process.join()
        killed += process.exitcode == -9
        whole(attempt.store)
        assert attempt.run() == 0, worked_on(folder / "log")
        assert contents(attempt.store) == calm.contents
        clean(attempt.store)
        shutil.rmtree(folder)
    sys.stdout.write(f"{killed} of {MOMENTS} were killed before they had ended\n")


def test_a_worker_process_of_the_pool(calm: Calm, tmp_path: Path) -> None:
    attempt = Attempt(calm.config, str(tmp_path / "store"), str(tmp_path / "log"), workers=2)
    broken = 0
    for moment in moments(POOL_MOMENTS, calm.seconds, "pool"):
        process = attempt.start()
        time.sleep(moment)
        family = descendants(process.pid)
        if family:
            os.kill(random.Random(SEED).choice(family), 9)
        process.join()
        gone(family)
        whole(attempt.store)
        if process.exitcode == 0:
            assert contents(attempt.store) == calm.contents
            clean(attempt.store)
            shutil.rmtree(attempt.store)
        else:
            broken += 1
            # The family is the pool, or the process that trains the classifier, where that is under way.
            told = worked_on(tmp_path / "log")[-1]
            assert "BrokenProcessPool" in told or "training the classifier failed (exit -9)" in told
    assert attempt.run() == 0, worked_on(tmp_path / "log")
    assert contents(attempt.store) == calm.contents
    sys.stdout.write(f"{broken} of {POOL_MOMENTS} ended with a broken pool\n")
