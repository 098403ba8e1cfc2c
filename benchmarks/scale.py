"""What each data stage costs by document: CPU, wall clock, disk and memory (docs/scale.md).

    python benchmarks/scale.py [--documents 2000] [--growth 4] [--workers 2] [--runner NAME] [--write docs/scale.md]

Pages are generated (some 2,800 characters of text each; a tenth are near-duplicates, every page has lines that others
have) and go through every data stage three times in this one process: a few to warm up, N, and N times `growth`. What
one document costs is the slope between the last two, so that imports, compilation and the training of classifier and
tokenizer do not count as documents: their samples are as large in both runs. What the classifier's training takes with
the samples that the config has by default is the slope between two samples. `serial` is what happens outside of shards,
which more workers do not make shorter. Then the large run goes once more over `--workers` of `--runner`, for the wall
clock and for the memory of the run and of its largest worker (PSS: shared pages are shared out among the processes).
`--workers 0` leaves that out.

With CRAWL2CHAT_MIRROR, ingest also reads the real pages of `trafilatura_eval_781.warc.gz`, and the projection takes its
cost from them. `--write` puts the tables between the markers of a page.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from artifacts.store import Artifact, Store
from flows.registry import BY_NAME
from flows.runner import end_workers, shard_map
from tasks.execution import as_inputs, execute

MIB = 2**20
EVERY_SECONDS = 0.25
SEGMENTS, SEGMENT_PAGES = 100, 27_000_000  # of a crawl of 2.7 billion pages (docs/scale.md says whence)
CORES, MACHINES = (2, 16, 64), (1, 10, 100)
BEGIN, END = "<!-- measured: benchmarks/scale.py --write -->", "<!-- end of measured -->"
QUALITY: dict[str, Any] = {"positives": {"urls": ["curated"]}, "alpha": 1.0}


def sampled(documents: int) -> dict[str, Any]:
    """quality's fields for a classifier that is trained on so many documents of each class."""
    return {"classifier": {"positive_documents": documents, "negative_documents": documents}}


STAGES: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
    ("ingest", {"languages": []}, {}),
    ("dedup", {"max_cluster_share": 1.0}, {"documents": "ingest"}),
    ("paragraphs", {}, {"documents": "dedup"}),
    ("quality", QUALITY | sampled(400), {"documents": "paragraphs"}),
    ("decontaminate", {}, {"documents": "quality"}),
    ("pii", {}, {"documents": "decontaminate"}),
    ("tokenize", {"vocab_size": 8192, "sample_bytes": 4_000_000}, {"documents": "pii"}),
    ("mix", {"weights": {"crawl": 1.0}, "sequence_length": 2048}, {"documents": "pii", "tokenizer": "tokenize"}),
)


@dataclass
class Cost:
    """Seconds, bytes and rows of one stage. Memory in bytes: the run's process, and its largest worker."""

    wall: float = 0.0
    cpu: float = 0.0
    serial: float = 0.0
    disk: int = 0
    rows: int = 0
    own: int = 0
    worker: int = 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Timed:
    """A mapper that works on shards here, one after the other, and counts their CPU seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Any, items: Any, /) -> Iterator[Any]:
        for item in items:
            before = time.process_time()
            result = function(item)
            self.seconds += time.process_time() - before
            yield result


@contextmanager
def measured(mapper: Any) -> Iterator[Cost]:
    """What one stage takes. CPU is that of this process and of programs that it started and saw end (a classifier's
    training), which count as serial."""
    cost, stop = Cost(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(cost, stop), daemon=True)
    before, began, inside = sum(os.times()[:4]), time.perf_counter(), getattr(mapper, "seconds", 0.0)
    watcher.start()
    try:
        yield cost
    finally:
        stop.set()
        watcher.join()
    cost.wall, cost.cpu = time.perf_counter() - began, sum(os.times()[:4]) - before
    cost.serial = cost.cpu - (getattr(mapper, "seconds", 0.0) - inside)


def _watch(cost: Cost, stop: threading.Event) -> None:
    own = os.getpid()
    while not stop.wait(EVERY_SECONDS):
        cost.own = max(cost.own, _pss(own))
        cost.worker = max([cost.worker, *(_pss(child) for child in _below(own))])


def _below(process: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except OSError:
            continue
        found += children
        found += [lower for child in children for lower in _below(child)]
    return found


def _pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def write_pages(folder: Path, pages: int, seed: int) -> list[Path]:
    """Four WARC files of generated pages, one of them of a curated host: words by Zipf's law, 440 a page, in lines."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgk", k=chance.randint(2, 10))) for _ in range(20_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    lines = [" ".join(chance.choices(words, cum_weights=weights, k=8)) for _ in range(300)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for part in range(4):
        host = "curated.example" if part == 0 else f"crawl{part}.example"
        paths.append(folder / f"part-{part}.warc.gz")
        with paths[-1].open("wb") as stream:
            text: list[str] = []
            for number in range(pages // 4):
                if number % 10 or not text:
                    text = [
                        " ".join(chance.choices(words, cum_weights=weights, k=20)).capitalize() + "." for _ in range(22)
                    ]
                else:
                    text = [*text[:-1], "A line that the page before it does not have, and some words more."]
                stream.write(_record(f"http://{host}/{number}.html", [*chance.sample(lines, 3), *text]))
    return paths


def _record(url: str, lines: list[str]) -> bytes:
    """A response record of its own gzip member; its page has menus and scripts of some 6 KB around the text."""
    menu = "".join(
        f'<li class="item"><a href="/section/{number}.html">Section {number}</a></li>' for number in range(40)
    )
    script = "<script>" + "window.loaded = window.loaded || [];" * 60 + "</script>"
    body = "".join(f"<p>{line}</p>\n" for line in lines)
    head = f"<html><head><title>Page</title>{script}</head>"
    payload = f"{head}<body><nav><ul>{menu}</ul></nav><main>{body}</main></body></html>".encode()
    http = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
    )
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{random.Random(url).getrandbits(128):032x}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http) + len(payload)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + payload + b"\r\n\r\n", 6)


