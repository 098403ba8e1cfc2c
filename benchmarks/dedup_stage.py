"""The dedup stage, Parquet in to committed artifact: at scale, against datatrove, and against an index.

    python benchmarks/dedup_stage.py                         # everything, small
    python benchmarks/dedup_stage.py million --documents 1000000 --work FOLDER
    python benchmarks/dedup_stage.py peer | news | index

`million` plants copies of known similarity and counts what is found, against 1 − (1 − s^8)^14, and recomputes a sample
of the dropped documents' similarities with Python's sets. `peer` runs datatrove's four minhash steps on documents
whose words are as frequent as a language's (--peer-python: an interpreter that has datatrove), which is fairer to its
tokenizer, as it remembers words. `news` needs CRAWL2CHAT_MIRROR.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup.data import SHINGLE, SIMILARITIES, Plan, documents_table, put, row_of
from dedup.measure import measured

from artifacts.store import Artifact, Store
from flows.runner import end_workers, shard_map
from tasks.dedup import STAGE, DedupConfig
from tasks.dedup.minhash import candidate_probability
from tasks.execution import as_inputs, check_contents, execute

# One large cluster of a small corpus is no accident here.
CONFIG = DedupConfig(max_cluster_share=1.0)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def million(folder: Path, documents: int, words: int, workers: int) -> None:
    """(a) Time, memory, recall and precision on planted duplicates."""
    plan, store = Plan.make(documents, words), Store(folder / "million")
    given = put(store, f"{documents}x{words}", plan.tables())
    say(f"{documents:,} documents of {words} words, {size_of(given, 'data') / 2**20:,.0f} MiB of Parquet")
    with measured() as cost:
        made = execute(
            STAGE, CONFIG, as_inputs({"documents": given}), store, mapper=shard_map("processes", workers), force=True
        )
        end_workers()
    found = made.artifact.manifest.metrics
    say(
        f"{cost.wall:.1f} s of wall, {cost.cpu:.1f} s of CPU, {workers} workers; peak of the process tree: RSS "
        f"{cost.rss:,} MiB, PSS {cost.pss:,} MiB, of it anonymous {cost.anonymous:,} MiB; load {cost.load[0]:.1f} to "
        f"{cost.load[1]:.1f}"
    )
    sizes = {name: entry.bytes / 2**20 for name, entry in made.artifact.manifest.files.items()}
    own = sum(size for name, size in sizes.items() if name.startswith("index/"))
    say(f"artifact: {sum(sizes.values()):,.0f} MiB, of it the index {own:,.0f} MiB")
    names = ("exact_duplicates", "near_duplicates", "candidate_pairs", "clusters", "cut_buckets")
    say(", ".join(f"{name} {found[name]:,}" for name in names))
    check_recall(plan, made.artifact)
    check_precision(plan, made.artifact)


def size_of(artifact: Artifact, table: str) -> int:
    return sum(path.stat().st_size for path in artifact.files(table))


def check_recall(plan: Plan, artifact: Artifact) -> None:
    """Planted pairs that became candidates, by similarity, against the closed form."""
    compared = set()
    for path in artifact.files("pairs"):
        table = pq.read_table(path, columns=["doc_a", "doc_b"])
        compared |= {
            frozenset((row_of(a), row_of(b)))
            for a, b in zip(table["doc_a"].to_pylist(), table["doc_b"].to_pylist(), strict=True)
        }
    copies = np.flatnonzero(plan.similarity >= 0)
    original = {int(plan.base[row]): int(row) for row in np.flatnonzero((plan.replaced == 0) & (plan.similarity < 0))}
    hits = Counter(
        int(plan.similarity[row])
        for row in copies.tolist()
        if frozenset((row, original[int(plan.base[row])])) in compared
    )
    say("similarity | planted | found | share | expected | standard error | deviation")
    for place in range(len(SIMILARITIES)):
        rows = copies[plan.similarity[copies] == place]
        s = float(plan.jaccard(plan.replaced[rows[:1]])[0])
        p = candidate_probability(s, CONFIG.bands, CONFIG.rows)
        error = (p * (1 - p) / len(rows)) ** 0.5
        share = hits[place] / len(rows)
        say(
            f"{s:.4f} | {len(rows):,} | {hits[place]:,} | {share:.4f} | {p:.4f} | {error:.4f} | "
            f"{(share - p) / error if error > 1e-9 else 0:+.2f}"
        )


def check_precision(plan: Plan, artifact: Artifact, sample: int = 2_000) -> None:
    """Every dropped document against its survivor: the same base and a planted similarity of .8; and a sample of them
    compared as sets of word 5-grams, in plain Python."""
    names = ["doc_id", "kept", "score", "detail"]
    decided = pa.concat_tables(pq.read_table(path, columns=names) for path in artifact.files("decisions"))
    kept = decided["kept"].to_numpy()
    dropped = decided.filter(pa.array(~kept))
    rows = np.array([row_of(name) for name in dropped["doc_id"].to_pylist()], dtype=np.int64)
    survivors = np.array([row_of(name) for name in dropped["detail"].to_pylist()], dtype=np.int64)
    known = plan.jaccard(np.maximum(plan.replaced[rows], plan.replaced[survivors]))
    unlike = int(((plan.base[rows] != plan.base[survivors]) | (known < CONFIG.threshold)).sum())
    say(f"dropped: {len(rows):,}, of them not planted, or planted below {CONFIG.threshold}: {unlike}; survivors that "
        f"were dropped themselves: {int((~kept[survivors]).sum())}")  # fmt: skip
    wrong = 0
    for place in random.Random(1).sample(range(len(rows)), min(sample, len(rows))):
        a, b = (text_shingles(text) for text in plan.texts(np.array([rows[place], survivors[place]])).to_pylist())
        exact = len(a & b) / len(a | b)
        wrong += exact < CONFIG.threshold or abs(exact - dropped["score"][place].as_py()) > 1e-12
    say(f"of {min(sample, len(rows)):,} dropped ones compared as Python sets, wrong: {wrong}")
    same = np.bincount(plan.base[kept & (plan.replaced == 0)], minlength=len(plan.base))
    say(f"texts that were kept twice: {int((same > 1).sum())}")


def text_shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def peer(folder: Path, documents: int, words: int, python: str) -> None:
    """(b) Against datatrove's four steps, one process each, CPU against CPU."""
    plan, store = Plan.make(documents, words, zipf=True), Store(folder / "peer")
    warm = put(store, "warm", Plan.make(500, words, zipf=True).tables())
    execute(STAGE, CONFIG, as_inputs({"documents": warm}), store, force=True)  # imports are not counted
    given = put(store, f"{documents}x{words}", plan.tables())
    with measured() as cost:
        made = execute(STAGE, CONFIG, as_inputs({"documents": given}), store, force=True)
    dropped = documents - made.artifact.manifest.counts.kept
    say(
        f"ours: {documents:,} documents, {cost.wall:.2f} s of wall, {cost.cpu:.2f} s of CPU, one process and its "
        f"threads; {dropped:,} dropped"
    )
    out = tempfile.mkdtemp(dir=folder)
    command = [python, str(Path(__file__).parent / "dedup/peer.py"), str(given.local() / "data"), out]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        say(f"datatrove cannot be run by {python}: {done.stderr.strip().splitlines()[-1:]}")
        return
    took = json.loads(done.stdout.strip().splitlines()[-1])
    for name, step in took.items():
        say(f"datatrove {name}: {step['wall']:.2f} s of wall, {step['cpu']:.2f} s of CPU")
    wall, cpu = (sum(step[kind] for step in took.values()) for kind in ("wall", "cpu"))
    kept = sum(pq.read_metadata(path).num_rows for path in Path(out, "kept").glob("*.parquet"))
    say(f"datatrove: {wall:.2f} s of wall, {cpu:.2f} s of CPU, {documents - kept:,} dropped")
    say(f"ratio per core (CPU): {cpu / cost.cpu:.1f}; of walls: {wall / cost.wall:.1f}; load {os.getloadavg()[0]:.1f}")


