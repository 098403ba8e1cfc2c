"""Documents scored a second, Parquet in to decisions out, on one core: against fastText's own prediction in one run.

Three ways over the same documents of 2,800 characters and the same model: this project's (reads the Parquet column,
scores, draws and writes the decisions table), `fasttext.predict` over ready lines in one list (no reading, no
normalising, no writing), and datatrove's fastText filter over ready documents (no reading, no writing). Rates are by
CPU time of this process, so that other work on the machine counts little; walls are beside them.

    python benchmarks/quality_scoring.py

Texts are the C4 documents of CRAWL2CHAT_MIRROR, cut to length, if it is set; else generated English.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.reader import InputTable
from artifacts.tables import DECISIONS
from artifacts.writer import TableWriter
from tasks.quality import classifier
from tasks.quality.config import ClassifierConfig, QualityConfig
from tasks.quality.fates import Fates, write_decisions
from tasks.quality.rules import judge
from tasks.quality.scoring import ScoreJob, load_scorer, score_shard
from tasks.quality.units import units_of

CHARACTERS, DOCUMENTS, PEER_DOCUMENTS, ROUNDS = 2_800, 8_192, 1_000, 3


def documents() -> list[str]:
    """Texts of `CHARACTERS` characters, `DOCUMENTS` of them."""
    texts = _mirrored() or _generated()
    joined = "\n".join(texts)
    pieces = [joined[at : at + CHARACTERS] for at in range(0, len(joined) - CHARACTERS, CHARACTERS)]
    draw = random.Random(0)
    # Repeated with their lines in another order: no two are equal.
    while len(pieces) < DOCUMENTS:
        lines = draw.choice(pieces[:300]).split(" ")
        draw.shuffle(lines)
        pieces.append(" ".join(lines))
    return pieces[:DOCUMENTS]


def _mirrored() -> list[str]:
    for folder in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep)):
        path = Path(folder) / "quality/llamafactory_c4_demo.jsonl"
        if path.exists():
            return [json.loads(line)["text"] for line in path.read_text("utf8").splitlines()]
    return []


def _generated() -> list[str]:
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvb"))
    vocabulary = ["".join(draw.choice(letters, size=size)) for size in draw.integers(2, 11, size=20_000)]
    numbers = np.minimum(draw.zipf(1.2, size=(1_000, 400)), len(vocabulary)) - 1
    return [" ".join(vocabulary[n] for n in row).capitalize() + "." for row in numbers.tolist()]


def model(folder: Path, texts: list[str]) -> Path:
    """A model of the default size, trained on the texts with labels by their number."""
    lines = [f"{(classifier.CURATED, classifier.CRAWL)[n % 2]} {classifier.line_of(t)}" for n, t in enumerate(texts)]
    target = folder / "classifier.bin"
    classifier.train(lines, ClassifierConfig(epochs=2), 0, folder / "work", target)
    return target


def measure(name: str, count: int, work: Callable[[], object]) -> float:
    """Print and return documents a second of CPU time: the best of some rounds."""
    best_cpu = best_wall = float("inf")
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        best_cpu = min(best_cpu, time.process_time() - cpu)
        best_wall = min(best_wall, time.perf_counter() - wall)
    sys.stdout.write(f"{name}: {count / best_cpu:,.0f} documents/s of CPU time ({count / best_wall:,.0f} of wall)\n")
    sys.stdout.flush()
    return count / best_cpu


def main() -> None:
    """Print rates and ratios."""
    texts = documents()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = model(folder, texts[:600])
        ids = [f"{number:032x}" for number in range(len(texts))]
        file = folder / "part.parquet"
        pq.write_table(pa.table({"doc_id": ids, "text": texts}), file, compression="zstd", row_group_size=8_192)
        table, config = InputTable([file]), QualityConfig()

        def ours() -> None:
            doc_ids = table.read(["doc_id"]).column("doc_id").to_pylist()
            scores = np.concatenate([score_shard(ScoreJob(shard, str(path))) for shard in table.shards(8_192)])
            fates = Fates(doc_ids, np.zeros(len(doc_ids), dtype=np.bool_))
            fates.decide(judge(config, doc_ids, scores, 0), scores)
            writer = TableWriter(folder / f"out{time.perf_counter_ns()}", "decisions", DECISIONS, "quality")
            write_decisions(writer, fates)
            writer.close()

        ours()  # compiles, and loads the model
        whole = measure("ours, Parquet in to decisions out", len(texts), ours)
        array = pa.array(texts)
        units = units_of(array)
        measure("  of it: units of the texts", len(texts), lambda: units_of(array))
        measure("  of it: the model over the units", len(texts), lambda: load_scorer(str(path))(units))
        _peers(path, texts[:PEER_DOCUMENTS], whole)


def _peers(path: Path, texts: list[str], ours: float) -> None:
    import fasttext

    peer = fasttext.load_model(str(path))
    lines = [classifier.line_of(text) for text in texts]
    rate = measure("fasttext.predict over ready lines", len(texts), lambda: peer.predict(lines, k=2))
    sys.stdout.write(f"ratio to fasttext.predict: {ours / rate:.2f}\n")
    try:
        from datatrove.data import Document
        from datatrove.pipeline.filters import FastTextClassifierFilter

        keeper = FastTextClassifierFilter(str(path), keep_labels=("curated", 0.5))
        given = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        keeper.filter(given[0])
    except ImportError as error:
        sys.stdout.write(f"datatrove's filter does not run here: {error}\n")
        return
    rate = measure("datatrove's fastText filter", len(texts), lambda: [keeper.filter(one) for one in given])
    sys.stdout.write(f"ratio to datatrove: {ours / rate:.2f}\n")


if __name__ == "__main__":
    main()
