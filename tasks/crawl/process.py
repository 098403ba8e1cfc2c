"""Starting the documentation server and the docstring reader in processes of their own."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts.errors import RunError

FOLDER = Path(__file__).parent
START_SECONDS = 60
# All that the pages may see of an environment. A fixed hash seed: reprs of sets come out the same in every run.
ENVIRONMENT = {"HOME": "/", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "TZ": "UTC"}
# -P: this folder not on the path; -S, -s: no site-packages; -B: no byte code written; -W: imports warn of deprecation.
FLAGS = ["-P", "-s", "-S", "-B", "-W", "ignore"]


def command(script: str, argument: dict[str, Any]) -> list[str]:
    """The command line of one of this folder's scripts."""
    return [sys.executable, *FLAGS, str(FOLDER / script), json.dumps(argument)]


@contextmanager
def serving(date: str, skip: list[str]) -> Iterator[int]:
    """The documentation server, up; yields its port on 127.0.0.1 and stops it afterwards.

    Raises:
        RunError: it did not come up, with what it said last.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command("server.py", {"date": date, "skip": skip}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"crawl: the documentation server cannot be started: {error}") from error
        try:
            yield _port(process, said)
        finally:
            process.kill()
            process.communicate()


def _port(process: subprocess.Popen[bytes], said: Any) -> int:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if line.strip().isdigit():
        return int(line)
    said.seek(0)
    last = said.read().decode("utf8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    state = "did not answer in time" if not ready else f"ended with exit code {process.wait()}"
    raise RunError(f"crawl: the documentation server did not come up: it {state}: {last[0]}")


def read_docstrings(modules: list[str], limit: int) -> list[dict[str, str]]:
    """Instruction records from the docstrings of modules (see harvest.py), read in a process of its own.

    Raises:
        RunError: the process failed.
    """
    done = subprocess.run(
        command("harvest.py", {"modules": modules, "limit": limit}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRONMENT,
        cwd="/",
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode("utf8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise RunError(f"crawl: reading the docstrings failed (exit code {done.returncode}): {last[0]}")
    return [json.loads(line) for line in done.stdout.decode("utf8").splitlines()]
