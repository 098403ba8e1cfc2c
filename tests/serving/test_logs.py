"""The logs of a service do not grow for ever, and what writes them does not notice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.serving import children, service
from flows.serving.children import Child, rotate
from flows.serving.service import Service
from flows.serving.settings import settings_of

WRITER = "import sys\nfor line in sys.stdin: print('a line of the log', line.strip(), flush=True)"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(children, "LOG_BYTES", 1_000)
    return tmp_path / "server.log"


def lines(path: Path) -> list[int]:
    return [int(line.split()[-1]) for line in path.read_text().splitlines()]


def test_a_log_that_is_being_written_is_set_aside_line_by_line(log: Path) -> None:
    with log.open("ab") as stream:
        command = [sys.executable, "-c", WRITER]
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stream, text=True)
    assert writer.stdin is not None
    for number in range(300):
        writer.stdin.write(f"{number}\n")
        writer.stdin.flush()
        while f"log {number}\n" not in log.read_text():
            time.sleep(0.001)
        rotate(log)
        assert log.stat().st_size < 1_000
    writer.stdin.close()
    assert writer.wait() == 0
    parts = [Path(f"{log}.{number}") for number in (3, 2, 1)] + [log]
    assert sorted(log.parent.iterdir()) == sorted(parts)
    found = [number for part in parts for number in lines(part)]
    assert found == list(range(found[0], 300)) and len(found) > 3 * 1_000 // 22
    assert all(1_000 <= part.stat().st_size < 1_030 for part in parts[:3])


def test_a_log_that_cannot_be_set_aside_is_left(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        log.with_name(f"{log.name}.partial").touch()
        raise OSError("No space left on device")

    log.write_bytes(b"x" * 1_000)
    Path(f"{log}.1").write_text("older")
    monkeypatch.setattr(children.shutil, "copy", full)
    rotate(log)
    assert {path.name: path.stat().st_size for path in log.parent.iterdir()} == {"server.log": 1_000, "server.log.1": 5}


def test_a_child_begins_with_a_log_that_has_room(log: Path) -> None:
    log.write_bytes(b"x" * 1_000)
    child = Child("server", "this", [], os.environ, log)
    assert child.process.wait(60) == 0
    child.stop(0)
    assert Path(f"{log}.1").read_bytes() == b"x" * 1_000
    assert log.read_text().startswith("The Zen of Python")


def test_a_service_looks_after_its_logs_while_it_runs(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Alive:
        alive = True

        def __init__(self) -> None:
            self.log = log

    naps = iter([None, None])

    def sleep(_: float) -> None:
        if next(naps, KeyboardInterrupt) is not None:
            raise KeyboardInterrupt

    log.write_bytes(b"x" * 1_000)
    monkeypatch.setattr(service.time, "sleep", sleep)
    served = Service(settings_of(None, None, None), print)
    alive: Any = Alive()
    served._children["server"] = alive
    with pytest.raises(KeyboardInterrupt):
        served.wait()
    assert (log.stat().st_size, Path(f"{log}.1").stat().st_size) == (0, 1_000)
