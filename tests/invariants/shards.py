"""Functions that workers of any runner apply: each does one thing that a test looks for."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import UserError


class Unpicklable(Exception):
    """Comes apart in a pickle: its constructor wants what its arguments do not hold."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


@dataclass(frozen=True)
class DieOnce:
    """Applies `function` where the shard is; one process of those that work on the `fatal`-th call is killed, once.

    Stands for the out-of-memory killer. `folder` holds what the workers leave for one another.
    """

    function: Any
    folder: str
    fatal: int

    def __call__(self, item: Any) -> Any:
        calls = Path(self.folder) / "calls"
        with calls.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        if len(calls.read_text().splitlines()) >= self.fatal:
            try:
                os.close(os.open(Path(self.folder) / "killed", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.function(item)


def always_die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    """Fails on 3 as a stage would, on 4 with an exception that does not travel."""
    if number == 3:
        raise UserError("field 3 is wrong")
    if number == 4:
        raise Unpicklable("a", "b")
    return number * number


def note(item: tuple[str, int]) -> int:
    """Leaves a file for each number worked on; all but the first take a while."""
    folder, number = item
    (Path(folder) / f"begun-{number}").touch()
    if number:
        time.sleep(60)
        (Path(folder) / f"ended-{number}").touch()
    return number


def listening(_: int) -> list[str]:
    """Addresses on which this process and its parent listen (Linux), in /proc's spelling without the port."""
    inodes = set()
    for pid in (os.getpid(), os.getppid()):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                words = fields[1].partition(":")[0]
                data = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
                found.append(socket.inet_ntop(family, data))
    return found
