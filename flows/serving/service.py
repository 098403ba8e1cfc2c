"""The life of a service: start the server, put the deployments on it, start the worker, wait, stop in order."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from artifacts.errors import RunError, UserError
from flows.config import Pipeline
from flows.serving.children import Child, rotate
from flows.serving.listening import listen
from flows.serving.lock import Lock, Note, healthy
from flows.serving.settings import Settings

if TYPE_CHECKING:
    from flows.serving.apply import Applied

Say = Callable[[str], None]

START_SECONDS = 240.0  # of a machine that has much else to do; a process that ended is noticed at once
# The server of a killed service lives on for some seconds, so that its runs can say how they ended.
LEFT_OVER_SECONDS = 20.0
WORKER_GRACE, SERVER_GRACE = 14.0, 6.0
# A process that ends by itself is started again, but not without end.
RESTARTS, WITHIN = 5, 300.0


def find_running(settings: Settings, lock: Lock, port_given: bool) -> Note | None:
    """The service that holds this home already and is well; None if there is none.

    Raises:
        UserError: it holds the home, but on another port than the one that was asked for.
        RunError: it holds the home and does not answer.
    """
    if lock.mine:
        return None
    note, deadline = lock.note, time.monotonic() + START_SECONDS
    while note is not None and not healthy(note.api) and time.monotonic() < deadline:
        if not _alive(note.pid):
            break
        time.sleep(0.5)
    if note is None or not healthy(note.api):
        raise RunError(
            f"{settings.home}: another `crawl2chat up` holds it (process {note.pid if note else 'unknown'})"
            " and its server does not answer. End that process, then start again"
        )
    if port_given and note.ui != settings.ui:
        raise UserError(
            f"--port {settings.port}: {settings.home} is served at {note.ui} already, by process {note.pid}. "
            "Stop it first, or give the second one a home of its own (PREFECT_HOME)"
        )
    return note


def by_name(pipelines: Sequence[Pipeline]) -> dict[str, Pipeline]:
    """The pipelines by name.

    Raises:
        UserError: two have the same name, or one has that of another's stage: their deployments would be the same ones.
    """
    named: dict[str, Pipeline] = {}
    for pipeline in pipelines:
        name = pipeline.name
        if name in named:
            raise UserError(
                f"{named[name].origin} and {pipeline.origin} are both called {name!r}: give one another `name:`"
            )
        named[name] = pipeline
    for pipeline in pipelines:
        for node in pipeline.nodes:
            if other := named.get(f"{pipeline.name}-{node.name}"):
                raise UserError(
                    f"{other.origin} is called {other.name!r}, as the deployment of {pipeline.origin}'s stage "
                    f"{node.name} is: give one of the two configs another `name:`"
                )
    return named


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Service:
    """The processes of one service. Use as a context: none of them outlives it."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self._say = say
        self._sockets: list[socket.socket] = []
        self._starts: list[float] = []
        self._children: dict[str, Child] = {}
        self._how: dict[str, Callable[[], Child]] = {}

    def start_server(self, left_over: bool) -> None:
        """Start it. `left_over`: the last service was killed, so its server may still be there for a while.

        Raises:
            UserError: something else listens on the port, or the host is none of this machine's.
        """
        settings = self.settings
        deadline = time.monotonic() + (LEFT_OVER_SECONDS if left_over else 0.0)
        try:
            while not (sockets := listen(settings.host, settings.port)):
                if time.monotonic() >= deadline:
                    what = "another Prefect server" if healthy(settings.api) else "another program"
                    raise UserError(
                        f"--port {settings.port}: {what} listens there. Choose another port, or stop that program"
                    )
                time.sleep(0.5)
        except OSError as error:
            raise UserError(f"--host {settings.host}: {error.strerror or error}") from error
        self._sockets = sockets
        self._start("server", self._new_server)

    def _new_server(self) -> Child:
        settings = self.settings
        lent = [listening.fileno() for listening in self._sockets]
        arguments, environment = [str(number) for number in lent], settings.server_environment()
        return Child("server", "flows.serving.server", arguments, environment, settings.logs / "server.log", lent)

    def wait_for_server(self) -> None:
        """Until it answers. Raises `RunError` with the end of its log if it does not."""
        server, deadline = self._children["server"], time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and server.alive:
            if healthy(self.settings.api):
                return
            time.sleep(0.2)
        words = self.settings.said(server.last_words()) or "no answer in time"
        raise RunError(
            f"the Prefect server did not start ({self.settings.database_name}):\n{words}\n(log: {server.log})"
        )

    def start_worker(self, pool: str) -> None:
        settings = self.settings

        def new() -> Child:
            arguments = [pool, f"{pool} on {os.uname().nodename}"]
            environment = settings.worker_environment()
            return Child("worker", "flows.serving.worker", arguments, environment, settings.logs / "worker.log")

        self._start("worker", new)

    def _start(self, name: str, new: Callable[[], Child]) -> None:
        self._how[name] = new
        self._children[name] = new()

    def wait(self) -> None:
        """Until interrupted. A child that ends by itself is started again; one that does so over and over is told.

        Raises:
            RunError: a child keeps ending.
        """
        while True:
            time.sleep(0.5)
            for name, child in list(self._children.items()):
                rotate(child.log)
                if child.alive:
                    continue
                self._starts = [t for t in self._starts if time.monotonic() - t < WITHIN] + [time.monotonic()]
                words = self.settings.said(child.last_words())
                if len(self._starts) > RESTARTS:
                    raise RunError(f"the {name} keeps ending:\n{words}\n(log: {child.log})")
                child.stop(0)
                self._say(f"the {name} has ended ({_how_it_ended(child.process.returncode)}); started again")
                self._children[name] = self._how[name]()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        """The worker first, which ends its runs and reports them to the server; then the server."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for name, grace in (("worker", WORKER_GRACE), ("server", SERVER_GRACE)):
                if name in self._children:
                    self._children[name].stop(grace)
            for listening in self._sockets:
                listening.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _how_it_ended(code: int) -> str:
    with suppress(ValueError):
        if code < 0:
            return signal.Signals(-code).name
    return f"exit code {code}"


def serve(
    pipelines: Mapping[str, Pipeline],
    settings: Settings,
    lock: Lock,
    store_url: str,
    folder: str,
    *,
    with_worker: bool,
    say: Say,
    ready: Callable[[Applied], None],
) -> None:
    """Run a service until KeyboardInterrupt, which ends it in order and is not raised again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs with SIGINT ignored
    left_over = lock.note is not None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    configs = [pipeline.origin for pipeline in pipelines.values()]
    with Service(settings, say) as service:
        try:
            service.start_server(left_over)
            lock.write(Note(os.getpid(), settings.ui, settings.api, store_url, configs, now, with_worker))
            os.environ.update(settings.worker_environment())  # Prefect reads it when it is first imported
            from flows.serving.apply import POOL, apply
            from flows.waiting import watching

            service.wait_for_server()
            applied = apply(pipelines, store_url, folder, one_pool=with_worker)
            if with_worker:
                service.start_worker(POOL)
            ready(applied)
            with watching(store_url, say):
                service.wait()
        except KeyboardInterrupt:
            say("stopping: runs in progress end as Crashed, and a retry goes on from where they were")
    lock.release()
    say("stopped")