def index(folder: Path, sizes: tuple[int, ...], new: int, words: int) -> None:
    """(c) A new crawl against an index of N documents. A tenth of it are copies of what is there."""
    for size in sizes:
        store = Store(folder / f"index-{size}")
        plan = Plan.make(size, words)
        given = put(store, str(size), plan.tables())
        there = execute(STAGE, CONFIG, as_inputs({"documents": given}), store).artifact
        draw = np.random.default_rng(7)
        old = draw.choice(size, new // 10, replace=False)
        fresh = Plan.make(new, words, seed=2)
        texts = [plan.texts(old), fresh.texts(np.arange(len(old), new))]
        # Numbers beyond any of the plans: other words.
        texts[1] = pa.compute.replace_substring(texts[1], " ", "q ")
        crawl = put(store, "new", iter([documents_table(np.arange(new), pa.concat_arrays(texts), prefix=1)]))
        inputs = as_inputs({"documents": crawl, "against": there})
        start = time.perf_counter(), time.process_time()
        check_contents(inputs)  # the contract's hashing of the inputs; within a process each file is hashed once
        hashing = time.perf_counter() - start[0], time.process_time() - start[1]
        times = []
        for _ in range(3):
            start = time.perf_counter(), time.process_time()
            made = execute(STAGE, CONFIG, inputs, store, force=True)
            times.append((time.process_time() - start[1], time.perf_counter() - start[0]))
        cpu, wall = min(times)
        say(f"{new:,} new documents against {size:,}: {wall:.2f} s of wall, {cpu:.2f} s of CPU (least of three), "
            f"{made.artifact.manifest.counts.dropped:,} dropped, of which {len(old):,} planted copies of earlier ones; "
            f"hashing the inputs before it {hashing[0]:.2f} s of wall, {hashing[1]:.2f} s of CPU")  # fmt: skip


def news(folder: Path) -> None:
    """(d) The labelled pairs of the news articles."""
    for root in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep)):
        for size in (100, 1000):
            base = Path(root) / f"neardup/minhash_articles/articles_{size}"
            if not base.with_suffix(".train").exists():
                continue
            lines = [line.split(" ", 1) for line in base.with_suffix(".train").read_text("utf8").splitlines()]
            truth = {frozenset(line.split()) for line in base.with_suffix(".truth").read_text().splitlines() if line}
            table = documents_table(np.arange(len(lines)), pa.array([text for _, text in lines]))
            table = table.set_column(0, "doc_id", pa.array([name for name, _ in lines]))
            store = Store(folder / "news")
            made = execute(
                STAGE, CONFIG, as_inputs({"documents": put(store, str(size), iter([table]))}), store
            ).artifact
            pairs = pa.concat_tables(pq.read_table(path) for path in made.files("pairs"))
            accepted = pairs.filter(pairs["accepted"])
            found = {
                frozenset(pair) for pair in zip(*(accepted[c].to_pylist() for c in ("doc_a", "doc_b")), strict=True)
            }
            say(f"{size} news articles: {len(truth)} labelled pairs, {len(found & truth)} found, {len(found - truth)} "
                f"others; {made.manifest.counts.dropped} dropped")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="*", default=["news", "million", "peer", "index"])
    parser.add_argument("--documents", type=int, default=100_000, help="of `million`")
    parser.add_argument("--words", type=int, default=400, help="a document (seven characters each)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer-documents", type=int, default=3_000)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--new", type=int, default=5_000)
    parser.add_argument("--index-words", type=int, default=100)
    parser.add_argument("--work", type=Path, help="where to build (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.work) as name:
        folder = Path(name)
        for what in given.what:
            say(f"== {what}")
            if what == "million":
                million(folder, given.documents, given.words, given.workers)
            elif what == "peer":
                peer(folder, given.peer_documents, given.words, given.peer_python)
            elif what == "index":
                index(folder, tuple(given.sizes), given.new, given.index_words)
            else:
                news(folder)


if __name__ == "__main__":
    main()
