"""Same inputs, same bytes: one process or two, in every data stage, from WARC files to training order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import pytest

from artifacts.audit.verify import verify
from artifacts.store import Artifact, Store
from tasks import decontaminate, dedup, ingest, mix, quality, tokenize
from tasks.stage import Mapper, Stage, serial_map
from tests.support import run_stage
from tests.warcs import CRAWL, CURATED, write_warc

Item = TypeVar("Item")
Result = TypeVar("Result")


def data_half(store: Store, warcs: list[Path], mapper: Mapper) -> dict[str, Artifact]:
    """Ingest to mix; stage name to artifact."""
    made: dict[str, Artifact] = {}

    def go(stage: Stage, fields: dict[str, Any], **inputs: str) -> None:
        config = stage.config.model_validate(fields)
        given = {key: made[name] for key, name in inputs.items()}
        made[stage.name] = run_stage(stage, config, store, given, mapper=mapper).artifact  # type: ignore[arg-type]

    go(ingest.STAGE, {"paths": [str(path) for path in warcs], "languages": []})
    go(dedup.STAGE, {}, documents="ingest")
    go(quality.STAGE, {"positives": {"urls": ["curated"]}, "alpha": 1.0}, documents="dedup")
    go(decontaminate.STAGE, {}, documents="quality")
    go(tokenize.STAGE, {"vocab_size": 400}, documents="decontaminate")
    fields = {"weights": {"crawl": 1.0}, "sequence_length": 64, "tokens": 20_000}
    go(mix.STAGE, fields, documents="decontaminate", tokenizer="tokenize")
    return made


@pytest.fixture(scope="module")
def warcs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("warcs")
    write_warc(folder / "a.warc.gz", CRAWL, 60, 1, "crawl.example")
    write_warc(folder / "b.warc.gz", CURATED, 40, 2, "curated.example")
    return [folder / "a.warc.gz", folder / "b.warc.gz"]


def test_one_process_or_two_give_the_same_bytes(warcs: list[Path], tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        def pooled(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
            return pool.map(function, items)

        two = data_half(Store(tmp_path / "two"), warcs, pooled)
    one = data_half(Store(tmp_path / "one"), warcs, serial_map)
    assert {name: artifact.content for name, artifact in one.items()} == {
        name: artifact.content for name, artifact in two.items()
    }
    # A chain in which nothing happened would be equal too.
    assert one["dedup"].manifest.counts.reasons["near_duplicate"] >= 5
    assert one["quality"].manifest.counts.reasons["quality"] >= 1
    assert one["mix"].manifest.metrics["rows"] == 20_000 // 64
    report = verify(Store(tmp_path / "one"), None)
    assert (report.ok, report.checked) == (True, 6)
