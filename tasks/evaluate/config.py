"""Config of the stage `evaluate`."""

from __future__ import annotations

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe
from tasks.training.launcher import LauncherConfig


class EvaluateConfig(StageConfig):
    """How much is measured."""

    prompts: int = Field(128, ge=2, title="Prompts", description="Held-out prompts that the policies answer.")
    answers: int = Field(1, ge=1, title="Answers", description="Answers a prompt and policy, with equal seeds.")
    max_new_tokens: int = Field(64, ge=1, title="Longest answer", description="In tokens.")
    temperature: float = Field(1.0, ge=0, title="Temperature", description="Of the answers; PPO trains at 1.")
    heldout_rows: int = Field(
        128, ge=0, title="Held-out sequences", description="Rows of the mix's held-out table to take the loss on."
    )
    data: list[str] = outside_recipe(
        [], title="Evaluation sets", description="Manifests, paths or URLs of multiple-choice and cloze sets (JSONL)."
    )
    items: int = Field(200, ge=1, title="Items", description="How many of each evaluation set, chosen by hash.")
    batch_size: int = Field(32, ge=1, title="Batch", description="Rows a forward pass.")
    launcher: LauncherConfig = Field(LauncherConfig(), title="Launcher", description="How the worker is started.")
