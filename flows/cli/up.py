"""`up`: the running service."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.errors import UserError
from flows.cli.app import STORE, StoreOption, app, errors, place_of

if TYPE_CHECKING:
    from artifacts.store import Store
    from flows.serving.apply import Applied
    from flows.serving.lock import Note
    from flows.serving.settings import Settings


@app.command()
def up(
    configs: Annotated[list[str] | None, typer.Argument(metavar="CONFIG", help="Default: configs/demo.yaml")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port of server and UI (default: 4200)")] = None,
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on (default: 127.0.0.1)")] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="postgresql+asyncpg://… (default: SQLite in the home)")
    ] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Workers are started elsewhere, on the pools cpu and gpu")
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Prefect server, deployments with schedules, limits, automations, a worker; until Ctrl-C."""
    from flows.config import load_pipeline
    from flows.planning import select
    from flows.serving.database import require_reachable
    from flows.serving.lock import Lock
    from flows.serving.service import by_name, find_running, serve
    from flows.serving.settings import settings_of

    settings = settings_of(host, port, database)
    pipelines = [load_pipeline(config, to_run=True) for config in configs or (None,)]
    for pipeline in pipelines:
        select(pipeline, None)
    named, place = by_name(pipelines), place_of(store)
    lock = Lock(settings.home)
    running = find_running(settings, lock, port is not None)
    if running is not None:
        _tell_running(running)
        return

    if not no_worker:  # else the workers' machines write it, and this one need not
        _require_writable(place)
    require_reachable(settings)

    def say(line: str) -> None:
        errors.print(line, markup=False)

    say(f"starting the server on {settings.ui} ({settings.database_name})")
    serve(
        named,
        settings,
        lock,
        place.url,
        os.getcwd(),
        with_worker=not no_worker,
        say=say,
        ready=lambda applied: _tell_ready(applied, settings, place.url, not no_worker),
    )


def _require_writable(store: Store) -> None:
    """Raise `UserError` for a local store that no run could write."""
    if store.remote:
        return
    try:
        os.makedirs(store.root, exist_ok=True)
    except OSError as error:
        raise UserError(f"--store {store.url}: cannot be written: {error.strerror}") from error
    if not os.access(store.root, os.W_OK):
        raise UserError(f"--store {store.url}: cannot be written")


def _tell_running(note: Note) -> None:
    sys.stdout.write(
        f"already running: {note.ui} (process {note.pid}, since {note.started})\n"
        f"  configs  {', '.join(note.configs)}\n"
        f"  store    {note.store}\n"
        f"To serve something else, stop it first (Ctrl-C there, or kill {note.pid})\n"
    )


def _tell_ready(applied: Applied, settings: Settings, store: str, worker: bool) -> None:
    changed = f"{applied.written} written" + (f", {applied.removed} removed" if applied.removed else "")
    lines = [
        f"UI           {settings.ui}",
        f"API          {settings.api}  (PREFECT_API_URL)",
        f"deployments  {len(applied.deployments)} ({changed})",
        f"store        {store}",
        f"home         {settings.home}  (database {settings.database_name}, logs/)",
        "worker       one, on this machine" if worker else "worker       none: prefect worker start --pool cpu|gpu",
        *_next_runs(applied),
        "Ctrl-C stops all of it",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _next_runs(applied: Applied) -> list[str]:
    """The next runs; the server needs some seconds to schedule those of new deployments."""
    from flows.serving.apply import next_runs

    if not applied.schedules:
        return ["schedules    none is active"]
    deadline = time.monotonic() + 15
    while not (found := next_runs()) and time.monotonic() < deadline:
        time.sleep(0.5)
    if not found:
        return [f"schedules    {applied.schedules} active"]
    return [
        f"{'next runs' if not n else '':<12} {when:%Y-%m-%d %H:%M %Z} {name}" for n, (when, name) in enumerate(found)
    ]
