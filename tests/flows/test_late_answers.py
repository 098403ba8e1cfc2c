"""A busy server: it does what it is asked, answers too late, and is asked again. Prefect then loses results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.flows.test_server import SCRIPT
from tests.warcs import CRAWL, write_warc

UNSENT = ("host", "content-length", "accept-encoding")


class Late(BaseHTTPRequestHandler):
    """Hands every request on; of a final state the first answer is lost on the way (a gateway's 503)."""

    behind: str
    lost: list[str]

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key: value for key, value in self.headers.items() if key.lower() not in UNSENT}
        request = urllib.request.Request(self.behind + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, said, kind = answer.status, answer.read(), answer.headers.get("Content-Type")
        except urllib.error.HTTPError as error:
            status, said, kind = error.code, error.read(), error.headers.get("Content-Type")
        if self.path.endswith("/set_state") and self.path not in self.lost and _is_final(body):
            self.lost.append(self.path)
            status, said = 503, b"{}"
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _hand_on

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _is_final(body: bytes) -> bool:
    return bool(json.loads(body)["state"]["type"] in ("COMPLETED", "FAILED"))


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers final states late, and the paths of the answers that were lost."""
    home = tmp_path_factory.mktemp("prefect")
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment["PREFECT_HOME"] = str(home)
    server = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert server.stdout is not None and server.stdin is not None
    parts = urlsplit(server.stdout.readline().strip())
    lost: list[str] = []
    handler = type("Handler", (Late,), {"behind": f"{parts.scheme}://{parts.netloc}", "lost": lost})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_port}/api", lost
    proxy.shutdown()
    server.stdin.close()
    server.wait(30)


def run(folder: Path, api: str, **ingest: Any) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    write_warc(folder / "crawl.warc.gz", CRAWL, 10, 1, "crawl.example")
    config = folder / "pipeline.yaml"
    config.write_text(
        yaml.safe_dump({"workers": 1, "ingest": {"paths": [str(folder / "*.warc.gz")], "languages": [], **ingest}})
    )
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "prefect")}
    command = [sys.executable, "-m", "flows.cli", "run", str(config), "--store", str(folder / "store"), "--json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_stage_that_was_built_is_built(tmp_path: Path, late: tuple[str, list[str]]) -> None:
    api, lost = late
    result = run(tmp_path / "good", api)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ok"] and [row["stage"] for row in found["stages"]] == ["ingest"]
    assert len(lost) == 2  # of the pipeline's flow and of the stage's: Prefect asks for those of tasks nowhere


def test_an_error_for_people_is_still_that_error(tmp_path: Path, late: tuple[str, list[str]]) -> None:
    api, _ = late
    result = run(tmp_path / "bad", api, languages=["xx"])
    assert result.returncode == 1, result.stderr
    # (The proxy knows no websockets, of which Prefect's events complain at the end.)
    assert any(line.startswith("failed: ingest: nothing survived of") for line in result.stderr.splitlines()), (
        result.stderr
    )
