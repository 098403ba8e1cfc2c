"""One service through its life: started, found, scheduling, cancelled in, killed in parts, stopped.

The tests run in order and share the service; each leaves it well.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.audit.verify import verify
from artifacts.store import Store
from flows.config import load_pipeline
from tests.serving.service import Up, poll

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc"),
]

CANCEL_SECONDS = 15
CRASHED_SECONDS = 120


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, small: Path, long: Path) -> Iterator[Up]:
    config = small / "pipeline.yaml"
    raw = yaml.safe_load(config.read_text())
    raw["schedules"] = [
        {"name": "every minute", "cron": "* * * * *", "stage": "ingest"},
        {"name": "new year", "cron": "0 0 1 1 *", "timezone": "Europe/Zurich", "until": "mix"},
    ]
    raw["automations"] = {"train_on_new_mix": True}
    config.write_text(yaml.safe_dump(raw))
    folder = tmp_path_factory.mktemp("up")
    shutil.copytree(small / "store", folder / "store")
    service = Up(folder, [str(config), str(long / "pipeline.yaml")])
    try:
        yield service.wait()
    finally:
        service.kill_all()


def test_it_says_where_everything_is(up: Up) -> None:
    said = up.said()
    names = list(up.deployments())
    for line in (f"http://127.0.0.1:{up.port}", str(up.store), str(up.home), f"{len(names)} ({len(names)} written)"):
        assert line in said
    assert "small-ingest" in said.split("next runs", 1)[1]
    settings = up.client.get(f"http://127.0.0.1:{up.port}/ui-settings").json()
    assert settings["api_url"] == f"http://127.0.0.1:{up.port}/api"
    assert "<html" in up.client.get(f"http://127.0.0.1:{up.port}/", follow_redirects=True).text.lower()
    foreign = up.client.get("health", headers={"Origin": "http://elsewhere.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_every_stage_and_pipeline_is_a_deployment(up: Up, small: Path, long: Path) -> None:
    wanted = set()
    for folder in (small, long):
        pipeline = load_pipeline(str(folder / "pipeline.yaml"))
        wanted |= {pipeline.name, *(f"{pipeline.name}-{node.name}" for node in pipeline.nodes)}
    found = up.deployments()
    assert set(found) == wanted
    assert {one["work_pool_name"] for one in found.values()} == {"crawl2chat"}
    (schedule,) = found["small"]["schedules"]
    assert schedule["schedule"] == {"cron": "0 0 1 1 *", "timezone": "Europe/Zurich", "day_or": True}
    assert schedule["parameters"] == {"until": "mix"}
    limits = {one["name"]: one["limit"] for one in up.post("v2/concurrency_limits/filter", limit=100)}
    assert limits["gpu"] == limits["write-ingest"] == limits["write-ppo"] == 1
    enabled = {one["name"]: one["enabled"] for one in up.post("automations/filter")}
    assert enabled == {
        "crawl2chat: runs of dead processes are Crashed": True,
        "crawl2chat: runs that never started are Crashed": True,
        "crawl2chat: small goes on when its mix is new": True,
        "crawl2chat: long goes on when its mix is new": False,
    }


def test_a_second_one_finds_the_first(up: Up, small: Path, long: Path) -> None:
    def second(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.cli", "up", str(small / "pipeline.yaml"), *options]
        return subprocess.run(command, env=up.environment, capture_output=True, text=True, timeout=120)

    same = second("--port", str(up.port))
    assert (same.returncode, same.stderr) == (0, "")
    assert f"already running: http://127.0.0.1:{up.port} (process {up.process.pid}," in same.stdout
    assert str(long / "pipeline.yaml") in same.stdout
    elsewhere = second("--port", "1")
    assert elsewhere.returncode == 2 and f"served at http://127.0.0.1:{up.port} already" in elsewhere.stderr


def training(up: Up) -> list[int]:
    """Processes of training groups."""
    return [pid for pid, command in up.processes().items() if "-m tasks.training.worker" in command]


def runs_of(up: Up, deployment: str) -> list[dict[str, Any]]:
    wanted = up.deployments()[deployment]["id"]
    found: list[dict[str, Any]] = up.post("flow_runs/filter", deployments={"id": {"any_": [wanted]}})
    return found


def test_a_new_mix_is_told_and_starts_the_pipeline_that_asked_for_it(up: Up) -> None:
    run = up.start("small-mix", force=True)
    assert up.until(run)[0] == "COMPLETED", up.state(run)

    def told() -> list[tuple[str, str]]:
        events = up.post("events/filter", filter={"event": {"name": ["crawl2chat.artifact.published"]}})["events"]
        labels = [event["resource"] for event in events]
        return [(label["crawl2chat.stage"], label["crawl2chat.deployment"]) for label in labels]

    poll(lambda: ("mix", "small-mix") in told(), 300, "an event")
    (started,) = poll(lambda: [one for one in runs_of(up, "small") if not one["auto_scheduled"]], 300, "a run of it")
    assert up.until(started["id"], "RUNNING")[0] == "RUNNING", up.state(started["id"])


def test_a_cancelled_training_ends_with_all_its_processes(up: Up) -> None:
    run = next(one for one in runs_of(up, "small") if not one["auto_scheduled"])["id"]
    poll(lambda: training(up), 300, "training processes")
    (engine,) = [parent(pid) for pid in training(up)]
    began = time.monotonic()
    up.cancel(run)
    poll(lambda: not training(up), CANCEL_SECONDS, "training processes gone")
    poll(lambda: engine not in up.processes(), CANCEL_SECONDS, "run's process gone")
    assert time.monotonic() - began < CANCEL_SECONDS
    assert up.until(run)[0] == "CANCELLED", up.state(run)
    assert up.drafts() == []


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pool(up: Up) -> list[int]:
    """Processes of pools that work on shards."""
    return [pid for pid, command in up.processes().items() if "spawn_main" in command]


DEAD: dict[str, tuple[str, float]] = {}


def test_a_worker_and_its_run_are_killed(up: Up) -> None:
    """What becomes of the run is seen below, when there has been time."""
    run = up.start("small-pretrain")
    up.until(run, "RUNNING")
    poll(lambda: training(up), 300, "training processes")
    worker, (engine,) = up.pid_of("flows.serving.worker"), [parent(pid) for pid in training(up)]
    os.kill(worker, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)
    DEAD["run"] = (run, time.time())
    poll(lambda: not training(up), 30, "training processes gone")
    poll(lambda: "the worker has ended (SIGKILL); started again" in up.said(), 30, "up says so")


def test_a_run_outlives_its_server_and_can_be_cancelled(up: Up) -> None:
    run = up.start("long-ingest", workers=2)
    assert up.until(run, "RUNNING")[0] == "RUNNING", up.state(run)
    poll(lambda: len(pool(up)) >= 2, 300, "a pool of processes")
    server = up.pid_of("flows.serving.server")
    os.kill(server, signal.SIGKILL)
    socket.create_connection(("127.0.0.1", up.port), 5).close()  # refused, a scheduled run that starts now would fail
    poll(lambda: up.state(run)[0], 300, "the server is back")
    assert up.pid_of("flows.serving.server") != server
    assert up.state(run)[0] == "RUNNING"
    assert len(pool(up)) >= 2
    began = time.monotonic()
    up.cancel(run)
    poll(lambda: not pool(up), CANCEL_SECONDS, "pool gone")
    assert time.monotonic() - began < CANCEL_SECONDS
    assert up.until(run)[0] == "CANCELLED", up.state(run)
    assert up.drafts() == []


def test_a_cron_schedule_starts_runs_by_itself(up: Up) -> None:
    def done() -> list[str]:
        found = runs_of(up, "small-ingest")
        return [one["name"] for one in found if one["auto_scheduled"] and one["state_type"] == "COMPLETED"]

    names = poll(done, 400, "a scheduled run has completed")
    assert all(name.startswith("ingest of small 20") for name in names), names


def test_the_killed_run_is_crashed_within_two_minutes_and_a_retry_goes_on(up: Up) -> None:
    run, killed = DEAD["run"]
    state, message = up.until(run)
    assert state == "CRASHED" and "process of this run is gone" in message
    ended = datetime.fromisoformat(up.client.get(f"flow_runs/{run}").json()["end_time"])
    assert ended.timestamp() - killed < CRASHED_SECONDS
    up.post(f"flow_runs/{run}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)
    assert up.until(run, "RUNNING")[0] == "RUNNING"
    poll(lambda: training(up), 300, "training processes")


def test_ctrl_c_leaves_no_process_and_no_half_artifact(up: Up) -> None:
    run, _ = DEAD["run"]
    before = up.processes()
    assert len(before) >= 4  # server, worker, run, training
    began = time.monotonic()
    assert up.signal(signal.SIGINT) == 0
    took = time.monotonic() - began
    assert up.processes() == {}
    assert took < 30, took
    assert up.said().endswith("stopped\n")
    assert up.drafts() == []
    assert verify(Store(str(up.store)), None).ok
    with closing(sqlite3.connect(up.home / "prefect.db")) as database:
        states = (
            "SELECT run.name, state.type, state.message FROM flow_run AS run JOIN flow_run_state AS state"
            " ON state.id = run.state_id WHERE run.deployment_id IS NOT NULL"
            " AND state.type NOT IN ('SCHEDULED', 'COMPLETED', 'CANCELLED', 'CRASHED')"
        )
        assert database.execute(states).fetchall() == []
        found = database.execute("SELECT state_type FROM flow_run WHERE id = ?", [run.replace("-", "")]).fetchall()
        found = found or database.execute("SELECT state_type FROM flow_run WHERE id = ?", [run]).fetchall()
        assert found == [("CRASHED",)]


def test_a_killed_one_takes_everything_with_it_and_the_next_finds_all_of_it(up: Up, small: Path, long: Path) -> None:
    configs = [str(small / "pipeline.yaml"), str(long / "pipeline.yaml")]
    second = Up(up.folder, configs, port=up.port)
    third = None
    try:
        poll(lambda: second.said().count("Ctrl-C stops") == 2, 400, "the second is ready")
        assert "15 (0 written)" in second.said()
        run = second.start("small-pretrain")
        poll(lambda: training(second), 400, "training processes")
        second.process.kill()
        second.process.wait()
        poll(lambda: not second.processes(), 60, f"no process left: {second.processes()}")
        assert second.drafts() == []
        third = Up(up.folder, configs, port=up.port)
        poll(lambda: third.said().count("Ctrl-C stops") == 3, 400, "the third is ready")
        assert third.until(run)[0] == "CRASHED", third.state(run)
        assert third.signal(signal.SIGTERM) == 0
        assert third.processes() == {}
        assert verify(Store(str(up.store)), None).ok
    finally:
        for service in (second, third):
            if service is not None:
                service.kill_all()
