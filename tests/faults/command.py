"""The command line as a process whose children a test can look up and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 900.0  # seconds: only to end a test that hangs

# What the command lines of a run's children hold.
SERVER = "flows.server"
WORKER = "multiprocessing.spawn"
RANK = "tasks.training.worker"


class Run:
    """`crawl2chat` in a folder of its own: store, Prefect's database and what was said are in there."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.said = folder / "said"
        inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        inherited |= {"CRAWL2CHAT_STORE": str(folder / "store"), "PREFECT_HOME": str(folder / "prefect")}
        with self.said.open("wb") as stream:
            command = [sys.executable, "-m", "flows.cli", *words]
            self.process = subprocess.Popen(command, env={**inherited, **environment}, stdout=stream, stderr=stream)

    def until(self, happens: Callable[[], object]) -> None:
        """Wait for it; fails when the run has ended before."""
        deadline = time.monotonic() + PATIENCE
        while not happens():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.text()}"
            assert time.monotonic() < deadline, f"never happened: {self.text()}"
            time.sleep(0.02)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.text())

    def text(self) -> str:
        return self.said.read_text(errors="replace")

    def children(self, pattern: str) -> list[int]:
        """Process ids of its descendants whose command line holds the pattern."""
        return [pid for pid in descendants(self.process.pid) if pattern in command_line(pid)]

    def kill_child(self, pattern: str) -> None:
        """SIGKILL to the first such process, as soon as there is one."""
        self.until(lambda: self.children(pattern))
        os.kill(self.children(pattern)[0], signal.SIGKILL)

    def end(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL to the run itself; waits until nothing that it started is left."""
        family = descendants(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        gone(family)


def gone(family: list[int]) -> None:
    """Wait until none of the processes is left; fails after half a minute."""
    deadline = time.monotonic() + 30
    while left := [pid for pid in family if command_line(pid)]:
        assert time.monotonic() < deadline, f"orphans: {[command_line(pid) for pid in left]}"
        time.sleep(0.05)


def command_line(pid: int) -> str:
    """Of a live process; empty for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Process ids of all children and their children."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, before = [pid], 0
    while len(found) > before:
        before, found = len(found), [pid, *(child for child, parent in parents.items() if parent in found)]
    return found[1:]
