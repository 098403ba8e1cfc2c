"""What a run shows in Prefect's UI: artifacts of each stage, and of the run as a whole (docs/operations.md)."""

from flows.ui.run import showing
from flows.ui.stage import publish_stage

__all__ = ["publish_stage", "showing"]
