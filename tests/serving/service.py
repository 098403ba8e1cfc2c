"""A running `crawl2chat up` for tests: its own home, store and port, an API client, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without what would lead a service elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CRAWL2CHAT_STORE"))}
    return kept | {"PREFECT_HOME": str(home)} | more


def poll(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `check`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:g} seconds: {what}")


def _unless_busy(answer: httpx.Response) -> Any:
    return [answer] if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE else None


class Up:
    """`crawl2chat up` as a process."""

    def __init__(
        self,
        folder: Path,
        configs: list[str],
        *options: str,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.port = folder, port or free_port()
        self.home, self.store = folder / "home", folder / "store"
        self.output = folder / "up.out"
        self.environment = environment_of(self.home, **(environment or {}))
        arguments = [*configs, "--port", str(self.port), "--store", str(self.store), *options]
        with self.output.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "up", *arguments],
                env=self.environment,
                stdout=stream,
                stderr=stream,
                cwd=folder,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/", timeout=60)

    def wait(self) -> Up:
        """Until it says that it is ready."""

        def ready() -> bool:
            assert self.process.poll() is None, self.said()
            return "Ctrl-C stops" in self.said()

        poll(ready, 400, "up is ready")
        return self

    def said(self) -> str:
        return self.output.read_text()

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted((self.home / "logs").glob("*.log")))

    def post(self, path: str, **body: Any) -> Any:
        """The answer. 503 says that nothing was done and that the database was too busy: asked again, as clients do."""
        (answer,) = poll(lambda: _unless_busy(self.client.post(path, json=body)), 120, f"an answer of {path}")
        assert answer.status_code < 300, answer.text
        return answer.json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.post("deployments/filter")}

    def start(self, deployment: str, **parameters: Any) -> str:
        """The id of a run of it, due now, as the UI starts it."""
        place = f"deployments/{self.deployments()[deployment]['id']}/create_flow_run"
        run: str = self.post(place, parameters=parameters, state={"type": "SCHEDULED"})["id"]
        return run

    def state(self, run: str) -> tuple[str, str]:
        """Type and message of a run's state. While the server cannot say: an empty type."""
        try:
            answer = self.client.get(f"flow_runs/{run}")
        except httpx.TransportError:
            return "", ""
        if answer.status_code >= 500:
            return "", ""
        state = answer.json()["state"]
        return state["type"], state["message"] or ""

    def until(self, run: str, *types: str, seconds: float = 420) -> tuple[str, str]:
        """Its state once it is of one of these types, or has ended."""

        def there() -> tuple[str, str] | None:
            state = self.state(run)
            return state if state[0] in (*types, *ENDED) else None

        try:
            found: tuple[str, str] = poll(there, seconds, f"{types or ENDED}; it is {self.state(run)}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()[-6000:]}") from error
        return found

    def cancel(self, run: str) -> None:
        """What the UI's button does."""
        self.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def signal(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)

    def kill_all(self) -> None:
        """What a test leaves, whatever became of it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Live processes of this home, by id: every one inherits PREFECT_HOME from `up`."""
        mark = f"PREFECT_HOME={self.home}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        if (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                            found[int(entry.name)] = command
                except OSError:
                    continue
        return found

    def pid_of(self, module: str) -> int:
        """The process that runs `-m module`."""
        (pid,) = [pid for pid, command in self.processes().items() if f"-m {module}" in command]
        return pid

    def drafts(self) -> list[str]:
        """Folders: the files beside them are locks, also of scheduled runs that go on meanwhile."""
        return [str(path) for path in (self.store / ".tmp").glob("*") if path.is_dir()]
