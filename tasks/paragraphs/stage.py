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
from tasks.paragraphs.account import Account, where_they_stand
from tasks.paragraphs.config import ParagraphsConfig
from tasks.paragraphs.repeats import Marks, Partitions, RepeatTask, commonest, find_repeats
from tasks.paragraphs.units import Hashes, Ints, find_units, hash_units, without
from tasks.stage import Stage, StageContext, Summary
from tasks.text.changed import decisions_on, with_texts

CUT, REPEATED, SHORT = "paragraphs_cut", "all_repeated", "too_short_after"


def run(context: StageContext) -> Summary:
    """Write the documents without the units that others have, and a decision a document."""
    config: ParagraphsConfig = context.config
    documents = context.input("documents")
    rows = documents.read(["doc_id", "source", "warc_file", "warc_offset"])
    place = survivor_place(rows, config.prefer, config.exempt)
    del rows
    with Partitions(context.work / "paragraphs", documents.rows) as partitions:
        counts, compared = _hash(context, documents, partitions)
        first = np.concatenate([[0], np.cumsum(counts)])
        with Marks(context.work / "paragraphs" / "cut", partitions.units) as marks:
            figures, most = _mark(context, partitions, marks, place, first)
            changed = _write(context, documents, marks, first)
    shown = {"most_repeated": where_they_stand(documents, most, first, config.unit)}
    whole = {"documents": documents.rows, "units": int(first[-1])}
    return Summary(metrics={**whole, **compared, **figures, **changed, **shown})


def survivor_place(rows: pa.Table, prefer: Sequence[str], exempt: Sequence[str]) -> Ints:
    """Each row's place in the order of survivors: source as in `prefer`, then doc_id. Rows of one doc_id (a record that
    was read twice) follow by source, WARC file and offset. Those of exempt sources come before all others, below 0."""
    wanted = pc.fill_null(pc.index_in(rows.column("source"), value_set=pa.array(prefer, pa.string())), len(prefer))
    keys = [(name, "ascending") for name in ("wanted", "doc_id", "source", "warc_file", "warc_offset")]
    order = pc.sort_indices(rows.append_column("wanted", wanted), sort_keys=keys).to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    never_cut = pc.is_in(rows.column("source"), value_set=pa.array(exempt, pa.string())).to_numpy()
    return np.where(never_cut, place - len(place), place)


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


def _mark(
    context: StageContext, partitions: Partitions, marks: Marks, place: Ints, first: Ints
) -> tuple[dict[str, int], Ints]:
    """Marks what is cut; figures, and the rows of the units repeated most (`Repeats`)."""
    files = [context.work / "paragraphs" / name for name in ("place.npy", "first.npy")]
    for path, values in zip(files, (place, first[:-1]), strict=True):
        np.save(path, values)
    least, within = context.config.min_occurrences, context.config.within
    tasks = [RepeatTask(str(path), str(files[0]), str(files[1]), least, within) for path in partitions.paths]
    figures = {"units_distinct": 0, "units_repeated": 0, "most_occurrences": 0, "units_exempt": 0, "units_cut": 0}
    most = np.empty((0, 4), dtype=np.int64)
    for found in context.map_with_progress(find_repeats, tasks, "finding repeats"):
        marks.set(found.cut)
        figures["units_distinct"] += found.distinct
        figures["units_repeated"] += found.repeated
        figures["most_occurrences"] = max(figures["most_occurrences"], found.most)
        figures["units_exempt"] += found.exempt
        figures["units_cut"] += len(found.cut)
        most = commonest(np.concatenate([most, found.commonest]))
    for path in files:
        path.unlink()
    return figures, most


@dataclass(frozen=True)
class CutTask:
    shard: Shard
    unit: str
    cut: NDArray[np.bool_]  # one a unit of the shard


@dataclass(frozen=True)
class Cut:
    """What a shard's N documents lost.

    Attributes:
        rows: those that lost something, within the shard, ascending; `texts` are their new texts.
        characters, lost, units, cut: (N,) each: characters before and those lost, units and those cut.
    """

    rows: Ints
    texts: pa.Table
    characters: Ints
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
    characters = pc.fill_null(pc.utf8_length(texts), 0).to_numpy().astype(np.int64)
    return Cut(rows, pa.table({"text": shortened.take(rows)}), characters, lost, units.counts, cut)


def _write(context: StageContext, documents: InputTable, marks: Marks, first: Ints) -> dict[str, Any]:
    config: ParagraphsConfig = context.config
    shards = documents.shards()
    tasks = _CutTasks(shards, config.unit, marks, first)
    account = Account()
    context.writer("data").write(documents.schema.empty_table())
    for shard, cut in zip(shards, context.map_with_progress(cut_shard, tasks, f"cutting {config.unit}s"), strict=True):
        whole = shard.read()
        dropped = (cut.cut > 0) & (cut.characters - cut.lost < config.min_remaining)
        changed = with_texts(whole, cut.rows, cut.texts.column("text"))
        context.writer("data").write(changed.filter(pa.array(~dropped)))
        context.writer("decisions").write(_decisions(whole.column("doc_id"), cut, dropped, config))
        account.add(
            whole.column("source"),
            documents_cut=(cut.cut > 0) & ~dropped,
            documents_dropped=dropped,
            units=cut.units,
            units_cut=cut.cut,
            characters=cut.characters,
            characters_removed=np.where(dropped, cut.characters, cut.lost),
        )
    sources = account.sources()
    names = ("documents_cut", "documents_dropped", "characters_removed")
    return {**{name: sum(row[name] for row in sources.values()) for name in names}, "sources": sources}


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


def _decisions(doc_id: pa.ChunkedArray, cut: Cut, dropped: NDArray[np.bool_], config: ParagraphsConfig) -> pa.Table:
    """Score: the share of the document's characters that was cut; threshold: what a dropped one should have kept."""
    rows = cut.rows
    gone, units, left = cut.cut[rows], cut.units[rows], cut.characters[rows] - cut.lost[rows]
    short, all_cut = dropped[rows], gone == units
    counts = zip(gone.tolist(), units.tolist(), left.tolist(), strict=True)
    return decisions_on(
        doc_id,
        rows,
        kept=~short,
        reason=np.where(short, np.where(all_cut, REPEATED, SHORT), CUT),
        score=cut.lost[rows] / cut.characters[rows],
        threshold=[float(config.min_remaining) if missed else None for missed in (short & ~all_cut).tolist()],
        detail=[f"{n} of {of} {config.unit}s cut, {rest} characters left" for n, of, rest in counts],
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
