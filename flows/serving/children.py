"""A process of the service: it has a session of its own, writes a log, and ends with `up` however `up` ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# A log that has grown to this is set aside as `.1`; what was `.1` becomes `.2`, and so on.
LOG_BYTES, LOGS_KEPT = 10 * 2**20, 3


def rotate(log: Path) -> None:
    """Set a log aside that has grown large, and go on with an empty one.

    It is copied and emptied, not renamed: the processes that write it hold it open, and append to its end. What they
    write between the two steps is lost.
    """
    partial = log.with_name(f"{log.name}.partial")
    with suppress(OSError):  # a log that cannot be set aside must not end the service
        if log.stat().st_size < LOG_BYTES:
            return
        try:
            shutil.copy(log, partial)
            for number in range(LOGS_KEPT, 1, -1):
                with suppress(FileNotFoundError):
                    os.replace(f"{log}.{number - 1}", f"{log}.{number}")
            os.replace(partial, f"{log}.1")
            os.truncate(log, 0)
        finally:
            partial.unlink(missing_ok=True)


class Child:
    """A running `python -m MODULE ARGUMENT…`, whose standard input is the parent's life. `lent` are the parent's file
    descriptors that it has too, under the same numbers."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        lent: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log)
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=dict(environment),
                pass_fds=lent,
                start_new_session=True,  # Ctrl-C at the terminal is for `up`, which stops its children in order
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, grace: float) -> None:
        """SIGTERM, and after `grace` seconds SIGKILL to the whole session."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=grace)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        with suppress(OSError):
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - 8_192))
                text = stream.read().decode(errors="replace")
            return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
        return ""


def end_with_parent(linger: float, at_most: float) -> None:
    """In a child: once `up` is gone, end as by SIGTERM after `linger` seconds, and in any case `at_most` later."""

    def watch() -> None:
        # Returns when no process holds the other end any more. Not by `sys.stdin`: its lock, held by this thread, makes
        # the interpreter abort when the process ends by itself.
        os.read(0, 1)
        time.sleep(linger)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(at_most)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
