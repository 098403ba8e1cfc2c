"""`up --no-worker`: a worker of Prefect's own, which shares nothing with the service but its address, runs a stage."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.store import Store
from tests.serving.service import Up, environment_of, poll

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def other_machine(home: Path, api: str, pool: str) -> Iterator[Path]:
    """`prefect worker start` as on another machine: a home of its own, and the API's address. Yields its log."""
    home.mkdir()
    log = home / "worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "prefect", "worker", "start", "--pool", pool],
            env=environment_of(home, PREFECT_API_URL=api, PREFECT_WORKER_QUERY_SECONDS="2"),
            stdout=stream,
            stderr=stream,
            cwd=home,
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_a_stage_runs_on_a_worker_elsewhere(tmp_path: Path, small: Path) -> None:
    up = Up(tmp_path, [str(small / "pipeline.yaml")], "--no-worker")
    try:
        up.wait()
        assert "worker       none: prefect worker start --pool cpu|gpu" in up.said()
        pools = {name: one["work_pool_name"] for name, one in up.deployments().items()}
        assert pools["small-ingest"] == pools["small-mix"] == "cpu"
        assert pools["small-pretrain"] == pools["small"] == "gpu"
        run = up.start("small-ingest")
        with other_machine(tmp_path / "elsewhere", f"http://127.0.0.1:{up.port}/api", "cpu") as log:
            assert up.until(run)[0] == "COMPLETED", f"{up.state(run)}\n{log.read_text()}"
        assert [artifact.stage for artifact in Store(str(up.store)).artifacts()] == ["ingest"]
        assert not list((tmp_path / "elsewhere").glob("*.db"))  # it used no server of its own
        assert up.signal(signal.SIGTERM) == 0
        poll(lambda: not up.processes(), 30, "no process left")
    finally:
        up.kill_all()


def test_prefect_yaml_names_what_is_there() -> None:
    import yaml

    import flows.deployments
    from flows.config import load_pipeline

    raw = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (step,) = raw["pull"]
    assert list(step) == ["flows.serving.folder.enter"]
    assert {one["work_pool"]["name"] for one in raw["deployments"]} == {"cpu", "gpu"}
    for one in raw["deployments"]:
        path, _, flow = one["entrypoint"].partition(":")
        assert (ROOT / path).exists() and getattr(flows.deployments, flow).name == flow
        given = one["parameters"]
        stages = [node.name for node in load_pipeline(str(ROOT / given["config"])).nodes]
        assert {given[key] for key in ("stage", "until") if key in given} <= set(stages)
