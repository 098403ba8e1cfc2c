"""Data for services: a small crawl, and one that takes minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.attempts import Attempt
from tests.flows.test_pipeline import write_config
from tests.warcs import CRAWL, CURATED, write_warc

TRAINING = {
    "model": {"architecture": "gpt2", "layers": 2, "width": 32, "heads": 2, "context": 64},
    "batch_tokens": 256,
    "lr": 1e-3,
}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config `pipeline.yaml`, whose pipeline ends with a training that takes hours, and with a `store`
    that holds all before it."""
    folder = tmp_path_factory.mktemp("small")
    write_warc(folder / "a.warc.gz", CRAWL, 40, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 30, 2, "curated.example")
    assert Attempt(write_config(folder), str(folder / "store"), str(folder / "log")).run() == 0
    write_config(folder, name="small", pretrain={**TRAINING, "steps": 500_000})
    return folder


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config `pipeline.yaml` whose ingest takes minutes on two processes."""
    folder = tmp_path_factory.mktemp("long")
    write_warc(folder / "a-0.warc.gz", CRAWL, 1_000, 3, "long.example")
    for number in range(1, 60):
        shutil.copy(folder / "a-0.warc.gz", folder / f"a-{number}.warc.gz")
    write_config(folder, name="long", workers=2)
    return folder
