"""The artifact: survivors with their signatures, decisions, compared pairs, and the index for later crawls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.reader import InputTable
from artifacts.tables import DECISIONS, PAIRS
from tasks.dedup.clusters import Pairs
from tasks.dedup.config import DedupConfig
from tasks.dedup.corpus import ROWS_A_SHARD, Corpus, Ints, halves_hex, strings
from tasks.dedup.index import FOLDER, ArrayFile, TextWriter
from tasks.dedup.join import Candidates, Twins
from tasks.dedup.outcome import Naming, Outcome
from tasks.dedup.spill import ROWS_A_CHUNK, Records, Scratch, Spill, first_of_runs, sorted_parts
from tasks.stage import StageContext

EXACT, NEAR = "exact_duplicate", "near_duplicate"

WAITING = 3  # portions that a thread may be behind

PAIR = np.dtype([("key", "<u8"), ("first", "<i8"), ("second", "<i8"), ("jaccard", "<f8")])


def write_documents(context: StageContext, documents: InputTable, corpus: Corpus, outcome: Outcome, n: Naming) -> None:
    """The survivors, their signatures, and a decision a row, all in input order; and the texts of the index."""
    config: DedupConfig = context.config
    writer = {name: context.writer(name).write for name in ("data", "decisions", "signatures")}
    first = 0
    writer["data"](documents.schema.empty_table())
    with ExitStack() as stack:
        # Most of the time is zstd's, which lets other threads run; each file is written by one of them, in order.
        beside = [stack.enter_context(_Beside()) for _ in range(2 if config.index else 1)]
        if config.index:
            texts = TextWriter(context.path(f"{FOLDER}/x").parent, int(outcome.kept.sum()))
            append = stack.enter_context(texts).append
        for batch in documents.batches(rows=ROWS_A_SHARD):
            part = slice(first, first + batch.num_rows)
            survivors = batch.filter(pa.array(outcome.kept[part]))
            beside[0](writer["signatures"], _signatures(survivors.column("doc_id"), corpus, outcome, part))
            beside[0](writer["decisions"], _decisions(batch.column("doc_id"), config, outcome, part, n))
            if config.index:
                beside[1](append, survivors.column("text"))
            writer["data"](survivors)
            first = part.stop
            context.progress(first, corpus.rows, "writing survivors")
        for thread in beside:
            thread.wait()


class _Beside:
    """A thread that makes calls one after the other, while a few of them wait."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, function: Callable[[Any], None], value: Any) -> None:
        self._waiting.append(self._thread.submit(function, value))
        while len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Wait for all calls. Raises what one of them raised."""
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> _Beside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)


def _decisions(doc_id: pa.ChunkedArray, config: DedupConfig, outcome: Outcome, part: slice, n: Naming) -> pa.Table:
    kept, exact, score = outcome.kept[part], outcome.exact[part], outcome.score[part]
    count = len(kept)
    return pa.table(
        {
            "doc_id": doc_id,
            "kept": kept,
            "failed": np.zeros(count, dtype=np.bool_),
            "reason": pa.array(np.where(exact, EXACT, NEAR), pa.string(), mask=kept),
            "score": pa.array(score, pa.float64(), mask=np.isnan(score)),
            "threshold": pa.array(np.where(exact, 1.0, config.threshold), pa.float64(), mask=np.isnan(score)),
            "draw": pa.nulls(count, pa.float64()),
            "detail": n.details(outcome.detail[part]),
            "url": pa.nulls(count, pa.string()),
        },
        schema=DECISIONS.schema,
    )


def _signatures(doc_id: pa.ChunkedArray, corpus: Corpus, outcome: Outcome, part: slice) -> pa.Table:
    kept = outcome.kept[part]
    values = corpus.signatures.read(part.start, part.stop)[kept]
    hashes = corpus.texts.read(part.start, part.stop)[kept]
    return pa.table(
        {
            "doc_id": doc_id,
            "signature": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1]),
            "text_hash": halves_hex(hashes["key"], hashes["low"]),
            "shingles": pa.array(corpus.origin["shingles"][part][kept]),
        }
    )


def pair_records(pairs: Pairs, numbers: Ints, naming: Naming) -> Records:
    """Compared pairs as they are spilled: by the smaller doc_id's first eight bytes.

    Args:
        numbers: of the documents behind the nodes.
    """
    first, second = numbers[pairs.first], numbers[pairs.second]
    a, b = naming.ids(first), naming.ids(second)
    swapped = a > b
    records = np.empty(len(first), dtype=PAIR)
    smaller = np.ascontiguousarray(np.where(swapped, b, a)).astype("S8")
    records["key"] = smaller.view(">u8").astype(np.uint64)
    records["first"], records["second"] = np.where(swapped, second, first), np.where(swapped, first, second)
    records["jaccard"] = pairs.jaccard
    return records


def write_pairs(context: StageContext, pairs: Spill, naming: Naming, scratch: Scratch) -> None:
    """Every compared pair, by `doc_a` and `doc_b`."""
    config: DedupConfig = context.config
    for part in sorted_parts(pairs.chunks(), pairs.rows, config.limits.entries, scratch):
        ends = [*np.flatnonzero(first_of_runs(part["key"])).tolist(), len(part)]
        starts = [0]
        for end in ends:  # keys are never torn apart: equal ones are still to be ordered
            if end - starts[-1] >= ROWS_A_CHUNK:
                starts.append(end)
        for start, stop in zip(starts, [*starts[1:], len(part)], strict=True):
            context.writer("pairs").write(_sorted_pairs(part[start:stop], naming, config.threshold))


def _sorted_pairs(records: Records, naming: Naming, threshold: float) -> pa.Table:
    table = pa.table(
        {
            "doc_a": strings(naming.ids(records["first"])),
            "doc_b": strings(naming.ids(records["second"])),
            "jaccard": records["jaccard"],
            "accepted": records["jaccard"] >= threshold,
        },
        schema=PAIRS.schema,
    )
    return table.sort_by([("doc_a", "ascending"), ("doc_b", "ascending"), ("jaccard", "ascending")])


def write_index(
    context: StageContext, corpus: Corpus, twins: Twins, candidates: Candidates, outcome: Outcome, scratch: Scratch
) -> None:
    """The lookup tables of `tasks.dedup.index`: what was joined, without the documents that fell."""
    folder = context.path(f"{FOLDER}/x").parent
    place, survivors = _places(outcome, scratch)
    width = corpus.ids.dtype
    ids = ArrayFile(folder / "doc_ids.npy", width, (survivors,))
    for start in range(0, corpus.rows, ROWS_A_CHUNK):
        part = slice(start, start + ROWS_A_CHUNK)
        ids.append(corpus.ids[part][outcome.kept[part]])
    ids.close()
    names = ("text_keys", "text_lows", "text_rows")
    kinds = (np.uint64, np.uint64, np.uint32 if survivors < 2**32 else np.int64)
    files = [ArrayFile(folder / f"{name}.npy", kind, (survivors,)) for name, kind in zip(names, kinds, strict=True)]
    for texts in _survivors(twins.by_text, outcome):
        for file, values in zip(files, (texts["key"], texts["low"], place[texts["row"]]), strict=True):
            file.append(values)
    for file in files:
        file.close()
    with_words = sum(len(part) for spill in candidates.by_band[:1] for part in _survivors(spill, outcome))
    shape = (len(candidates.by_band), with_words)
    keys = ArrayFile(folder / "band_keys.npy", np.uint64, shape)
    rows = ArrayFile(folder / "band_rows.npy", kinds[2], shape)
    for spill in candidates.by_band:
        for entries in _survivors(spill, outcome):
            keys.append(entries["key"])
            rows.append(place[entries["row"]])
    keys.close()
    rows.close()


def _places(outcome: Outcome, scratch: Scratch) -> tuple[Ints, int]:
    """For each survivor its row in the table that is written, and how many there are."""
    rows = len(outcome.kept)
    place = scratch.column(np.int64, rows)
    count = 0
    for start in range(0, rows, ROWS_A_CHUNK):
        kept = outcome.kept[start : start + ROWS_A_CHUNK]
        place[start : start + ROWS_A_CHUNK] = count + np.cumsum(kept) - 1
        count += int(kept.sum())
    return place, count


def _survivors(spill: Spill, outcome: Outcome) -> Iterator[Records]:
    for chunk in spill.chunks():
        yield chunk[outcome.kept[chunk["row"]]]
