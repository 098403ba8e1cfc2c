"""The embedded Prefect server: one process for the length of a run, so that `crawl2chat run` needs nothing started.

With `PREFECT_API_URL` set, that server is used instead. The settings must be in the environment before Prefect is first
imported, which is why this module imports it in the child only. The child watches a pipe from its parent: when the
parent dies, however it dies, the server ends too.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO

from artifacts.errors import RunError, UserError

START_SECONDS = 240  # of a machine that has much else to do; a server that ended is noticed at once
RESTARTS = 5  # of a server that ended before its time; one that cannot live ends the run

# No calls home, and a terminal that shows our own progress: the server still receives every log line.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
}

# On a server that stays, runs that fall silent become Crashed (`flows.serving.automations`). Prefect takes no less.
HEARTBEAT_SECONDS = 30

EMBEDDED = "CRAWL2CHAT_EMBEDDED_SERVER"


def embedded() -> bool:
    """Whether the Prefect API of this process is one that `prefect_api` started."""
    return os.environ.get(EMBEDDED) == os.environ.get("PREFECT_API_URL", "")


@contextmanager
def prefect_api(meanwhile: str = "prefect") -> Iterator[str]:
    """The URL of a Prefect API for this process and its children; started here unless PREFECT_API_URL names one.

    Args:
        meanwhile: the module to import while the server starts: both take seconds.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    given = os.environ.get("PREFECT_API_URL")
    if given:
        os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))
        _require(given)
        yield given
        return
    with _Embedded() as server:
        os.environ["PREFECT_API_URL"] = os.environ[EMBEDDED] = server.url
        try:
            import_module(meanwhile)
            server.wait()
            yield server.url
        finally:
            _send_what_is_left()
            os.environ.pop("PREFECT_API_URL", None)
            os.environ.pop(EMBEDDED, None)


class _Embedded:
    """The server process, as a context. One that ends before its time is started again, on the same database.

    The socket is held here and only lent to the process. While none serves it, connections wait in its queue and are
    not refused: Prefect's client asks again after every error but a refusal.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        self._ending = threading.Event()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(self._socket.fileno())],
            pass_fds=[self._socket.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
        )

    def __enter__(self) -> _Embedded:
        return self

    def wait(self) -> None:
        """Until it answers. From then on it is kept alive.

        Raises:
            RunError: it ended, or does not answer.
        """
        _wait(self._process, self.url)
        threading.Thread(target=self._keep, daemon=True, name="embedded-server").start()

    def _keep(self) -> None:
        for _ in range(RESTARTS):
            status = self._process.wait()
            if self._ending.is_set():
                return
            sys.stderr.write(f"the embedded Prefect server has ended ({_how(status)}); it is started again\n")
            self._process = self._start()
            if self._ending.is_set():  # while it was being started
                self._process.kill()
            assert self._process.stderr is not None
            _drain(self._process.stderr)

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        process = self._process
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._socket.close()


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit code {status}"


def _drain(stream: IO[bytes]) -> list[bytes]:
    """The lines of a stream, read in the background for as long as the process lives: a full pipe would stop it."""
    lines: list[bytes] = []
    threading.Thread(target=lambda: lines.extend(stream), daemon=True).start()
    return lines


def _require(url: str) -> None:
    """Raise `UserError` if nothing answers at the URL that the user gave. Any answer will do: it may want a login."""
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"PREFECT_API_URL={url}: no Prefect server answers there ({reason}). "
            "Start it, or unset the variable: then the run brings its own"
        ) from error


def _send_what_is_left() -> None:
    """Send the queued logs and events while the server still listens: at exit Prefect would retry for a minute."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    with suppress(Exception):
        APILogWorker.drain_all(timeout=5)
        EventsWorker.drain_all(timeout=5)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    assert process.stderr is not None
    errors = _drain(process.stderr)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    said = b"".join(errors[-5:]).decode(errors="replace").strip()
    status = process.poll()
    ended = "no answer in time" if status is None else f"it ended ({_how(status)})"
    raise RunError(f"the embedded Prefect server did not start: {said or ended}")


def serve(descriptor: int) -> None:
    """Serve Prefect's API on a listening socket until the parent process is gone. Runs in the child."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.disable()
    os.environ.update({"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"})
    import uvicorn

    from flows.serving.new_database import prepare_database
    from flows.serving.sqlite_locks import wait_in_event_loop

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.freeze()  # what a start allocates stays; looking through it again and again took a tenth of the start
            gc.enable()

    prepare_database()
    wait_in_event_loop()
    application = "prefect.server.api.server:create_app"
    config = uvicorn.Config(application, factory=True, log_level="error", lifespan="on", backlog=512)
    Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # returns at end of file: when no process holds the other end any more
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