def run(store: Store, paths: list[Path], mapper: Any, tokens: int) -> tuple[dict[str, Cost], dict[str, Artifact]]:
    """Every data stage on these archives; stage name to what it took, and to what it made."""
    made: dict[str, Artifact] = {}
    costs = {}
    for name, fields, inputs in STAGES:
        stage = BY_NAME[name].stage
        given = {"paths": [str(path) for path in paths]} if name == "ingest" else {}
        given |= {"tokens": tokens} if name == "mix" else {}
        config = stage.config.model_validate({**fields, **given})
        with measured(mapper) as cost:
            outcome = execute(
                stage, config, as_inputs({key: made[of] for key, of in inputs.items()}), store, mapper=mapper
            )
        made[name], manifest = outcome.artifact, outcome.artifact.manifest
        cost.disk = sum(entry.bytes for entry in manifest.files.values())
        cost.rows = manifest.counts.rows_in or 0
        costs[name] = cost
        say(
            f"  {name:14}{cost.rows:>9,} rows in {cost.cpu:8.1f} s CPU ({cost.serial:.1f} serial) "
            f"{cost.wall:8.1f} s wall {cost.disk / MIB:8.1f} MiB on disk; run {cost.own / MIB:6.0f} MiB, "
            f"largest worker {cost.worker / MIB:6.0f} MiB"
        )
    return costs, made


def training(store: Store, documents: Artifact) -> tuple[float, int]:
    """CPU seconds of the classifier's training on as many documents as the config's default takes at most, and this
    number of documents; from what 400 and 1,600 documents of each class take."""
    stage, seconds = BY_NAME["quality"].stage, []
    few, many = 400, 1_600
    for count in (few, many):
        config = stage.config.model_validate(QUALITY | sampled(count))
        with measured(None) as cost:
            execute(stage, config, as_inputs({"documents": documents}), store, mapper=Timed(), force=True)
        seconds.append(cost.cpu)
    default = stage.config.model_validate(QUALITY).classifier  # type: ignore[attr-defined]
    most = default.positive_documents + default.negative_documents
    total = (seconds[1] - seconds[0]) / (2 * (many - few)) * most
    say(f"classifier's training: {seconds[0]:.1f} and {seconds[1]:.1f} s; {total:,.0f} s for {most:,} documents")
    return total, most


def report(small: dict[str, Cost], large: dict[str, Cost], spread: dict[str, Cost]) -> list[dict[str, Any]]:
    """One row a stage: its slope by rows in as cost of a million, and its fixed cost."""
    rows = []
    for name, big in large.items():
        less, peak = small[name], spread.get(name, big)
        total = big.rows or large["pii"].rows
        more = total - (less.rows or small["pii"].rows)
        slope, serial, disk = (
            (getattr(big, what) - getattr(less, what)) / more * 1e6 for what in ("cpu", "serial", "disk")
        )
        fixed = big.cpu - slope * total / 1e6
        row = {"stage": name, "cpu": slope, "serial": serial, "fixed": fixed, "disk": disk}
        rows.append({**row, "run": peak.own, "worker": peak.worker, "wall": peak.wall, "rows": total})
    return rows


