"""SIGKILL at random moments of a run, then the same command: the artifacts are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artifacts.store import Store
from artifacts.verify import verify
from tests.flows.test_pipeline import crawl2chat, said, write_config
from tests.warcs import CRAWL, CURATED, write_warc

KILLS = 4


def contents(folder: Path) -> dict[str, str]:
    return {artifact.ref: artifact.content for artifact in Store(folder / "store").artifacts()}


def start(folder: Path, config: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"CRAWL2CHAT_STORE": str(folder / "store"), "PREFECT_HOME": str(folder / "prefect")}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", config],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of live processes that mention the folder or were started with its store in the environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder / "store").encode() in environment:
            found.append(command)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for orphans in /proc")
def test_killed_runs_end_with_the_artifacts_of_an_undisturbed_one(tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    write_warc(calm / "a.warc.gz", CRAWL, 60, 1, "crawl.example")
    write_warc(calm / "b.warc.gz", CURATED, 40, 2, "curated.example")
    config = write_config(calm, workers=2)
    assert said(crawl2chat(calm, "run", config, "--json"))["ok"]

    chance = random.Random(20)
    for _ in range(KILLS):
        process = start(killed, config)
        time.sleep(chance.uniform(2.0, 9.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Whatever was cut off, what is there is whole.
        report = verify(Store(killed / "store"), None)
        assert report.ok, report.problems
    deadline = time.monotonic() + 30
    while processes_of(killed) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert processes_of(killed) == []
    assert said(crawl2chat(killed, "run", config, "--json"))["ok"]
    assert contents(killed) == contents(calm)
    assert [path.name for path in (killed / "store" / ".tmp").iterdir()] == []
