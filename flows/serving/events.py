"""The event that says a stage has built an artifact: automations of a Prefect server can start from it."""

from __future__ import annotations

from prefect.events import emit_event
from prefect.runtime import deployment

from flows.server import embedded
from tasks.execution import Outcome

PUBLISHED = "crawl2chat.artifact.published"
BY = "crawl2chat.deployment"  # label: the deployment whose run has built it


def resource_id(stage: str, recipe: str) -> str:
    """The id of an artifact's resource: `crawl2chat.artifact.<stage>.<recipe>`; `*` for any recipe."""
    return f"crawl2chat.artifact.{stage}.{recipe}"


def announce(outcome: Outcome) -> None:
    """Tell a server that stays that an artifact was built. A reused artifact is no news."""
    if outcome.reused or embedded():
        return
    artifact = outcome.artifact
    emit_event(
        event=PUBLISHED,
        resource={
            "prefect.resource.id": resource_id(artifact.stage, artifact.recipe),
            "prefect.resource.name": artifact.ref,
            "crawl2chat.stage": artifact.stage,
            "crawl2chat.content": artifact.content,
            BY: str(deployment.name or "none"),
        },
    )
