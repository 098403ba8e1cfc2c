"""The time of each audit question on a store of a million documents, as whole processes, Python's start included.

    python benchmarks/audit_questions.py [STORE] [--rounds N]

STORE is one of `python -m benchmarks.million`; without it one is made in a temporary folder. A line a question gives
the median of 5 rounds, wall clock and processor seconds (of all threads), and the same for the peer in a process of its
own in the same run: pandas and pyarrow reading the tables as a whole (`million/peers.py`), `sha256sum` for hashes. The
files are in the page cache for both. Where the peer prints a figure, it must be ours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from million import build

ROOT = Path(__file__).resolve().parent.parent
PEERS = str(ROOT / "benchmarks/million/peers.py")


@dataclass(frozen=True)
class Question:
    """`arguments` of the command line; `peer` a command; `figure` what the peer's output must be, by our answer."""

    name: str
    arguments: Sequence[str]
    peer: Sequence[str] = ()
    figure: Callable[[Any], int] | None = None


def timed(command: Sequence[str]) -> tuple[float, float, str]:
    """Wall clock and processor seconds of a process, and what it printed. Exits if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, said = process.communicate()
    wall = time.perf_counter() - began
    after = os.times()
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{said}")
    return wall, after.children_user + after.children_system, output


def measure(command: Sequence[str], rounds: int) -> tuple[float, float, str]:
    """The medians of some rounds, and the last output."""
    walls, processors, output = [], [], ""
    for _ in range(rounds):
        before = os.times()
        wall, total, output = timed(command)
        walls.append(wall)
        processors.append(total - before.children_user - before.children_system)
    return statistics.median(walls), statistics.median(processors), output


def questions(store: Path, scratch: Path) -> list[Question]:
    def ref(stage: str, number: int = 0) -> str:
        folders = sorted((store / stage).iterdir(), key=lambda folder: (folder / "manifest.json").stat().st_mtime)
        return folders[number].name.partition(".")[0]

    mixes, mix, model = [ref("mix", number) for number in (0, 1)], ref("mix"), ref("pretrain")
    manifest = json.loads(next((store / "pretrain").glob(f"{model}.*/manifest.json")).read_text())
    reads = [[entry[key] for key in ("first_row", "rows_per_step", "steps")] for entry in manifest["metrics"]["reads"]]
    # A kept page of the largest host: the hardest URL to find.
    url, doc_id = one(
        f"select d.url, doc_id from '{store}/mix/{mix}.*/decisions/*.parquet' as m "
        f"join '{store}/ingest/*/data/*.parquet' as d using (doc_id) "
        "where m.kept and m.reason is null and d.url like 'http://www0.%' order by d.warc_offset limit 1"
    )
    gone = one(f"select url from '{store}/ingest/*/decisions/*.parquet' where reason = 'lang' limit 1")[0]
    prompt = one(f"select prompt_id from '{store}/ppo/*/rollouts/*.parquet' limit 1")[0]
    taken = scratch / "urls.txt"
    taken.write_text(f"{url}\n")
    page, peers = str(store), [sys.executable, PEERS]
    files = [str(path) for path in sorted((store / "mix").glob(f"{mix}.*/**/*.parquet"))]
    everything = [str(path) for path in sorted(store.glob("*/*/**/*.*")) if path.is_file()]
    return [
        Question("why URL", ["why", url], [*peers, "why", page, url, mixes[-1]], decisions),
        Question("why DOC_ID", ["why", doc_id]),
        Question("why URL, dropped", ["why", gone]),
        Question("why URL, unknown", ["why", "http://nowhere.example.net/"]),
        Question("trace URL", ["trace", url], [*peers, "trace_page", page, url], lambda found: found["sequences"]),
        Question(
            "trace pretrain",
            ["trace", f"pretrain@{model}"],
            [*peers, "trace_model", page, mix, json.dumps(reads)],
            lambda found: sum(source["tokens"] or 0 for source in found["sources"]),
        ),
        Question("trace ppo", ["trace", "ppo@latest"]),
        Question("trace PROMPT_ID", ["trace", prompt], [*peers, "trace_prompt", page, prompt]),
        Question("trace FILE:LINE", ["trace", "preferences.jsonl:77"]),
        Question("takedown --dry-run", ["takedown", "--dry-run", "--urls", str(taken)]),
        *(taking_down_a_host(store, scratch, pages) for pages in (300, 2_000)),
        Question("diff mix mix", ["diff", f"mix@{mixes[0]}", f"mix@{mixes[1]}"], [*peers, "diff", page, *mixes]),
        Question("lineage mix", ["lineage", f"mix@{mix}"]),
        Question("export mix to hf", ["export", f"mix@{mix}", str(scratch / "hf"), "--to", "hf", "--force"]),
        Question("report RUN", ["report", "latest", "--out", str(scratch / "report.html")]),
        Question("verify mix (82 MB)", ["verify", f"mix@{mix}"], ["sha256sum", *files]),
        Question("verify --all", ["verify", "--all"], ["sha256sum", *everything]),
    ]


def taking_down_a_host(store: Path, scratch: Path, pages: int) -> Question:
    """The takedown of the host that has about so many pages."""
    host, count = one(
        f"select split_part(url, '/', 3) as host, count(*) from '{store}/ingest/*/data/*.parquet' where host <> '' "
        f"group by host order by abs(count(*) - {pages}), host limit 1"
    )
    listed = scratch / f"host-{pages}.txt"
    listed.write_text(f"{host}\n")
    return Question(f"takedown, {count:,} pages", ["takedown", "--dry-run", "--urls", str(listed)])


def decisions(found: Any) -> int:
    return sum(len(document["fate"]) for document in found["documents"])


def one(sql: str) -> tuple[Any, ...]:
    row = duckdb.execute(sql).fetchone()
    assert row is not None, sql
    return row


def ask(question: Question, store: Path, rounds: int) -> str:
    """The line of one question."""
    command = [sys.executable, "-m", "flows.cli", *question.arguments, "--store", str(store), "--json"]
    wall, processor, answer = measure(command, rounds)
    line = f"{question.name:<20} {wall:6.2f} s {processor:6.2f} s"
    if not question.peer:
        return line
    their_wall, their_processor, said = measure(question.peer, rounds)
    name = "sha256sum" if question.peer[0] == "sha256sum" else "pandas"
    line += f"   {name:<9} {their_wall:6.2f} s {their_processor:6.2f} s   ratio {their_wall / wall:5.2f}"
    if question.figure is not None:
        ours, theirs = question.figure(json.loads(answer)), int(said)
        assert ours == theirs, f"{question.name}: {ours} by crawl2chat, {theirs} by the peer"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="audit-"))
    try:
        store = given.store or scratch / "store"
        if given.store is None:
            build(store)
        sys.stdout.write(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; wall clock, processor seconds\n")
        for question in questions(store.resolve(), scratch):
            sys.stdout.write(ask(question, store.resolve(), given.rounds) + "\n")
            sys.stdout.flush()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
