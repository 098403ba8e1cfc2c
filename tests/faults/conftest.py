"""A crawl of eight small files, a pipeline over it, and the store of its undisturbed run."""

from __future__ import annotations

import gzip
import json
import re
import time
from dataclasses import dataclass, replace

import pytest

from tests.faults.attempts import Attempt, contents, worked_on
from tests.flows.test_pipeline import write_config
from tests.warcs import CRAWL, CURATED, write_warc


@dataclass(frozen=True)
class Calm:
    """The undisturbed run: its config, its artifacts' contents, the shards it worked on, and how long it took."""

    config: str
    store: str
    contents: dict[str, str]
    worked: list[str]
    seconds: float


@pytest.fixture(scope="package")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    for number in range(6):
        write_warc(folder / f"crawl-{number}.warc.gz", CRAWL, 16, number, f"crawl{number}.example")
    for number in range(2):
        write_warc(folder / f"curated-{number}.warc.gz", CURATED, 20, 10 + number, f"curated{number}.example")
    with gzip.open(folder / "curated-0.warc.gz") as stream:
        page = re.findall(r"<p>(.*?)</p>", stream.read().decode())[3]
    (folder / "evaluation.jsonl").write_text(json.dumps({"instruction": page[400:700], "input": "", "output": "x"}))
    config = write_config(folder, decontaminate={"against": [str(folder / "evaluation.jsonl")]})
    attempt = Attempt(config, str(folder / "store"), str(folder / "log"))
    # The first attempt starts the fork server and compiles: how long one takes is seen on the second.
    assert replace(attempt, store=str(folder / "first")).run() == 0, worked_on(folder / "log")
    (folder / "log").unlink()
    began = time.monotonic()
    assert attempt.run() == 0, worked_on(folder / "log")
    seconds = time.monotonic() - began
    return Calm(config, attempt.store, contents(attempt.store), worked_on(folder / "log"), seconds)
