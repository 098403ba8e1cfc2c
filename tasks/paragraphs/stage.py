"""Paragraphs: a line (or paragraph) that many documents repeat word for word stays in one of them.

After CCNet (Wenzek et al. 2020, section 3.1): each unit's normal form is hashed to 64 bits, and repeated ones are cut.
CCNet keeps the first that a shard of the crawl happens to meet; here the occurrence stays that is in the best document
(source as in `prefer`, then the smallest doc_id), so that the outcome is a function of the documents alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.reader import InputTable, Shard
from artifacts.tables import DECISIONS, DOCUMENTS
from tasks.paragraphs.config import ParagraphsConfig
from tasks.paragraphs.repeats import Marks, Partitions, RepeatTask, find_repeats
from tasks.paragraphs.units import Hashes, Ints, find_units, hash_units, without
from tasks.stage import Stage, StageContext, Summary
from tasks.text.changed import decisions_on, with_texts

CUT, REPEATED, SHORT = "paragraphs_cut", "all_repeated", "too_short_after"


def run(context: StageContext) -> Summary:
    """Write the documents without the units that others have, and a decision a document."""
    config: ParagraphsConfig = context.config
    documents = context.input("documents")
    place = survivor_place(documents.read(["doc_id", "source", "warc_file", "warc_offset"]), config.prefer)
    with Partitions(context.work / "paragraphs", documents.rows) as partitions:
        counts, compared = _hash(context, documents, partitions)
        first = np.concatenate([[0], np.cumsum(counts)])
        with Marks(context.work / "paragraphs" / "cut", partitions.units) as marks:
            figures = _mark(context, partitions, marks, place, first)
            changed = _write(context, documents, marks, first)
    return Summary(metrics={"documents": documents.rows, "units": int(first[-1]), **compared, **figures, **changed})


def survivor_place(rows: pa.Table, prefer: Sequence[str]) -> Ints:
    """Each row's place in the order of survivors: source as in `prefer`, then doc_id. Rows of one doc_id (a record that
    was read twice) follow by source, WARC file and offset."""
    wanted = pc.fill_null(pc.index_in(rows.column("source"), value_set=pa.array(prefer, pa.string())), len(prefer))
    keys = [(name, "ascending") for name in ("wanted", "doc_id", "source", "warc_file", "warc_offset")]
    order = pc.sort_indices(rows.append_column("wanted", wanted), sort_keys=keys).to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


@dataclass(frozen=True)
class HashTask:
    shard: Shard
    unit: str
    min_characters: int


def hash_shard(task: HashTask) -> tuple[Ints, Hashes]:
    """Units of each document of a shard, and the hash of each unit."""
    units = find_units(task.shard.read(["text"]).column("text"), task.unit)
    return units.counts, hash_units(units, task.min_characters)


def _hash(context: StageContext, documents: InputTable, partitions: Partitions) -> tuple[Ints, dict[str, int]]:
    config: ParagraphsConfig = context.config
    tasks = [HashTask(shard, config.unit, config.min_characters) for shard in documents.shards()]
    counts, compared = [np.empty(0, np.int64)], 0
    for own, hashes in context.map_with_progress(hash_shard, tasks, f"hashing {config.unit}s"):
        counts.append(own)
        compared += int(np.count_nonzero(hashes))
        partitions.append(hashes)
    partitions.flush()
    return np.concatenate(counts), {"units_compared": compared}


def _mark(context: StageContext, partitions: Partitions, marks: Marks, place: Ints, first: Ints) -> dict[str, int]:
    files = [context.work / "paragraphs" / name for name in ("place.npy", "first.npy")]
    for path, values in zip(files, (place, first[:-1]), strict=True):
        np.save(path, values)
    least = context.config.min_occurrences
    tasks = [RepeatTask(str(path), str(files[0]), str(files[1]), least) for path in partitions.paths]
    figures = {"units_distinct": 0, "units_repeated": 0, "most_occurrences": 0, "units_cut": 0}
    for found in context.map_with_progress(find_repeats, tasks, "finding repeats"):
        marks.set(found.cut)
        figures["units_distinct"] += found.distinct
        figures["units_repeated"] += found.repeated
        figures["most_occurrences"] = max(figures["most_occurrences"], found.most)
        figures["units_cut"] += len(found.cut)
    for path in files:
        path.unlink()
    return figures


@dataclass(frozen=True)
class CutTask:
    shard: Shard
    unit: str
    cut: NDArray[np.bool_]  # one a unit of the shard


@dataclass(frozen=True)
class Cut:
    """The documents of a shard that lost something: rows within the shard, ascending, and for each its new text, its
    characters before, those lost, its units, and those cut."""

    rows: Ints
    texts: pa.Table
    before: Ints
    lost: Ints
    units: Ints
    cut: Ints


def cut_shard(task: CutTask) -> Cut:
    """The documents of a shard without the units to cut."""
    texts = task.shard.read(["text"]).column("text")
    units = find_units(texts, task.unit)
    shortened, lost = without(units, task.cut)
    total = np.concatenate([[0], np.cumsum(task.cut)])
    ends = np.cumsum(units.counts)
    cut = total[ends] - total[ends - units.counts]
    rows = np.flatnonzero(cut)
    before = pc.fill_null(pc.utf8_length(texts), 0).to_numpy()[rows].astype(np.int64)
    return Cut(rows, pa.table({"text": shortened.take(rows)}), before, lost[rows], units.counts[rows], cut[rows])


def _write(context: StageContext, documents: InputTable, marks: Marks, first: Ints) -> dict[str, int]:
    config: ParagraphsConfig = context.config
    shards = documents.shards()
    tasks = _CutTasks(shards, config.unit, marks, first)
    figures = {"documents_cut": 0, "documents_dropped": 0, "characters_removed": 0}
    context.writer("data").write(documents.schema.empty_table())
    for shard, cut in zip(shards, context.map_with_progress(cut_shard, tasks, f"cutting {config.unit}s"), strict=True):
        whole = shard.read()
        left = cut.before - cut.lost
        dropped = left < config.min_remaining
        kept = np.ones(whole.num_rows, dtype=np.bool_)
        kept[cut.rows[dropped]] = False
        changed = with_texts(whole, cut.rows, cut.texts.column("text"))
        context.writer("data").write(changed.filter(pa.array(kept)))
        context.writer("decisions").write(_decisions(whole.column("doc_id"), cut, left, dropped, config))
        figures["documents_cut"] += int((~dropped).sum())
        figures["documents_dropped"] += int(dropped.sum())
        figures["characters_removed"] += int(np.where(dropped, cut.before, cut.lost).sum())
    return figures


@dataclass(frozen=True)
class _CutTasks(Sequence[CutTask]):
    """Made when asked for: the marks of all shards need not be in memory."""

    shards: Sequence[Shard]
    unit: str
    marks: Marks
    first: Ints

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: Any) -> Any:
        shard = self.shards[number]
        begin, end = self.first[shard.first_row], self.first[shard.first_row + shard.rows]
        return CutTask(shard, self.unit, self.marks.between(int(begin), int(end)))


def _decisions(
    doc_id: pa.ChunkedArray, cut: Cut, left: Ints, dropped: NDArray[np.bool_], config: ParagraphsConfig
) -> pa.Table:
    """Score: the share of the document's characters that was cut; threshold: what a dropped one should have kept."""
    all_cut = cut.cut == cut.units
    counts = zip(cut.cut.tolist(), cut.units.tolist(), left.tolist(), strict=True)
    return decisions_on(
        doc_id,
        cut.rows,
        kept=~dropped,
        reason=np.where(dropped, np.where(all_cut, REPEATED, SHORT), CUT),
        score=cut.lost / cut.before,
        threshold=[float(config.min_remaining) if short else None for short in (dropped & ~all_cut).tolist()],
        detail=[f"{n} of {units} {config.unit}s cut, {rest} characters left" for n, units, rest in counts],
    )


STAGE = Stage(
    name="paragraphs",
    version=1,
    config=ParagraphsConfig,
    reads={"documents": DOCUMENTS},
    writes={"data": DOCUMENTS, "decisions": DECISIONS},
    run=run,
    seeded=False,
)
