"""OpenLineage: settings, ends of runs, and receivers that misbehave."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from openlineage.client import event_v2
from prefect.exceptions import CancelledRun
from pydantic import ValidationError

from artifacts.errors import UserError, Waiting
from artifacts.exchange.openlineage import Execution, as_line
from artifacts.redaction import redact_text
from flows import openlineage_events
from flows.config import load_pipeline
from flows.openlineage_events import OpenLineageSettings, Sender, told
from flows.records import start_record
from tests.flows.test_pipeline import write_config
from tests.openlineage_support import check, receiver


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "events go to either file or url"),
        ({"file": "a", "url": "http://h/"}, "events go to either file or url"),
        ({"url": "ftp://h/"}, "openlineage.url: .*starts with http"),
        ({"url": "https://user:hunter22@h/"}, "openlineage.url: .*OPENLINEAGE_API_KEY"),
        ({"url": "https://h/?api_key=hunter22"}, "openlineage.url: .*OPENLINEAGE_API_KEY"),
        ({"file": "a", "every": -1}, "openlineage.every"),
        ({"file": "a", "api_key": "hunter22"}, "openlineage.api_key: no such field"),
    ],
)
def test_wrong_settings_name_their_field_and_no_secret(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_pipeline(write_config(tmp_path, openlineage=given))
    assert "hunter22" not in str(caught.value)


def test_it_is_off_unless_a_config_says_so(tmp_path: Path) -> None:
    assert load_pipeline(write_config(tmp_path)).settings.openlineage is None

    def body() -> int:
        return 3

    assert told(None, start_record("configs/demo.yaml", None), body) is body


def run_body(settings: OpenLineageSettings, error: BaseException | None = None) -> float:
    """Seconds that a run of one event-rich stage takes, which ends with the error."""
    record = start_record("configs/demo.yaml", None)

    def body() -> None:
        with openlineage_events.stage_events(record.run, "dedup", {}) as events:
            report = events.progress(lambda done, total, what: None)
            for number in range(50):
                report(number, 50, "counting")
            if error is not None:
                raise error

    began = time.monotonic()
    told(settings, record, body)()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("a\nb token=hunter22"), "FAIL"),
        (KeyboardInterrupt(), "ABORT"),
        (CancelledRun("in the UI"), "ABORT"),
        (Waiting("for rankings"), "ABORT"),
    ],
)
def test_failures_and_interrupts_are_told_to_a_file(tmp_path: Path, error: BaseException, state: str) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    with pytest.raises(type(error)):
        run_body(OpenLineageSettings(file=str(path), every=3600), error)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("demo", "START"),
        ("demo.dedup", "START"),
        ("demo.dedup", "RUNNING"),
        ("demo.dedup", state),
        ("demo", state),
    ]
    for event in events:
        check(event)
    assert "hunter22" not in path.read_text()
    message = events[-1]["run"]["facets"]["errorMessage"]["message"]
    assert message == ("interrupted" if isinstance(error, KeyboardInterrupt) else redact_text(str(error)))
    assert events[1]["job"]["facets"]["documentation"]["description"].startswith("Dedup: one survivor")


@pytest.mark.parametrize("kind", ["refuses", "fails", "hangs"])
def test_a_bad_receiver_costs_one_line_and_a_few_seconds(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listening, receiver(status=404) as failing:
        listening.bind(("127.0.0.1", 0))
        if kind == "hangs":
            listening.listen(16)  # connections are taken, and never answered
        url = failing.url if kind == "fails" else f"http://127.0.0.1:{listening.getsockname()[1]}"
        seconds = run_body(OpenLineageSettings(url=url, timeout=0.5, every=0))
    complaints = [line for line in capfd.readouterr().err.splitlines() if line.startswith("openlineage:")]
    assert len(complaints) == 1 and url in complaints[0] and "the run goes on" in complaints[0]
    # What is promised is CLOSING_SECONDS; the rest is the machine's own slowness.
    assert seconds < openlineage_events.CLOSING_SECONDS + 10
    assert len(failing.got) == (openlineage_events.PATIENCE if kind == "fails" else 0)


def test_a_full_queue_drops_events_and_never_waits(monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(openlineage_events, "WAITING_EVENTS", 2)
    monkeypatch.setattr(openlineage_events, "CLOSING_SECONDS", 0.2)
    held = threading.Event()
    sender = Sender(OpenLineageSettings(file=str(tmp_path / "events.jsonl")))
    event = Execution("r").event(event_v2.RunState.START, "2026-01-01T00:00:00Z")

    def waiting() -> event_v2.RunEvent:
        held.wait(60)
        return event

    for _ in range(20):
        sender.put(waiting)
    sender.close()
    held.set()
    said = capfd.readouterr().err
    assert "events were not sent in time" in said
    assert int(said.split(": ")[2].split()[0]) >= 17


def test_the_code_s_place_is_that_of_the_remote_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def location(remote: str) -> Any:
        path = tmp_path / remote.replace("/", "_").replace(":", "_")
        subprocess.run(["git", "init", "-q", str(path)], check=True)
        subprocess.run(["git", "-C", str(path), "remote", "add", "origin", remote], check=True)
        monkeypatch.setattr(openlineage_events, "ROOT", path)
        openlineage_events._repository.cache_clear()
        execution = Execution("r", "demo", "dedup", code=openlineage_events._code("c0ffee", "tasks/dedup"))
        event = execution.event(event_v2.RunState.START, "2026-01-01T00:00:00Z")
        check(json.loads(as_line(event)))
        return (event.job.facets or {}).get("sourceCodeLocation")

    found = location("https://user:hunter22@code.example/a/b.git")
    assert (found.url, found.version, found.path) == ("https://code.example/a/b.git", "c0ffee", "tasks/dedup")
    assert location("git@code.example:a/b.git") is None
    openlineage_events._repository.cache_clear()


def test_settings_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="extra"):
        OpenLineageSettings.model_validate({"file": "a", "colour": "red"})
