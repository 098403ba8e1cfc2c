"""What the orchestration costs: `crawl2chat run` against the same stages called as plain functions, in turns.

A crawl is generated, and a pipeline over it (six data stages and a training stage) is built from nothing both ways:

- plain: one process that calls `tasks.execution.execute` stage after stage, with one pool of worker processes. No
  Prefect, no server, no report.
- run: the command line as users start it, with its embedded server and its report.

Both ways have the same number of workers and give the same artifacts, which is checked. Wall time is taken from outside
the process; CPU time is that of the process and all its children.

    python benchmarks/orchestration.py [--repetitions 3] [--documents 4000] [--workers 2]
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ALLOWED_START = 15.0  # seconds
ALLOWED_SHARE = 0.05
FILES = 12


def write_crawl(folder: Path, documents: int) -> None:
    """Pages of invented words, Zipf-distributed, 600 words a page, in WARC files; a tenth of them nearly repeat."""
    from tasks.crawl.crawler import Exchange
    from tasks.crawl.warc import WarcFile

    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    vocabulary = np.array(["".join(draw.choice(letters[:20], size=size)) for size in draw.integers(2, 11, size=20_000)])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    words = np.empty(0, dtype=np.int64)
    for number in range(FILES):
        host = "curated" if number < 2 else "crawl"
        with WarcFile(folder / f"{number:02d}.warc.gz", "2026-01-01T00:00:00Z") as warc:
            for page in range(documents // FILES):
                if page % 10 == 9:
                    words[draw.integers(len(words))] = 0
                else:
                    words = np.minimum(draw.zipf(1.2, size=600), 10_000) - 1 + (10_000 if host == "curated" else 0)
                text = " ".join(f"{line}." for line in map(" ".join, vocabulary[words].reshape(50, 12)))
                body = f"<html><head><title>p</title></head><body><p>{text}</p></body></html>".encode()
                url, request = f"http://{host}{number}.example/{page}", b"GET / HTTP/1.1\r\n\r\n"
                warc.add(Exchange(url, request, head, body, 200, "text/html"))


def write_config(folder: Path, workers: int) -> Path:
    """The pipeline: its parts take about as long as those of the demo do, in proportion."""
    config = {
        "workers": workers,
        "ingest": {"paths": [str(folder / "*.warc.gz")], "languages": []},
        "dedup": {},
        "quality": {"positives": {"urls": ["curated"]}, "alpha": 1.0},
        "decontaminate": {},
        "tokenize": {"vocab_size": 4096},
        "mix": {"weights": {"crawl": 1.0}, "sequence_length": 128, "tokens": 100_000},
        "pretrain": {
            "model": {"layers": 4, "width": 128, "heads": 4, "context": 128},
            "batch_tokens": 4096,
            "launcher": {"threads": workers},
        },
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def call_stages(config: str, place: str, workers: int) -> None:
    """The plain way."""
    from artifacts.store import Artifact, Store
    from flows.config import load_pipeline
    from flows.planning import walk
    from flows.registry import BY_NAME
    from tasks.execution import execute

    pipeline, store = load_pipeline(config, []), Store(place)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:

        def mapped(function: Callable[[Any], Any], items: Sequence[Any], /) -> Iterator[Any]:
            if len(items) <= 1 or workers == 1:
                yield from map(function, items)
                return
            waiting: list[Future[Any]] = []
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()

        def call(name: str, inputs: dict[str, list[Artifact]], force: bool) -> Artifact:
            seed = pipeline.settings.seed
            return execute(BY_NAME[name].stage, pipeline.config(name), inputs, store, seed=seed, mapper=mapped).artifact

        walk(pipeline, store, None, None, call)


@dataclass(frozen=True)
class Measured:
    """Seconds of one build. `start`: until the first stage began; `stages`: inside stages, by name."""

    wall: float
    cpu: float
    start: float
    end: float
    stages: dict[str, float]
    contents: dict[str, str]

    @property
    def beyond(self) -> float:
        return self.wall - self.start


def measure(command: list[str], place: Path, environment: dict[str, str]) -> Measured:
    """Run a command that fills the store `place`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, clock = time.time(), time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wall = time.perf_counter() - clock
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    manifests = [json.loads(path.read_text()) for path in place.glob("*/*/manifest.json")]
    times = {m["stage"]: (_seconds(m["run"]["started"]), _seconds(m["run"]["finished"])) for m in manifests}
    return Measured(
        wall=wall,
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        start=min(start for start, _ in times.values()) - began,
        end=began + wall - max(end for _, end in times.values()),
        stages={name: times[name][1] - times[name][0] for name in sorted(times, key=lambda name: times[name])},
        contents={m["stage"]: m["content"] for m in manifests},
    )


def _seconds(time_stamp: str) -> float:
    return datetime.fromisoformat(time_stamp).timestamp()


def show(name: str, found: Measured) -> None:
    parts = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found.stages.items())
    sys.stdout.write(
        f"{name:5s} wall {found.wall:6.1f} s, CPU {found.cpu:6.1f} s, before the first stage {found.start:4.1f} s, "
        f"after the last {found.end:4.1f} s ({parts})\n"
    )
    sys.stdout.flush()


def compare(pairs: list[tuple[Measured, Measured]]) -> None:
    """Print the figures of the promise: the median of the repetitions."""

    def median(values: list[float]) -> float:
        return float(np.median(values))

    plain = median([one.wall for one, _ in pairs])
    run = median([other.wall for _, other in pairs])
    extra = median([other.wall - one.wall for one, other in pairs])
    cpu = median([other.cpu / one.cpu for one, other in pairs])
    share = median([max(0.0, other.wall - one.wall - ALLOWED_START) / other.wall for one, other in pairs])
    inside = median([other.beyond / one.beyond for one, other in pairs])
    sys.stdout.write(
        f"\nplain {plain:.1f} s, run {run:.1f} s, difference {extra:.1f} s; CPU time ratio {cpu:.3f}\n"
        f"from the first stage to the end of the process: ratio {inside:.3f}\n"
        f"beyond the first {ALLOWED_START:.0f} s: {share:.1%} of the run (allowed: {ALLOWED_SHARE:.0%})\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--documents", type=int, default=4_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plain", nargs=2, metavar=("CONFIG", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        call_stages(*options.plain, options.workers)
        return
    pairs = []
    with tempfile.TemporaryDirectory(prefix="orchestration-") as name:
        folder = Path(name)
        write_crawl(folder, options.documents)
        config = str(write_config(folder, options.workers))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        environment["PREFECT_HOME"] = str(folder / "prefect")
        for number in range(options.repetitions):
            stores = [folder / f"plain-{number}", folder / f"run-{number}"]
            itself = [sys.executable, __file__, "--workers", str(options.workers), "--plain", config]
            ways = [
                [*itself, str(stores[0])],
                [sys.executable, "-m", "flows.cli", "run", config, "--store", str(stores[1])],
            ]
            found = {}
            # Whoever comes second finds the crawl in the page cache: they take turns.
            for way in (0, 1) if number % 2 == 0 else (1, 0):
                found[way] = measure(ways[way], stores[way], environment)
                show(("plain", "run")[way], found[way])
            if found[0].contents != found[1].contents:
                raise SystemExit("the two ways gave different artifacts")
            pairs.append((found[0], found[1]))
    compare(pairs)


if __name__ == "__main__":
    main()
