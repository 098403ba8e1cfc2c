"""Puts on a Prefect server what a service consists of: work pools, limits, deployments with schedules, automations.

Everything is compared first. What has not changed is not touched: Prefect deletes the runs that a deployment has
scheduled whenever it is written, and those that fell due while the service was down are to happen late, not never.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.config import Pipeline
from flows.deployments import Deployment, Schedule, deployments_of
from flows.registry import BY_NAME
from flows.serving import automations
from flows.serving.automations import OURS
from flows.serving.limits import GPU, writer
from flows.serving.settings import RUN_ENVIRONMENT

POOL, CPU_POOL, GPU_POOL = "crawl2chat", "cpu", "gpu"
_ANCHOR = datetime.fromisoformat(
    "2020-01-01T00:00:00+00:00"
)  # intervals count from here, so restarts do not shift them


@dataclass(frozen=True)
class Applied:
    """What is on the server now: names of the deployments, and how many were written and removed."""

    deployments: list[str]
    written: int
    removed: int
    schedules: int


def apply(pipelines: Mapping[str, Pipeline], store_url: str, folder: str, *, one_pool: bool) -> Applied:
    """Make the server of PREFECT_API_URL serve these pipelines.

    Args:
        pipelines: by name.
        folder: where runs look for relative paths.
        one_pool: all in the pool of this machine's worker; else stages on accelerators go to the pool `gpu`, others to
            `cpu`.
    """
    described = deployments_of(list(pipelines.values()), store_url)
    with get_client(sync_client=True) as client:
        for pool in [POOL] if one_pool else [CPU_POOL, GPU_POOL]:
            _ensure_pool(client, pool)
        _ensure_limits(client)
        present = {found.name: found for found in _ours(client)}
        ids, written = {}, 0
        for deployment in described:
            pool = POOL if one_pool else GPU_POOL if deployment.gpu else CPU_POOL
            found = present.pop(deployment.name, None)
            if found is not None and found.version == _digest(deployment, pool, folder):
                ids[deployment.name] = found.id
            else:
                ids[deployment.name] = _write(client, deployment, pool, folder)
                written += 1
        for left in present.values():
            client.delete_deployment(left.id)
        automations.apply(client, automations.wanted(pipelines, ids))
    active = sum(schedule.active for deployment in described for schedule in deployment.schedules)
    return Applied([f"{one.flow}/{one.name}" for one in described], written, len(present), active)


def next_runs(limit: int = 3) -> list[tuple[datetime, str]]:
    """The next runs that the server has scheduled: when, and of which deployment."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[OURS]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=limit,
        )
        names = {found.id: found.name for found in _ours(client)}
    return [
        (run.expected_start_time, names[run.deployment_id])
        for run in runs
        if run.expected_start_time is not None and run.deployment_id in names
    ]


def _ours(client: SyncPrefectClient) -> list[DeploymentResponse]:
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[OURS]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=wanted, limit=200, offset=len(found)):
        found += page
    return found


def _ensure_pool(client: SyncPrefectClient, name: str) -> None:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=ProcessWorker.get_default_base_job_template())
        )


def _ensure_limits(client: SyncPrefectClient) -> None:
    """Create the limits that are missing. One that was changed in the UI (two GPUs: 2) stays as it is."""
    for name in [GPU, *(writer(stage) for stage in BY_NAME)]:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def _write(client: SyncPrefectClient, deployment: Deployment, pool: str, folder: str) -> UUID:
    return client.create_deployment(
        flow_id=client.create_flow_from_name(deployment.flow),
        name=deployment.name,
        version=_digest(deployment, pool, folder),
        description=deployment.description,
        tags=[OURS, *deployment.tags],
        work_pool_name=pool,
        # By module, not by file: the run's folder is the user's, the flows are where this program is installed.
        entrypoint=deployment.entrypoint.removesuffix(".py").replace(".py:", ".").replace("/", "."),
        pull_steps=[{"flows.serving.folder.enter": {"folder": folder}}],
        parameters=deployment.parameters,
        parameter_openapi_schema=deployment.parameter_openapi_schema,
        enforce_parameter_schema=True,
        job_variables={"env": dict(RUN_ENVIRONMENT)},
        schedules=[_schedule(schedule) for schedule in deployment.schedules],
        concurrency_limit=deployment.concurrency_limit,
        paused=False,
    )


def _schedule(schedule: Schedule) -> DeploymentScheduleCreate:
    when: CronSchedule | IntervalSchedule
    if schedule.cron is not None:
        when = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    else:
        assert schedule.interval is not None
        when = IntervalSchedule(
            interval=timedelta(seconds=schedule.interval), anchor_date=_ANCHOR, timezone=schedule.timezone
        )
    return DeploymentScheduleCreate(
        schedule=when, active=schedule.active, parameters=schedule.parameters, slug=schedule.slug
    )


def _digest(deployment: Deployment, pool: str, folder: str) -> str:
    """Changes when what is written to the server would."""
    what: list[Any] = [asdict(deployment), pool, folder, RUN_ENVIRONMENT]
    return blake2b(json.dumps(what, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
