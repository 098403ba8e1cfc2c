"""The record of a run: what was asked, what each stage gave. `<store>/runs/<id>.json`."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from artifacts.errors import UserError
from artifacts.store import Store


@dataclass
class RunRecord:
    """Written when a run starts and again after every stage, so that a killed run has a record too."""

    run: str
    config: str
    overrides: list[str]
    started: str
    finished: str | None = None
    ok: bool = False
    error: str | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)

    def save(self, store: Store) -> None:
        store.write_text(f"runs/{self.run}.json", json.dumps(asdict(self), indent=1) + "\n")

    def result(self) -> dict[str, Any]:
        """The object that `run --json` prints."""
        return {"run": self.run, "ok": self.ok, "stages": self.stages}


def start_record(config: str, overrides: list[str] | None) -> RunRecord:
    """The record of a run that starts now."""
    return RunRecord(new_run_id(), config, overrides or [], now())


def now() -> str:
    """The time in UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def new_run_id() -> str:
    """Sorts by time; the tail keeps two runs of one second apart."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def load_run(store: Store, run: str) -> dict[str, Any]:
    """A run's record, by its id or a unique beginning of it; `latest` is the newest.

    Raises:
        UserError: the store has no such run.
    """
    known = [name.removesuffix(".json") for name in store.list_dir("runs") if name.endswith(".json")]
    if run == "latest" and known:
        run = known[-1]
    matches = [run] if run in known else [name for name in known if name.startswith(run)]
    if len(matches) != 1:
        raise UserError(f"{run!r}: {'no such run' if not matches else 'several runs begin so'} in {store.url}")
    record: dict[str, Any] = json.loads(store.read_text(f"runs/{matches[0]}.json"))
    return record
