"""Schedules of a config: what is refused, with its place, and what the deployments get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.schema_tools.validation import validate

from artifacts.errors import UserError
from artifacts.store import Store
from flows.config import load_pipeline
from flows.deployments import Deployment, Schedule, deployments_of
from flows.planning import plan

SECTIONS = {"dedup": {}, "quality": {"alpha": 1.0}, "sample": {}}


def write(folder: Path, *schedules: dict[str, Any]) -> str:
    path = folder / "timed.yaml"
    path.write_text(yaml.safe_dump({"name": "timed", **SECTIONS, "schedules": list(schedules)}))
    return str(path)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"cron": "61 * * * *"}, "schedules.0.cron: Value error, not a cron expression of five fields"),
        ({"cron": "@daily"}, "schedules.0.cron: "),
        ({"cron": "0 3 * * 5L"}, "schedules.0.cron: "),
        ({"interval": "6x"}, "schedules.0.interval: "),
        ({"interval": 5}, "schedules.0.interval: "),
        ({"interval": True}, "schedules.0.interval: "),
        ({"cron": "0 3 * * *", "timezone": "Europe/Atlantis"}, "schedules.0.timezone: "),
        ({}, "schedules.0: Value error, a schedule has either cron or interval"),
        ({"cron": "0 3 * * *", "interval": "6h"}, "schedules.0: "),
        ({"cron": "0 3 * * *", "every": 2}, "schedules.0.every: no such field"),
        ({"cron": "0 3 * * *", "stage": "mix"}, "schedules.0.stage: this config has no stage 'mix'"),
        ({"cron": "0 3 * * *", "until": "mix"}, "schedules.0.until: this config has no stage 'mix'"),
        ({"cron": "0 3 * * *", "stage": "dedup", "until": "dedup"}, "schedules.0: "),
        ({"cron": "0 3 * * *", "set": ["quality.alpha"]}, "schedules.0.set: "),
        ({"cron": "0 3 * * *", "set": ["quality.alpha=-1"]}, "schedules.0.set: quality.alpha: Input should be greater"),
        ({"cron": "0 3 * * *", "set": ["quality.alpa=1"]}, "schedules.0.set: quality.alpa: no such field"),
        ({"cron": "0 3 * * *", "set": ["name=x"]}, "schedules.0.set: name=x: a schedule sets fields of"),
        (
            {"cron": "0 3 * * *", "stage": "dedup", "set": ["quality.alpha=2"]},
            "schedules.0.set: quality.alpha=2: a schedule sets fields of dedup, and seed, runner, workers",
        ),
    ],
)
def test_a_wrong_schedule_is_named_with_its_place(tmp_path: Path, schedule: dict[str, Any], message: str) -> None:
    config = write(tmp_path, schedule)
    with pytest.raises(UserError) as refused:
        load_pipeline(config)
    assert str(refused.value).startswith(f"{config}: {message}")


def test_two_schedules_of_one_name(tmp_path: Path) -> None:
    config = write(tmp_path, {"name": "Nightly", "cron": "0 3 * * *"}, {"name": "nightly", "interval": 3600})
    with pytest.raises(UserError, match=r"schedules\.1\.name: an earlier schedule is called 'nightly' too"):
        load_pipeline(config)


@pytest.mark.parametrize(
    ("interval", "seconds"), [(90, 90), ("90", 90), ("2m", 120), ("6h", 21_600), ("1.5d", 129_600), ("2w", 1_209_600)]
)
def test_intervals(tmp_path: Path, interval: Any, seconds: float) -> None:
    assert load_pipeline(write(tmp_path, {"interval": interval})).settings.schedules[0].seconds == seconds


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 1-5 * JAN MON-FRI", "0 0 1,15 * sun", "0 0 L * *", "0 0 * * 5#2"])
def test_prefect_takes_every_cron_that_is_let_through(tmp_path: Path, cron: str) -> None:
    assert load_pipeline(write(tmp_path, {"cron": cron})).settings.schedules[0].cron == cron
    assert CronSchedule(cron=cron, timezone="Europe/Zurich").cron == cron


def test_schedules_go_to_their_deployments_with_what_they_override(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        {"name": "Nightly run", "cron": "0 3 * * *", "timezone": "Europe/Zurich", "set": ["quality.alpha=2", "seed=7"]},
        {"interval": "6h", "stage": "dedup", "set": ["dedup.threshold=0.7"], "active": False},
        {"cron": "30 4 * * sun", "until": "quality", "set": ["sample.prompts=null"]},
    )
    found = {f"{one.flow}/{one.name}": one for one in deployments_of([load_pipeline(config)], "./store")}
    assert found["stage/timed-dedup"].schedules == [
        Schedule("interval-2", "UTC", None, 21_600.0, False, {"settings": {"threshold": 0.7}})
    ]
    nightly, weekly = found["pipeline/timed"].schedules
    assert nightly == Schedule(
        "nightly-run", "Europe/Zurich", "0 3 * * *", None, True, {"seed": 7, "quality": {"alpha": 2.0}}
    )
    assert (weekly.slug, weekly.parameters["until"]) == ("cron-3", "quality")
    assert "prompts" not in weekly.parameters["sample"]
    assert found["stage/timed-quality"].schedules == []
    for deployment in found.values():
        for schedule in deployment.schedules:
            check(deployment, schedule)


def check(deployment: Deployment, schedule: Schedule) -> None:
    """As the server does when a deployment is made."""
    given = {**deployment.parameters, **schedule.parameters}
    validate(given, deployment.parameter_openapi_schema, raise_on_error=True)


def test_a_schedule_changes_no_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    without = [step.row() for step in plan(load_pipeline("configs/demo.yaml"), store)]
    schedules = "schedules=[{cron: '0 3 * * *', set: ['quality.alpha=2']}]"
    assert [step.row() for step in plan(load_pipeline("configs/demo.yaml", [schedules]), store)] == without
    assert without[0]["recipe"] is not None