def stage_table(rows: list[dict[str, Any]]) -> list[str]:
    """What a million rows of each stage cost, as Markdown."""
    heads = (
        "stage",
        "CPU s",
        "of it serial",
        "wall s on 2 cores",
        "MB on disk",
        "fixed CPU s",
        "run MiB",
        "worker MiB",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        wall = row["serial"] + (row["cpu"] - row["serial"]) / 2
        figures = (
            f"{row['cpu']:,.0f} | {row['serial']:,.0f} | {wall:,.0f} | {row['disk'] / 1e6:,.0f} | {row['fixed']:.1f}"
        )
        lines.append(f"| {row['stage']} | {figures} | {row['run'] / MIB:.0f} | {row['worker'] / MIB:.0f} |")
    return lines


def projection(rows: list[dict[str, Any]], pages: Cost | None, classifier: float) -> list[str]:
    """A segment on one machine, and a crawl on machines that take a segment each, as if no stage dropped a page: what
    is serial, the classifier's training among it, and the rest shared out to the cores."""
    million = SEGMENT_PAGES / 1e6 / 3600
    hours = [(row["stage"], row["cpu"] * million, row["serial"] * million) for row in rows]
    if pages:
        each = SEGMENT_PAGES / pages.rows / 3600
        hours[0] = ("ingest (real pages)", pages.cpu * each, pages.serial * each)
    hours.insert(4, ("the classifier's training", classifier / 3600, classifier / 3600))
    hours.append(("all", sum(cpu for _, cpu, _ in hours), sum(serial for _, _, serial in hours)))
    lines = ["| stage | CPU hours | of it serial | " + " | ".join(f"hours on {cores} cores" for cores in CORES) + " |"]
    lines.append("|---" * (3 + len(CORES)) + "|")
    for name, cpu, serial in hours:
        walls = " | ".join(f"{serial + (cpu - serial) / cores:.1f}" for cores in CORES)
        lines.append(f"| {name} | {cpu:.1f} | {serial:.1f} | {walls} |")
    _, cpu, serial = hours[-1]
    segment = serial + (cpu - serial) / CORES[-1]
    crawl = "; ".join(f"{n} machines: {SEGMENTS / n * segment / 24:,.1f} days" for n in MACHINES)
    lines += ["", f"A whole crawl, {SEGMENTS} segments on machines of {CORES[-1]} cores: {crawl}."]
    return lines


def real(store: Store) -> Cost | None:
    """Ingest of the real pages, if the mirror has them."""
    folders = [Path(folder) for folder in os.environ.get("CRAWL2CHAT_MIRROR", "").split(":") if folder]
    found = [path for folder in folders for path in folder.rglob("trafilatura_eval_781.warc.gz")]
    if not found:
        say("no CRAWL2CHAT_MIRROR with trafilatura_eval_781.warc.gz: real pages left out")
        return None
    stage, mapper = BY_NAME["ingest"].stage, Timed()
    config = stage.config.model_validate({"paths": [str(found[0])], "languages": []})
    with measured(mapper) as cost:
        made = execute(stage, config, {}, store, mapper=mapper)
    cost.rows = made.artifact.manifest.counts.rows_in or 0
    cost.disk = sum(entry.bytes for entry in made.artifact.manifest.files.values())
    say(
        f"real pages: {cost.rows} records, {cost.cpu:.2f} s CPU ({cost.rows / cost.cpu:,.0f} a second, "
        f"{cost.serial:.2f} s of it serial), {cost.wall:.1f} s wall, {cost.disk / cost.rows:,.0f} bytes a record on "
        "disk"
    )
    return cost


def write(page: Path, lines: list[str]) -> None:
    """Put the lines between the page's markers."""
    before, _, rest = page.read_text("utf8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text("\n".join([before + BEGIN, *lines, END + after]), "utf8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2_000, help="at least 2,000: the classifier's samples")
    parser.add_argument("--growth", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runner", default="processes", choices=["threads", "processes", "ray", "dask"])
    parser.add_argument("--write", type=Path, help="a page whose marked part the tables replace")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="c2c-scale-") as name:
        folder, costs, loads = Path(name), [], [os.getloadavg()[0]]
        for count in (120, given.documents, given.documents * given.growth):
            paths = write_pages(folder / f"pages-{count}", count, 7)
            say(f"{count:,} pages, {sum(path.stat().st_size for path in paths) / count:,.0f} bytes each in the archive")
            store = Store(folder / f"store-{count}")
            cost, made = run(store, paths, Timed(), count * 400)
            costs.append(cost)
            loads.append(os.getloadavg()[0])
        classifier, most = training(store, made["paragraphs"])
        pages, spread = real(Store(folder / "real")), {}
        if given.workers:
            say(f"the same over {given.workers} {given.runner}")
            mapper = shard_map(given.runner, given.workers)
            spread, _ = run(Store(folder / "spread"), paths, mapper, given.documents * given.growth * 400)
            end_workers()
        loads.append(os.getloadavg()[0])
        rows = report(costs[1], costs[2], spread)
    about = (
        f"{given.documents:,} and {given.documents * given.growth:,} generated pages, Python "
        f"{sys.version.split()[0]}, {os.cpu_count()} cores, load {min(loads):.1f} to {max(loads):.1f}, "
        f"{time.strftime('%Y-%m-%d')}."
    )
    lines = [about, "", *stage_table(rows), ""]
    if pages:
        rate, disk = pages.rows / pages.cpu, pages.disk / pages.rows
        lines += [
            f"Ingest of {pages.rows} real records: {rate:,.0f} a second of CPU, {disk:,.0f} bytes each on disk.",
            "",
        ]
    lines += [f"The classifier's training, {most:,} documents: {classifier:,.0f} s of CPU.", ""]
    lines += projection(rows, pages, classifier)
    say("\n" + "\n".join(lines))
    if given.write:
        write(given.write, lines)


if __name__ == "__main__":
    main()
