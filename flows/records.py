"""The record of a run: who asked for what, what each stage gave. `<store>/runs/<id>.json`, sealed in the run chain."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.lock import in_use
from artifacts.redaction import redact_override, redact_text
from artifacts.runs import act_as, finish_run, hold_run, load_run, now, record_path, start_run, who
from artifacts.store import Store

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

__all__ = ["RunRecord", "load_run", "new_run_id", "now", "start_record"]


@dataclass
class RunRecord:
    """Written when a run starts and again after every stage, so that a killed run has a record too.

    `chain` is the digest of the run's first entry in the run chain; the last entry holds the SHA-256 of the finished
    record (`artifacts.runs`). `prefect_flow_run` is the id under which Prefect's UI has it, once its flow has begun.
    """

    run: str
    config: str
    overrides: list[str]
    started: str
    finished: str | None = None
    ok: bool = False
    error: str | None = None
    user: str = field(default_factory=who)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    chain: str | None = None
    prefect_flow_run: str | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._alive = ExitStack()  # holds the lock that says so until the record is finished
        self._held = False

    def save(self, store: Store) -> None:
        """Write the record; the first time also start it in the run chain, and seal it there once it is finished."""
        self.prefect_flow_run = self.prefect_flow_run or _flow_run_id()
        if self.chain is None:
            if not self._held:
                self._alive.enter_context(in_use(store, f"run {self.run}"))
                self._alive.enter_context(hold_run(store, self.run))
                self._held = True
            self._write(store)
            self.chain = start_run(store, self.run)
        self._write(store)
        if self.finished:
            finish_run(store, self.run)
            self._alive.close()

    def _write(self, store: Store) -> None:
        value = asdict(self) | {"overrides": [redact_override(given) for given in self.overrides]}
        value["error"] = redact_text(self.error) if self.error else None
        store.write_text(record_path(self.run), json.dumps(value, indent=1) + "\n")

    def result(self) -> dict[str, Any]:
        """The object that `run --json` prints."""
        return {"run": self.run, "ok": self.ok, "stages": self.stages}


def start_record(config: str, overrides: list[str] | None) -> RunRecord:
    """The record of a run that starts now."""
    if creator := _creator():
        act_as(creator)
    return RunRecord(new_run_id(), config, overrides or [], now())


def _creator() -> str | None:
    """Whom Prefect names as the creator of the flow run that this process is in; its open server knows no users."""
    found = _flow_run()
    return found.created_by.display_value if found and found.created_by else None


def _flow_run_id() -> str | None:
    found = _flow_run()
    return str(found.id) if found else None


def _flow_run() -> FlowRun | None:
    if "prefect.context" not in sys.modules:
        return None
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return context.flow_run if context else None


def new_run_id() -> str:
    """Sorts by time; the tail keeps two runs of one second apart."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def report_path(store: Store, name: str) -> Path:
    """Where the report of a run or an artifact is written: in the store, or in the local cache of a remote one."""
    return (store.scratch_root() if store.remote else Path(store.root)) / "reports" / f"{name}.html"
