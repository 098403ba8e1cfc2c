"""One source file, read in a process of its own: its rows go to an Arrow file in the scratch folder."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifacts.tables import DECISIONS, DOCUMENTS
from tasks.codec import WorkFile
from tasks.ingest.config import IngestConfig
from tasks.ingest.judge import Judge, Row
from tasks.ingest.page_rules import COLUMNS
from tasks.ingest.reader import Damage, read_records
from tasks.ingest.text_sources import TextItem, read_texts
from tasks.ingest.urls import Blocklist

# The columns of both tables; a row's `text` is null where it became no document.
DOCUMENT_ROWS = pa.schema([*DOCUMENTS.schema, *COLUMNS])
ROWS = pa.schema([*DOCUMENT_ROWS, *(f for f in DECISIONS.schema if f.name not in DOCUMENT_ROWS.names)])
BATCH_ROWS = 512
BATCH_CHARS = 16_000_000


@dataclass(frozen=True)
class Job:
    """A source file and all that is needed to read it. Small and picklable."""

    number: int
    name: str
    path: str
    source: str
    options: tuple[tuple[str, Any], ...]
    config: IngestConfig
    blocklist: tuple[str, ...]  # files
    scratch: str


@dataclass(frozen=True)
class Spilled:
    """What a job left: an Arrow file of `ROWS`, and counts for the metrics."""

    file: WorkFile
    rows: int
    tallies: dict[str, dict[str, int]]


def process_file(job: Job) -> Spilled:
    """Read one source file to its end; memory is bounded by a batch of rows and their pages, and the largest record."""
    judge = Judge(job.config, load_blocklist(job.blocklist), job.name, job.source)
    target = Path(job.scratch) / f"{job.number:06d}.arrow"
    # A worker of a killed attempt may still be writing for a moment: each writes a file of its own.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    total = 0
    options = pa.ipc.IpcWriteOptions(compression="lz4")  # the files stay until the artifact is committed
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, ROWS, options=options) as writer:
        pending: list[Row] = []
        characters = 0
        for row in _rows(job, judge):
            pending.append(row)
            characters += len(row.get("text") or "")  # of the whole page, as long as the text waits for `settle`
            if len(pending) >= BATCH_ROWS or characters >= BATCH_CHARS:
                _write(writer, judge, pending)
                total, pending, characters = total + len(pending), [], 0
        _write(writer, judge, pending)
        total += len(pending)
    os.replace(partial, target)
    return Spilled(
        WorkFile(str(target)), total, {name: dict(sorted(c.items())) for name, c in sorted(judge.tallies.items())}
    )


def _write(writer: pa.RecordBatchWriter, judge: Judge, rows: list[Row]) -> None:
    judge.settle(rows)
    writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=ROWS))


def _rows(job: Job, judge: Judge) -> Iterator[Row]:
    options = dict(job.options)
    if options.get("format", "warc") != "warc":
        for item in read_texts(Path(job.path), job.name, options, job.config.max_record_bytes):
            yield judge.text(item) if isinstance(item, TextItem) else judge.bad_text(item)
        return
    for found in read_records(Path(job.path), job.config.max_record_bytes):
        row = judge.damage(found) if isinstance(found, Damage) else judge.record(found)
        if row is not None:
            # Headers are decoded leniently; an Arrow string is strict UTF-8, as a cleaned text is.
            for name, value in row.items():
                if isinstance(value, str) and not value.isascii() and name != "text":
                    row[name] = value.encode("utf-8", "replace").decode("utf-8")
            yield row


def load_blocklist(files: tuple[str, ...]) -> Blocklist:
    """The entries of blocklist files together."""
    lines: list[str] = []
    for file in files:
        lines += Path(file).read_text("utf-8-sig", errors="replace").splitlines()
    return Blocklist(lines)


def add_tallies(totals: dict[str, Counter[str]], found: dict[str, dict[str, int]]) -> None:
    """Add one file's counts to the totals."""
    for name, counts in found.items():
        totals.setdefault(name, Counter()).update(counts)
