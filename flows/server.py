"""The embedded Prefect server: one process for the length of a run, so that `crawl2chat run` needs nothing started.

With `PREFECT_API_URL` set, that server is used instead. The settings must be in the environment before Prefect is first
imported, which is why this module imports it in the child only. The child watches a pipe from its parent: when the
parent dies, however it dies, the server ends too.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from artifacts.errors import RunError, UserError

START_SECONDS = 90

# No calls home, and a terminal that shows our own progress: the server still receives every log line.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
}


EMBEDDED = "CRAWL2CHAT_EMBEDDED_SERVER"


def embedded() -> bool:
    """Whether the Prefect API of this process is one that `prefect_api` started."""
    return os.environ.get(EMBEDDED) == os.environ.get("PREFECT_API_URL", "")


@contextmanager
def prefect_api() -> Iterator[str]:
    """The URL of a Prefect API for this process and its children; started here unless PREFECT_API_URL names one."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    given = os.environ.get("PREFECT_API_URL")
    if given:
        _require(given)
        yield given
        return
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait(process, url)
        os.environ["PREFECT_API_URL"] = os.environ[EMBEDDED] = url
        yield url
    finally:
        _send_what_is_left()
        os.environ.pop("PREFECT_API_URL", None)
        os.environ.pop(EMBEDDED, None)
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()


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
    errors: list[bytes] = []
    assert process.stderr is not None
    # Read for as long as the server lives, or a full pipe would stop it.
    threading.Thread(target=lambda stream: errors.extend(stream), args=(process.stderr,), daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    said = b"".join(errors[-5:]).decode(errors="replace").strip()
    raise RunError(f"the embedded Prefect server did not start: {said or 'no answer in time'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(port: int) -> None:
    """Serve Prefect's API on localhost until the parent process is gone. Runs in the child."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update({"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"})
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="on",
    )


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # returns at end of file: when no process holds the other end any more
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
