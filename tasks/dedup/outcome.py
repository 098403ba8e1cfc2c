"""What becomes of each document: survivors, twins, clusters; the figures of it all, and the alarms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.errors import RunError
from tasks.dedup.clusters import Comparison, Group
from tasks.dedup.config import DedupConfig, Limits
from tasks.dedup.corpus import Corpus, Ids, Ints, strings
from tasks.dedup.earlier import Earlier
from tasks.dedup.join import Candidates, Twins
from tasks.dedup.spill import ROWS_A_CHUNK, Scratch, first_of_runs, sorted_parts

_LOSS = np.dtype([("key", "<u8"), ("dropped", "?")])
# Row numbers are small: multiplied by an odd number they differ in their upper bits, by which records are spread.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_GATHER = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))


@dataclass
class Outcome:
    """One entry a row. Documents are numbered as `Earlier` does: rows of this run, then those of earlier crawls.

    Attributes:
        kept: whether it survives.
        exact: whether its text equals that of the document in `detail`.
        score: the similarity to that document; for a survivor to the nearest one it was compared with; else NaN.
        detail: the survivor to which it fell, −1 for a survivor.
        cluster: a document of its cluster, the same for all of one: its own row if it is alone.
    """

    kept: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    score: NDArray[np.float64]
    detail: Ints
    cluster: Ints

    @staticmethod
    def start(rows: int, scratch: Scratch) -> Outcome:
        """All are kept, and alone."""
        outcome = Outcome(
            scratch.column(np.bool_, rows, fill=True),
            scratch.column(np.bool_, rows),
            scratch.column(np.float64, rows, fill=np.nan),
            scratch.column(np.int64, rows, fill=-1),
            scratch.column(np.int64, rows),
        )
        for start in range(0, rows, ROWS_A_CHUNK):
            stop = min(start + ROWS_A_CHUNK, rows)
            outcome.cluster[start:stop] = np.arange(start, stop)
        return outcome

    def enter(self, group: Group, comparison: Comparison, numbers: Ints) -> None:
        """The outcome of a comparison. `numbers` are those of the group's documents."""
        own = np.arange(group.fixed, len(numbers))
        rows = numbers[own]
        self.kept[rows] = comparison.kept[own]
        self.score[rows] = comparison.similarity[own]
        self.detail[rows] = np.where(comparison.kept[own], -1, numbers[comparison.nearest[own]])
        self.cluster[rows] = numbers[comparison.clusters()[own]]

    def enter_twins(self, twins: Twins) -> None:
        """Those that equal an earlier document fall to it. A twin of a survivor falls to it; a twin of a dropped
        document falls to the same survivor, for the same reason."""
        total = len(self.kept)
        for start in range(0, total, ROWS_A_CHUNK):
            rows = np.arange(start, min(start + ROWS_A_CHUNK, total))
            rows = rows[twins.earlier[rows] >= 0]
            self.kept[rows], self.exact[rows], self.score[rows] = False, True, 1.0
            self.detail[rows] = self.cluster[rows] = twins.earlier[rows]
        for start in range(0, total, ROWS_A_CHUNK):
            rows = np.arange(start, min(start + ROWS_A_CHUNK, total))
            rows = rows[twins.first[rows] != rows]
            first = twins.first[rows]
            fallen = ~self.kept[first]
            self.kept[rows] = False
            self.exact[rows] = np.where(fallen, self.exact[first], True)
            self.score[rows] = np.where(fallen, self.score[first], 1.0)
            self.detail[rows] = np.where(fallen, self.detail[first], first)
            self.cluster[rows] = self.cluster[first]


