"""No secret reaches a manifest, a record, a report, a log, the terminal or Prefect's database."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from artifacts.audit.verify import verify
from artifacts.store import Store
from tests.warcs import CRAWL, write_warc

USER, PASSWORD, TOKEN, OTHER_TOKEN = "crawler", "Tr0ub4dor&3", "tok-5f1e9c", "tok-0ther1"
SECRETS = [PASSWORD, "Tr0ub4dor%263", TOKEN, OTHER_TOKEN, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder of WARC files, and the port of a server that gives them to whoever has both password and token."""
    folder = tmp_path_factory.mktemp("guarded")
    write_warc(folder / "a.warc.gz", CRAWL, 12, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CRAWL, 12, 2, "other.example")
    wanted = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            allowed = self.headers.get("Authorization") == wanted
            allowed = allowed and parse_qs(url.query).get("token", [""])[0] in (TOKEN, OTHER_TOKEN)
            body = (folder / url.path[1:]).read_bytes() if allowed else b"no"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, server.server_address[1]
    server.shutdown()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {
        "CRAWL2CHAT_STORE": str(folder / "store"),
        "CRAWL2CHAT_CACHE": str(folder / "cache"),
        "PREFECT_HOME": str(folder / "prefect"),
    }
    environment.pop("CRAWL2CHAT_MIRROR", None)
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], env=environment, capture_output=True, text=True, timeout=300
    )


def leaks(folder: Path) -> list[str]:
    """Files below a folder whose bytes or names hold a secret."""
    found = []
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        found += [f"{path}: {secret}" for secret in SECRETS if secret.encode() in data or secret in str(path)]
    return found


def test_no_secret_is_written_anywhere(guarded: tuple[Path, int], tmp_path: Path) -> None:
    files, port = guarded
    place = f"{USER}:Tr0ub4dor%263@127.0.0.1:{port}"
    data = (files / "b.warc.gz").read_bytes()
    entry = {
        "name": "b.warc.gz",
        "url": f"http://{place}/b.warc.gz?token={TOKEN}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    manifest = tmp_path / "guarded.yaml"
    manifest.write_text(yaml.safe_dump({"name": "guarded", "role": "crawl", "licence": "MIT", "files": [entry]}))
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump({"workers": 1, "ingest": {"languages": []}, "dedup": {}}))
    given = ["--set", f"ingest.manifests=[{manifest}]"]
    url = f"http://{place}/a.warc.gz?token={TOKEN}&part=1"
    given += ["--set", f"ingest.paths=['{url}']"]
    work = tmp_path / "work"
    work.mkdir()

    first = command(work, "run", str(config), *given, "--json")
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    assert made["ok"] and made["stages"][0]["kept"] > 0
    store = Store(work / "store")
    sources = store.resolve("ingest@latest").manifest.sources
    assert [source.url for source in sources] == [
        f"http://redacted@127.0.0.1:{port}/b.warc.gz?token=redacted",
        f"http://redacted@127.0.0.1:{port}/a.warc.gz?token=redacted&part=1",
    ]
    record = json.loads(store.read_text(f"runs/{made['run']}.json"))
    assert record["overrides"][1] == f"ingest.paths=['{sources[1].url}']"
    assert (work / "store" / "reports" / f"{made['run']}.html").is_file()

    # Another token for the same file is the same file: nothing is fetched or built again.
    again = command(work, "run", str(config), *[word.replace(TOKEN, OTHER_TOKEN) for word in given], "--json")
    assert again.returncode == 0 and all(row["reused"] for row in json.loads(again.stdout)["stages"]), again.stderr

    # A refusal names the place and not the key to it.
    refused = command(work, "run", str(config), "--set", f"ingest.paths=['{url.replace(TOKEN, 'x')}/c']")
    assert refused.returncode == 2 and f"http://redacted@127.0.0.1:{port}/a.warc.gz" in refused.stderr
    wrong = command(work, "run", str(config), "--set", f"ingest.paths.{url}")
    assert wrong.returncode == 2 and "redacted" in wrong.stderr
    shown = [
        command(work, *words) for words in (["show", "ingest"], ["show", "ingest", "--json"], ["verify", "--json"])
    ]
    assert [result.returncode for result in shown] == [0, 0, 0]
    for result in (first, again, refused, wrong, *shown):
        assert not [secret for secret in SECRETS if secret in result.stdout + result.stderr]
    assert list((work / "prefect").rglob("*.db")) and verify(store).ok
    assert leaks(work) == []
