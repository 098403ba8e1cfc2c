"""The automations of a service: runs of dead processes become Crashed; a new `mix` artifact may start training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.config import Pipeline
from flows.server import HEARTBEAT_SECONDS
from flows.serving import events

OURS = "crawl2chat"
# Two heartbeats may be lost on their way; a third one is due before this.
SILENCE = timedelta(seconds=3 * HEARTBEAT_SECONDS + 5)
# From being handed to a worker to running: what a process takes to start on a busy machine, and some more.
STARTING = timedelta(seconds=105)

_RUN = "prefect.flow-run."
_ENDED = {_RUN + name for name in ("Completed", "Failed", "Crashed", "Cancelled", "Reused")}
_WAITING = {_RUN + name for name in ("Scheduled", "Late", "AwaitingRetry", "Paused", "Suspended", "Resuming")}


def wanted(pipelines: Mapping[str, Pipeline], deployments: Mapping[str, UUID]) -> list[AutomationCore]:
    """The automations of these pipelines, by name; `deployments` are the ids of the pipelines' deployments, by name."""
    return [_silent(), _never_started(), *(_train(p, name, deployments[name]) for name, p in pipelines.items())]


def _silent() -> AutomationCore:
    return AutomationCore(
        name=f"{OURS}: runs of dead processes are Crashed",
        description=f"A run that has sent no heartbeat for {SILENCE.seconds} seconds has no process any more.",
        tags=[OURS],
        trigger=_proactive({_RUN + "heartbeat"}, {_RUN + "heartbeat"} | _ENDED | _WAITING, SILENCE),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message="The process of this run is gone: no heartbeat. Retry goes on from here.",
            )
        ],
    )


def _never_started() -> AutomationCore:
    return AutomationCore(
        name=f"{OURS}: runs that never started are Crashed",
        description=f"A run was handed to a worker and did not start within {STARTING.seconds} seconds.",
        tags=[OURS],
        trigger=_proactive({_RUN + "Pending"}, {_RUN + "Running", _RUN + "Cancelling"} | _ENDED | _WAITING, STARTING),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="The process of this run did not start. Retry starts it."
            )
        ],
    )


def _proactive(after: set[str], expect: set[str], within: timedelta) -> EventTrigger:
    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        after=after,
        expect=expect,
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _train(pipeline: Pipeline, name: str, deployment: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"{OURS}: {name} goes on when its mix is new",
        description="Runs the pipeline, which reuses the data stages and trains. Switch: automations.train_on_new_mix.",
        tags=[OURS],
        enabled=pipeline.settings.automations.train_on_new_mix,
        trigger=EventTrigger(
            match={"prefect.resource.id": events.resource_id("mix", "*"), events.BY: [name, f"{name}-mix"]},
            expect={events.PUBLISHED},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment)],
    )


def apply(client: SyncPrefectClient, automations: list[AutomationCore]) -> None:
    """Create or update ours, and delete those of ours that are not wanted any more."""
    present = {found.name: found for found in client.read_automations() if OURS in found.tags}
    for automation in automations:
        found = present.pop(automation.name, None)
        if found is None:
            client.create_automation(automation)
        elif AutomationCore.model_validate(found.model_dump()) != automation:
            client.update_automation(found.id, automation)
    for left in present.values():
        client.delete_automation(left.id)
