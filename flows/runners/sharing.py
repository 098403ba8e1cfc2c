"""Whether the machines of a cluster can do our work: they see the store's folder, and run the same code."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import UserError

NAME = "from-the-run"


@dataclass(frozen=True)
class Question:
    """Sent to each machine. `folder` holds a file with `token`; `code` is `tasks.resume.code_digest` of the run."""

    folder: str
    token: str
    code: str


@dataclass(frozen=True)
class Answer:
    """Of one worker: its machine, whether it could read and write the folder, and its own code's digest."""

    host: str
    sees: bool
    code: str


def answer(question: Question) -> Answer:
    """What a worker says. Its own file in the folder must be seen by the run, too."""
    from tasks.resume import code_digest

    host, folder = socket.gethostname(), Path(question.folder)
    try:
        sees = (folder / NAME).read_text() == question.token
        (folder / f"{host}-{os.getpid()}").write_text(question.token)
    except OSError:
        sees = False
    return Answer(f"{host}-{os.getpid()}", sees, code_digest())


def check_machines(ask: Callable[[Question], Sequence[Answer]], folder: Path, what: str) -> None:
    """Ask one worker of every machine, before the first shard.

    Args:
        ask: sends the question to the cluster.
        folder: where the store keeps its drafts; a folder is made in it for the length of the check.
        what: the cluster, in words.

    Raises:
        UserError: a machine sees another folder under that path, or has other code or libraries.
    """
    from tasks.resume import code_digest

    folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=".shared-", dir=folder))
    try:
        (own / NAME).write_text(own.name)
        answers = ask(Question(str(own), own.name, code_digest()))
        blind = sorted(a.host for a in answers if not a.sees or not (own / a.host).is_file())
        if blind:
            raise UserError(
                f"{what}: the worker {blind[0]} does not share {folder} with this machine: store, cache and input "
                "files must lie on a file system that all machines of the cluster share, under the same path"
            )
        other = sorted(a.host for a in answers if a.code != code_digest())
        if other:
            raise UserError(
                f"{what}: the worker {other[0]} has another version of crawl2chat, of Python or of a library than this "
                "machine, so its results could differ: install the same checkout there from constraints.txt"
            )
    finally:
        shutil.rmtree(own, ignore_errors=True)
