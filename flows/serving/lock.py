"""One service a home: a lock that the operating system frees when its holder dies, and a note of who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from artifacts.errors import UserError

NAME = "up.lock"


@dataclass(frozen=True)
class Note:
    """What the holder of a lock says of itself."""

    pid: int
    ui: str
    api: str
    store: str
    configs: list[str]
    started: str
    worker: bool


class Lock:
    """The lock of a home: `mine` says whether this process holds it, `note` what the one who holds or held it says.

    Raises:
        UserError: the home is no folder, or cannot be written.
    """

    def __init__(self, home: Path) -> None:
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._stream: IO[str] = (home / NAME).open("a+")
        except OSError as error:
            raise UserError(f"PREFECT_HOME={home}: nothing can be kept there: {error.strerror}") from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.mine = True
        except BlockingIOError:
            self.mine = False
        self._stream.seek(0)
        self.note = _parse(self._stream.read())

    def write(self, note: Note) -> None:
        """Say who holds it."""
        self._stream.truncate(0)
        self._stream.write(json.dumps(asdict(note)))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def release(self) -> None:
        """Give it back, without a note: the next service sees that this one ended in order."""
        self._stream.truncate(0)
        self._stream.close()


def _parse(text: str) -> Note | None:
    try:
        return Note(**json.loads(text))
    except (ValueError, TypeError):
        return None


def healthy(api: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
