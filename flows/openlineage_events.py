"""Telling a lineage catalogue what runs: OpenLineage events of runs and stages, by file or HTTP, off by default.

`told` surrounds a run, `stage_events` one stage in it. Both hand what there is to say to a thread, which builds the
events and sends them: a receiver that is slow, wrong or gone costs a run nothing but one warning line, and at its end
at most `CLOSING_SECONDS`.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from artifacts.errors import Waiting
from artifacts.redaction import redact_text, revealed
from flows.registry import BY_NAME

if TYPE_CHECKING:
    from openlineage.client.client import OpenLineageClient
    from openlineage.client.event_v2 import RunEvent

    from artifacts.exchange.openlineage import Execution
    from artifacts.store import Artifact
    from flows.records import RunRecord
    from tasks.stage import Progress

ROOT = Path(__file__).resolve().parent.parent
API_KEY = "OPENLINEAGE_API_KEY"
# Room for the events of a long run whose receiver is slow; what does not fit is left out, and counted.
WAITING_EVENTS = 1_000
# After so many failures in a row the receiver is given up for the rest of the run.
PATIENCE = 3
CLOSING_SECONDS = 5.0

Made = TypeVar("Made")


class OpenLineageSettings(BaseModel):
    """Where events go: `file` or `url`. Neither is ever in a recipe, and no key stands in a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = Field(None, min_length=1, title="File", description="Events are appended to it, a line each")
    url: str | None = Field(None, title="URL", description="Of the receiver; its key is in the environment")
    endpoint: str = Field("api/v1/lineage", title="Endpoint", description="Path below the URL to which events are sent")
    namespace: str = Field("crawl2chat", min_length=1, title="Namespace", description="Of the jobs, in the catalogue")
    timeout: float = Field(2.0, gt=0, le=60, title="Time-out", description="Seconds that sending one event may take")
    every: float = Field(30.0, ge=0, title="Every", description="Fewest seconds between two RUNNING events of a stage")

    @field_validator("url")
    @classmethod
    def _url_holds_no_secret(cls, value: str | None) -> str | None:
        if value is None:
            return None
        split = urlsplit(value)
        if split.username is not None or split.password is not None or split.query:
            # The value is not repeated in the message: it may hold a key.
            raise ValueError(f"a user, a password or a query does not belong in a config; set {API_KEY}")
        if split.scheme not in ("http", "https") or not split.hostname:
            raise ValueError("a URL that starts with http:// or https://")
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> OpenLineageSettings:
        if (self.file is None) == (self.url is None):
            raise ValueError("events go to either file or url; give one")
        return self


class Sender:
    """A queue, and the thread that empties it. `put` never waits and nothing here ever raises."""

    def __init__(self, settings: OpenLineageSettings) -> None:
        self._settings = settings
        self._queue: queue.Queue[Callable[[], RunEvent] | None] = queue.Queue(WAITING_EVENTS)
        self._failures = 0
        self._lost = 0
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="openlineage", daemon=True)
        self._thread.start()

    def put(self, make: Callable[[], RunEvent]) -> None:
        """Have an event made and sent; `make` is called on the thread."""
        try:
            self._queue.put_nowait(make)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Send what waits, for `CLOSING_SECONDS` at most."""
        until = time.monotonic() + CLOSING_SECONDS
        with suppress(queue.Full):
            self._queue.put(None, timeout=CLOSING_SECONDS)
        self._thread.join(max(0.0, until - time.monotonic()))
        left = self._lost + sum(1 for make in list(self._queue.queue) if make is not None)
        if left and not self._warned:
            self._warn(f"{left} events were not sent in time")

    def _work(self) -> None:
        client: OpenLineageClient | None = None
        while (make := self._queue.get()) is not None:
            if self._failures >= PATIENCE:
                self._lost += 1
                continue
            try:
                client = client or self._client()
                client.emit(make())
                self._failures = 0
            except Exception as error:
                self._failures += 1
                self._warn(_brief(error))
        if client is not None:
            client.close(0)

    def _client(self) -> OpenLineageClient:
        """The client of the OpenLineage project: its own environment variables (OPENLINEAGE_DISABLED, …) hold too."""
        from openlineage.client.client import OpenLineageClient
        from openlineage.client.transport import Transport
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        given = self._settings
        if given.file is not None:
            path = revealed(given.file) if "://" in given.file else os.path.abspath(os.path.expanduser(given.file))
            if "://" not in path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            transport: Transport = FileTransport(FileConfig(log_file_path=path, append=True))
        else:
            key = os.environ.get(API_KEY)
            options: dict[str, Any] = {
                # Joined as a browser joins them: without the slashes the last part of the URL's path would be dropped.
                "url": f"{(given.url or '').rstrip('/')}/",
                "endpoint": given.endpoint.lstrip("/"),
                "timeout": given.timeout,
                "retry": {"total": 1, "connect": 0, "read": 0},
            }
            if key:
                options["auth"] = {"type": "api_key", "apiKey": key}
            transport = HttpTransport(HttpConfig.from_dict(options))
        return OpenLineageClient(transport=transport)

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            target = self._settings.file or self._settings.url
            sys.stderr.write(f"openlineage: {target}: {what}; the run goes on\n")


def _brief(error: Exception) -> str:
    """One line, without secrets."""
    first = redact_text(str(error)).partition("\n")[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class Teller:
    """What one run tells. Kept by the run's id for as long as the run lasts, so that its stages find it."""

    def __init__(self, settings: OpenLineageSettings, run: str, config: str) -> None:
        self.settings, self.run, self.config = settings, run, config
        self.sender = Sender(settings)

    def execution(self, stage: str | None = None) -> Execution:
        """What the events of the run, or of one of its stages, have in common. Called on the sender's thread."""
        from artifacts.exchange.openlineage import Execution, pipeline_name
        from tasks.execution import code_identity

        code = code_identity()
        path = f"tasks/{BY_NAME[stage].stage.run.__module__.split('.')[1]}" if stage else "flows/pipeline.py"
        return Execution(
            run=self.run,
            pipeline=pipeline_name(self.config),
            stage=stage,
            namespace=self.settings.namespace,
            version=code["version"],
            description=describe(stage) if stage else f"The pipeline of {self.config}",
            code=_code(code["commit"], path),
        )

    def tell(self, stage: str | None, make: Callable[[Execution, str], RunEvent]) -> None:
        """Hand over an event: `make` gets the execution and the time of this call."""
        time = _now()
        self.sender.put(lambda: make(self.execution(stage), time))

    def ended_badly(self, stage: str | None, error: BaseException) -> None:
        """FAIL with the message, or ABORT for what somebody interrupted or cancelled."""

        def make(execution: Execution, time: str) -> RunEvent:
            from openlineage.client.event_v2 import RunState

            from artifacts.exchange.openlineage import failure

            if _is_failure(error):
                return execution.event(RunState.FAIL, time, errorMessage=failure(str(error) or type(error).__name__))
            return execution.event(RunState.ABORT, time, errorMessage=failure(str(error) or "interrupted"))

        self.tell(stage, make)


