"""The embedded Prefect server: it answers, and it ends with the process that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from tests.invariants.test_localhost import listeners

SCRIPT = """
import sys
from flows.server import prefect_api
with prefect_api() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_the_server_ends_when_its_parent_is_killed() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    assert answers(url)
    if os.path.exists("/proc/net/tcp"):
        assert listeners(int(urlsplit(url).port or 0)) == {"127.0.0.1"}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not answers(url)