@dataclass
class Account:
    """The figures of an outcome. `worst` is a document of the cluster that loses most; sources are by name."""

    exact: int = 0
    near: int = 0
    clusters: int = 0
    largest_cluster: int = 0
    largest_loss: int = 0
    worst: int = -1
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)  # documents, dropped

    @staticmethod
    def of(outcome: Outcome, corpus: Corpus, limits: Limits, scratch: Scratch) -> Account:
        """Count, in bounded memory."""
        account = Account()
        counts = np.zeros((2, len(corpus.sources)), dtype=np.int64)
        others = scratch.spill(_LOSS)  # those that belong to a cluster named after another document
        for start in range(0, corpus.rows, ROWS_A_CHUNK):
            part = slice(start, min(start + ROWS_A_CHUNK, corpus.rows))
            kept, cluster = outcome.kept[part], outcome.cluster[part]
            account.exact += int((~kept & outcome.exact[part]).sum())
            account.near += int((~kept & ~outcome.exact[part]).sum())
            source = corpus.origin["source"][part]
            counts[0] += np.bincount(source, minlength=len(corpus.sources))
            counts[1] += np.bincount(source[~kept], minlength=len(corpus.sources))
            other = cluster != np.arange(part.start, part.stop)
            losses = np.empty(int(other.sum()), dtype=_LOSS)
            losses["key"], losses["dropped"] = cluster[other].astype(np.uint64) * _SPREAD, ~kept[other]
            others.append(losses)
        for records in sorted_parts(others.chunks(), others.rows, limits.entries, scratch):
            begins = first_of_runs(records["key"])
            group = np.cumsum(begins) - 1
            # With the document after which the cluster is named.
            sizes, lost = np.bincount(group) + 1, np.bincount(group, weights=records["dropped"]).astype(np.int64)
            account.clusters += len(sizes)
            account.largest_cluster = max(account.largest_cluster, int(sizes.max()))
            if lost.max() > account.largest_loss:
                account.largest_loss = int(lost.max())
                account.worst = int((records["key"][begins][[np.argmax(lost)]] * _GATHER)[0])
        if corpus.rows:
            account.largest_cluster = max(account.largest_cluster, 1)
        pairs = zip(corpus.sources, counts.T.tolist(), strict=True)
        account.sources = {name: (documents, dropped) for name, (documents, dropped) in sorted(pairs)}
        return account


def alarms(config: DedupConfig, account: Account, rows: int, naming: Naming) -> list[str]:
    """What looks wrong, a sentence each; empty where nothing does.

    Raises:
        RunError: something does, and the config says to stop.
    """
    found = []
    lost = account.largest_loss
    if lost > config.max_cluster_documents and lost > config.max_cluster_share * rows:
        around = naming.ids(np.array([account.worst]))[0].decode()
        found.append(
            f"one cluster of duplicates, around {around}, would lose {lost} of {rows} documents, more than "
            f"dedup.max_cluster_share = {config.max_cluster_share}. Look at that page (an error page? a broken "
            "extraction?); set dedup.max_cluster_share to 1.0 if it is right"
        )
    for source, (documents, dropped) in account.sources.items():
        if dropped > config.max_source_documents and dropped > config.max_source_share * documents:
            found.append(
                f"the source {source!r} would lose {dropped} of its {documents} documents, more than "
                f"dedup.max_source_share = {config.max_source_share}. Was it read twice, or is it part of another "
                "source? Set dedup.max_source_share to 1.0 if it is right"
            )
    if found and config.alarm == "stop":
        raise RunError("dedup: " + "; ".join(found) + ", or dedup.alarm to report")
    return found


@dataclass(frozen=True)
class Naming:
    """The doc_ids behind the numbers of documents."""

    corpus: Corpus
    earlier: Earlier
    candidates: Candidates

    def numbers(self, nodes: Ints) -> Ints:
        """The numbers of nodes: of earlier candidates, their places in `candidates.earlier` come behind the rows."""
        numbers = nodes.copy()
        old = nodes >= self.corpus.rows
        numbers[old] = self.candidates.earlier[nodes[old] - self.corpus.rows]
        return numbers

    def ids(self, numbers: Ints) -> Ids:
        """doc_ids, in a fixed width."""
        old = numbers >= self.corpus.rows
        own = self.corpus.ids[numbers[~old]]
        if not old.any():
            return own
        theirs = self.earlier.ids(numbers[old])
        found = np.empty(len(numbers), dtype=max(own.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize))
        found[old], found[~old] = theirs, own
        return found

    def details(self, numbers: Ints) -> pa.Array:
        """`DOC_ID` of this run's documents, `DOC_ID dedup@.CONTENT` of earlier ones, null for −1."""
        found = pa.nulls(len(numbers), pa.string())
        named = numbers >= 0
        if named.any():
            found = pc.replace_with_mask(found, pa.array(named), strings(self.ids(numbers[named])))
        old = numbers >= self.corpus.rows
        if old.any():
            names = pa.array(self.earlier.names, pa.string()).take(pa.array(self.earlier.artifact_of(numbers[old])))
            full = pc.binary_join_element_wise(strings(self.earlier.ids(numbers[old])), names, " ")
            found = pc.replace_with_mask(found, pa.array(old), full)
        return found