_tellers: dict[str, Teller] = {}


def told(settings: OpenLineageSettings | None, record: RunRecord, body: Callable[[], Made]) -> Callable[[], Made]:
    """`body`, surrounded by the events of the run; `body` itself where nothing is to be told."""
    if settings is None:
        return body

    def surrounded() -> Made:
        teller = _tellers[record.run] = Teller(settings, record.run, record.config)
        try:
            teller.tell(None, lambda execution, time: execution.event(_state("START"), time))
            result = body()
            teller.tell(None, lambda execution, time: execution.event(_state("COMPLETE"), time))
            return result
        except BaseException as error:
            teller.ended_badly(None, error)
            raise
        finally:
            _tellers.pop(record.run, None)
            teller.sender.close()

    return surrounded


class StageTeller:
    """What one stage tells; says nothing where its run tells nothing."""

    def __init__(self, teller: Teller | None, stage: str) -> None:
        self._teller, self._stage = teller, stage
        self._last: float | None = None

    def progress(self, shown: Progress) -> Progress:
        """A reporter that shows progress as before, and tells it: the first time, then every so many seconds."""
        teller = self._teller
        if teller is None:
            return shown

        def report(done: int, total: int | None, what: str) -> None:
            shown(done, total, what)
            now = time.monotonic()
            if self._last is None or now - self._last >= teller.settings.every:
                self._last = now
                teller.tell(self._stage, lambda execution, time: _running(execution, time, done, total, what))

        return report

    def finished(self, artifact: Artifact, reused: bool) -> None:
        """COMPLETE. A reused artifact is told with its inputs and outputs too, and that nothing was written."""

        def make(execution: Execution, time: str) -> RunEvent:
            from artifacts.exchange.openlineage import completed

            return completed(execution, artifact, time, reused)

        if self._teller is not None:
            self._teller.tell(self._stage, make)


@contextmanager
def stage_events(run: str | None, stage: str, inputs: Mapping[str, Sequence[Artifact]]) -> Iterator[StageTeller]:
    """START of a stage; FAIL or ABORT if the block raises. COMPLETE is for the block to tell (`finished`)."""
    teller = _tellers.get(run or "")
    if teller is not None:
        given = [artifact for artifacts in inputs.values() for artifact in artifacts]
        teller.tell(stage, lambda execution, time: _started(execution, time, given))
    try:
        yield StageTeller(teller, stage)
    except BaseException as error:
        if teller is not None:
            teller.ended_badly(stage, error)
        raise


def _started(execution: Execution, time: str, given: Sequence[Artifact]) -> RunEvent:
    from artifacts.exchange.openlineage import read_by

    return execution.event(_state("START"), time, read_by(given))


def _running(execution: Execution, time: str, done: int, total: int | None, what: str) -> RunEvent:
    from artifacts.exchange.openlineage import ProgressRunFacet

    return execution.event(_state("RUNNING"), time, crawl2chat_progress=ProgressRunFacet(done, what, total))


def _state(name: str) -> Any:
    from openlineage.client.event_v2 import RunState

    return RunState(name)


def _is_failure(error: BaseException) -> bool:
    """Whether the work failed; else it was stopped (Ctrl-C, SIGTERM, cancelled in the UI), or waits for people."""
    stopped = isinstance(error, Waiting) or type(error).__name__ in ("CancelledRun", "PausedRun")
    return isinstance(error, Exception) and not stopped


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe(stage: str) -> str:
    """What a stage does: the first paragraph of its module's docstring, on one line."""
    text = sys.modules[BY_NAME[stage].stage.run.__module__].__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split())


def _code(commit: str, path: str) -> dict[str, str]:
    """OpenLineage's source code location; empty unless the checkout has a remote that a browser can open."""
    repository = _repository()
    if repository is None:
        return {}
    return {"url": repository, "repoUrl": repository, "version": commit, "path": path}


@cache
def _repository() -> str | None:
    from artifacts.urls import address

    asked = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        url = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return address(url) if url.startswith(("http://", "https://")) else None
