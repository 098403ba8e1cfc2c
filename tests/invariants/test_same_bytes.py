"""Same inputs, same bytes: one process or two, in every data stage, from WARC files to training order."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from artifacts.store import Artifact, Store
from artifacts.verify import verify
from tasks import decontaminate, dedup, ingest, mix, quality, tokenize
from tasks.stage import Mapper, Stage, serial_map
from tests.support import run_stage

Item = TypeVar("Item")
Result = TypeVar("Result")

CRAWL = "river stone market window letter harbor engine garden summer winter village road bridge paper music".split()
CURATED = "theorem measure integral function limit series proof lemma vector matrix kernel operator norm basis".split()


def write_warc(path: Path, words: list[str], pages: int, seed: int, host: str) -> None:
    """Pages of made-up sentences; every tenth repeats the one before it with one word changed."""
    chance = random.Random(seed)
    text = ""
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number in range(pages):
            if number % 10 or not text:
                sentences = [" ".join(chance.choices(words, k=12)).capitalize() + "." for _ in range(30)]
                text = " ".join(f"The {sentence} It is on page {number}." for sentence in sentences)
            else:
                text = text.replace("The", "A", 1)
            body = f"<html><head><title>p</title></head><body><p>{text}</p></body></html>".encode()
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
            record = writer.create_warc_record(
                f"http://{host}/{number}.html",
                "response",
                payload=io.BytesIO(body),
                http_headers=headers,
                warc_headers_dict={"WARC-Date": "2026-01-01T00:00:00Z"},
            )
            writer.write_record(record)


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
