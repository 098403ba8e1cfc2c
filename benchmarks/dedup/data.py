"""Documents with planted duplicates of known Jaccard similarity, as functions of their numbers: any part can be made
again without the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.execution import execute
from tasks.stage import Stage, StageConfig, StageContext, Summary

SHINGLE = 5
VOCABULARY = 50_000
ROWS_A_BATCH = 8_192
# Similarities that are planted, one pair a cluster; and how many copies of one page make a large cluster.
SIMILARITIES = (0.5, 0.6, 0.65, 0.7, 0.75, 0.78, 0.8, 0.82, 0.85, 0.9, 0.95, 0.98)
LARGE_CLUSTER = 500

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Row by row: the `base` whose words it has, but for the last `replaced` ones.

    Attributes:
        words: of every document.
        similarity: of a planted copy the place in `SIMILARITIES`, −1 for others.
        zipf: words are as frequent as in a language (the k-th with a probability of some 1/k), so that shingles may
            meet by chance and a tokenizer that remembers words gains by it; otherwise all are equally frequent, and
            the planted similarities exact.
    """

    words: int
    base: Ints
    replaced: Ints
    similarity: Ints
    zipf: bool = False

    @staticmethod
    def make(documents: int, words: int, seed: int = 1, zipf: bool = False) -> Plan:
        """12% near-copies in equal shares of `SIMILARITIES`, 2% exact ones, 1% in large clusters; rows in random
        order, so that copies lie anywhere."""
        near, exact, large = documents * 12 // 100, documents // 50, documents // 100
        single = documents - near - exact - large
        base = np.arange(documents)
        replaced = np.zeros(documents, dtype=np.int64)
        similarity = np.full(documents, -1)
        draw = np.random.default_rng(seed)
        chosen = draw.permutation(single)[: near + exact]
        base[single : single + near + exact] = chosen
        similarity[single : single + near] = np.arange(near) % len(SIMILARITIES)
        shingles = words - SHINGLE + 1
        tails = np.array([round(shingles * (1 - s) / (1 + s)) for s in SIMILARITIES])
        replaced[single : single + near] = tails[similarity[single : single + near]]
        first_large = single + near + exact
        base[first_large:] = first_large + (np.arange(large) // LARGE_CLUSTER) * LARGE_CLUSTER
        replaced[first_large:] = np.arange(large) % LARGE_CLUSTER % (words // 40)
        order = draw.permutation(documents)
        return Plan(words, base[order], replaced[order], similarity[order], zipf)

    def jaccard(self, replaced: Ints | int) -> NDArray[np.float64]:
        """The exact similarity of a document and its copy with so many words replaced at the end."""
        shingles = self.words - SHINGLE + 1
        found: NDArray[np.float64] = np.asarray((shingles - replaced) / (shingles + replaced), dtype=np.float64)
        return found

    def texts(self, rows: Ints) -> pa.Array:
        """The texts of some rows."""
        place = np.arange(self.words, dtype=np.uint64)[None, :]
        own = place >= (self.words - self.replaced[rows]).astype(np.uint64)[:, None]
        owner = np.where(own, (rows + len(self.base))[:, None], self.base[rows][:, None]).astype(np.uint64)
        drawn = _mixed(owner * np.uint64(1 << 20) + place)
        if self.zipf:
            numbers = (VOCABULARY ** (drawn / 2.0**64)).astype(np.int64) - 1
        else:
            numbers = (drawn % np.uint64(VOCABULARY)).astype(np.int64)
        words = _vocabulary().take(pa.array(numbers.reshape(-1).astype(np.int32)))
        lists = pa.ListArray.from_arrays(pa.array(np.arange(len(rows) + 1, dtype=np.int32) * self.words), words)
        return pc.binary_join(lists, " ")

    def tables(self) -> Iterator[pa.Table]:
        """All documents, some at a time."""
        for start in range(0, len(self.base), ROWS_A_BATCH):
            rows = np.arange(start, min(start + ROWS_A_BATCH, len(self.base)))
            yield documents_table(rows, self.texts(rows))


def doc_id(row: int, prefix: int = 0) -> str:
    """32 hex digits that look drawn at random; the last sixteen are the row."""
    return f"{int(_mixed(np.array([row + (prefix << 40)], dtype=np.uint64))[0]):016x}{row + (prefix << 40):016x}"


def row_of(name: str) -> int:
    return int(name[16:32], 16)


def documents_table(rows: Ints, texts: pa.Array, prefix: int = 0) -> pa.Table:
    count = len(rows)
    return pa.table(
        {
            "doc_id": [doc_id(row, prefix) for row in rows.tolist()],
            "url": [f"http://{row % 997}.example/{row}" for row in rows.tolist()],
            "date": pa.repeat("2026-01-01T00:00:00Z", count),
            "source": pa.repeat("crawl", count),
            "lang": pa.repeat("en", count),
            "lang_score": np.ones(count),
            "text": texts,
            "warc_file": pa.repeat("made.warc.gz", count),
            "warc_offset": rows,
            "content_type": pa.repeat("text/html", count),
            "charset": pa.repeat("utf-8", count),
        },
        schema=DOCUMENTS.schema,
    )


class _Made(StageConfig):
    name: str


def put(store: Store, name: str, tables: Iterator[pa.Table]) -> Artifact:
    """Commit tables of documents as an artifact."""

    def run(context: StageContext) -> Summary:
        for table in tables:
            context.writer("data").write(table)
        rows = context.writer("data").rows
        return Summary(rows_in=rows, kept=rows, dropped=0, failed=0)

    return execute(Stage("made", 1, _Made, {}, {"data": DOCUMENTS}, run), _Made(name=name), {}, store).artifact


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    values = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _vocabulary() -> pa.Array:
    """Distinct invented words of 3 to 9 letters, six on the average."""
    if not _words:
        draw = np.random.default_rng(0)
        letters = np.array(list("etaoinshrdlucmfwypvbgk"))
        found: dict[str, None] = {}
        while len(found) < VOCABULARY:
            found["".join(draw.choice(letters, size=int(draw.integers(3, 10))))] = None
        _words.append(pa.array(list(found)))
    return _words[0]


_words: list[pa.Array] = []
