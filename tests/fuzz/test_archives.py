"""Broken archives through the whole of ingest's reading: no crash, no hang, every byte and every record accounted for.

`CRAWL2CHAT_FUZZ=10000` runs as many archives (seeds 0 to 9999), `CRAWL2CHAT_FUZZ=10000:20000` those seeds; without it
the few that suit a test run. With `CRAWL2CHAT_MIRROR` the small archives of its crawl/ and crawl_bad/ are broken too. A
finding names its seed; seeds that found something once stay in `FOUND`.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.ingest.config import IngestConfig
from tasks.ingest.judge import COUNTED
from tasks.ingest.process import Job, process_file
from tasks.ingest.reader import Damage, Record, is_arc, read_records
from tests.fuzz.accounts import codec_read, lost, unaccounted
from tests.fuzz.mutate import bases, mutate

GIVEN = os.environ.get("CRAWL2CHAT_FUZZ", "150")
START, STOP = (int(part) for part in (GIVEN if ":" in GIVEN else f"0:{GIVEN}").split(":"))
BLOCK = 50
# Seeds (without a mirror) that showed a fault, since mended.
FOUND: tuple[int, ...] = ()

CONFIG = IngestConfig(max_record_bytes=1 << 20, min_chars=1)
CPU_SECONDS = 20  # of one archive; the slowest took well under one


class Hang(BaseException):
    """One archive took longer than anything should. Not an `Exception`: nothing on the way may swallow it."""


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """CPU time and not time: on a busy machine a test must not fail for waiting."""

    def stop(number: int, frame: Any) -> None:
        raise Hang(f"{what} took {CPU_SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def check(seed: int, folder: Path, told: Counter[str]) -> list[str]:
    """What is wrong with how one archive was read."""
    base, data, whole = mutate(seed)
    path = folder / base.name
    path.write_bytes(data)
    with bounded(f"seed {seed}"):
        items = list(read_records(path, CONFIG.max_record_bytes))
        spilled = process_file(Job(0, path.name, str(path), "crawl", (), CONFIG, (), str(folder)))
    problems = unaccounted(data, items)
    # The file's beginning names format and codec; a piece of another archive put there makes it another file.
    if is_arc(path) != base.name.endswith((".arc", ".arc.gz")) or codec_read(data, items) != base.codec:
        told["taken for another format"] += 1
    elif base.aligned:
        problems += lost(data, items, whole, base.codec)
    with pa.memory_map(spilled.file.path) as file, pa.ipc.open_file(file) as reader:
        rows = reader.read_all().to_pylist()
    wanted = sum(isinstance(item, Damage) or item.kind in COUNTED for item in items)
    if not len(rows) == spilled.rows == wanted:
        problems.append(f"{wanted} records and damaged regions, {len(rows)} rows")
    for row in rows:
        if not row["reason"] or len(row["doc_id"]) != 32 or (row["text"] is not None) != row["kept"]:
            problems.append(f"a row without its account: {row}")
        if row["failed"] and f"{path.name} @ {row['warc_offset']}: " not in row["detail"]:
            problems.append(f"a loss without a place: {row}")
    told.update(row["reason"] for row in rows)
    told["records"] += sum(isinstance(item, Record) for item in items)
    return [f"seed {seed} ({base.name}): {problem}" for problem in problems]


@pytest.mark.parametrize("start", range(START, STOP, BLOCK))
def test_broken_archives(start: int, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    told: Counter[str] = Counter()
    problems: list[str] = []
    slowest = (0.0, 0)
    for seed in range(start, min(start + BLOCK, STOP)):
        began = time.process_time()
        problems += check(seed, tmp_path, told)
        slowest = max(slowest, (time.process_time() - began, seed))
    record_property("slowest", f"seed {slowest[1]}, {slowest[0]:.2f} s of CPU time")
    record_property("rows", dict(told))
    assert problems == []
    # A mutation that breaks nothing, or everything, would test nothing.
    assert told["damaged_record"] and told["kept"]


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once(seed: int, tmp_path: Path) -> None:
    assert check(seed, tmp_path, Counter()) == []


def test_unbroken_archives_have_no_losses(tmp_path: Path) -> None:
    """The account itself: of whole archives nothing is left over, and it notices what is taken away."""
    for base in bases():
        path = tmp_path / base.name
        path.write_bytes(base.data)
        items = list(read_records(path, CONFIG.max_record_bytes))
        assert unaccounted(base.data, items) == [], base.name
        assert not base.aligned or lost(base.data, items, base.pieces, base.codec) == [], base.name
        if len(base.pieces) > 3 and base.name.startswith("made."):
            assert unaccounted(base.data, items[:2] + items[3:]) != [] or base.codec != "plain", base.name
            assert lost(base.data, items[:2] + items[3:], base.pieces, base.codec) != [] or base.codec == "plain"
