"""The ingest stage, WARC to committed Parquet with language and decisions, against datatrove's reader and extractor.

    CRAWL2CHAT_MIRROR=FOLDER python benchmarks/ingest.py [--peer-python PYTHON] [--rounds N]

Reads `crawl/trafilatura_eval_781.warc.gz` (781 pages, 68 MB of HTML) below FOLDER in one process. The peer is
datatrove's WarcReader, Trafilatura with datatrove's own options and ParquetWriter, in the interpreter PYTHON: without
language, decisions, digests or checksums, which the stage's time includes. Rates and their ratio are of CPU time,
children included, with everything imported beforehand; walls stand beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FILE = "crawl/trafilatura_eval_781.warc.gz"
PEER = "datatrove: WarcReader + Trafilatura + ParquetWriter"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def timed(call: Callable[[], int]) -> dict[str, float]:
    """What `call` returns as `documents`, with its seconds of wall and CPU."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    documents = call()
    return {"documents": documents, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}


def ours(path: Path, extractor: str) -> int:
    """The stage by its contract, into a new store; the number of documents."""
    from artifacts.store import Store
    from tasks.execution import execute
    from tasks.ingest import STAGE, IngestConfig

    with tempfile.TemporaryDirectory() as folder:
        config = IngestConfig(paths=[str(path)], extractor=extractor)
        return execute(STAGE, config, {}, Store(folder)).artifact.manifest.counts.kept or 0


def peer(path: Path) -> int:
    """datatrove's steps, each reading the one before; the number of documents."""
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers import ParquetWriter

    with tempfile.TemporaryDirectory() as folder:
        # The time-out is of the wall clock: with the default of a second a busy machine would lose pages.
        steps = [WarcReader(str(path.parent), glob_pattern=path.name), Trafilatura(timeout=60), ParquetWriter(folder)]
        documents = None
        for step in steps:
            documents = step(documents)
        return sum(1 for _ in documents)


def peer_main(path: Path) -> None:
    """In the peer's interpreter: imports first, then the time as a line of JSON."""
    from trafilatura import extract

    extract("<html><body><p>Some text to warm up with.</p></body></html>", favor_precision=True)
    say(json.dumps(timed(lambda: peer(path))))


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", default=".venv-bench/bin/python")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer_main(options.peer)
        return
    roots = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep) if part]
    path = next((root / FILE for root in roots if (root / FILE).is_file()), None)
    if path is None:
        say(f"no {FILE} under CRAWL2CHAT_MIRROR: nothing to measure")
        return
    first = timed(lambda: ours(path, "resiliparse"))
    say(
        f"ours, first: {first['documents']:.0f} documents, CPU {first['cpu']:.2f} s with imports and the language model"
    )
    # In turns, and the least of each: a neighbour on the same core moves either by a tenth.
    command = [options.peer_python, __file__, "--peer", str(path)]
    taken: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(options.rounds):
        taken[0].append(timed(lambda: ours(path, "resiliparse")))
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            say(f"datatrove cannot be run by {options.peer_python}: {done.stderr.strip().splitlines()[-1:]}")
        else:
            taken[1].append(json.loads(done.stdout.strip().splitlines()[-1]))
    best, *rest = [min(runs, key=lambda took: took["cpu"]) for runs in taken if runs]
    report("ours", best)
    for theirs in rest:
        report(PEER, theirs)
        core = theirs["cpu"] / best["cpu"]
        kept = core * best["documents"] / theirs["documents"]
        say(
            f"ratio per core (CPU): {kept:.1f} a document kept, {core:.1f} a page read; "
            f"of walls {theirs['wall'] / best['wall']:.1f}; load {os.getloadavg()[0]:.1f}"
        )


def report(name: str, took: dict[str, float]) -> None:
    """One line: documents a second of CPU time."""
    say(
        f"{name}: {took['documents']:.0f} documents, CPU {took['cpu']:.2f} s, wall {took['wall']:.2f} s: "
        f"{took['documents'] / took['cpu']:.0f} a second a core"
    )


if __name__ == "__main__":
    main()
