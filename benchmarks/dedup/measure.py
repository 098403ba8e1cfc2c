"""Time, CPU time and memory of a process and all its children."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass
class Cost:
    """Seconds and MiB. Memory is the largest sum over the tree: `rss` counts shared pages once a process, `pss` once;
    `anonymous` leaves out pages of mapped files, which the kernel drops when it needs the room. `load` is the machine's
    load average before and after."""

    wall: float = 0.0
    cpu: float = 0.0
    rss: int = 0
    pss: int = 0
    anonymous: int = 0
    load: tuple[float, float] = (0.0, 0.0)


@contextmanager
def measured(interval: float = 0.5) -> Iterator[Cost]:
    """Measure what runs inside. CPU time of children counts once they have ended, so end them inside."""
    cost, stop = Cost(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(cost, stop, interval), daemon=True)
    load, wall, cpu = os.getloadavg()[0], time.perf_counter(), _cpu()
    watcher.start()
    try:
        yield cost
    finally:
        cost.wall, cost.cpu = time.perf_counter() - wall, _cpu() - cpu
        cost.load = (load, os.getloadavg()[0])
        stop.set()
        watcher.join()


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _watch(cost: Cost, stop: threading.Event, interval: float) -> None:
    while True:
        sums = {"Rss": 0, "Pss": 0, "Anonymous": 0}
        for process in _tree(os.getpid()):
            try:
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                name, _, rest = line.partition(":")
                if name in sums:
                    sums[name] += int(rest.split()[0])
        cost.rss = max(cost.rss, sums["Rss"] // 1024)
        cost.pss = max(cost.pss, sums["Pss"] // 1024)
        cost.anonymous = max(cost.anonymous, sums["Anonymous"] // 1024)
        if stop.wait(interval):
            return


def _tree(process: int) -> list[int]:
    found = [process]
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = thread.read_text().split()
        except OSError:
            continue
        for child in children:
            found += _tree(int(child))
    return found
