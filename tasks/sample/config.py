"""Config of the stage `sample`."""

from __future__ import annotations

from pydantic import Field

from tasks.stage import StageConfig
from tasks.training.launcher import LauncherConfig
from tasks.training.shapes import Precision, Split


class SampleConfig(StageConfig):
    """Which prompts are answered, and how."""

    prompts: int | None = Field(
        256, ge=1, title="Prompts", description="At most so many, in the order of a hash of prompt and seed; empty: all"
    )
    split: Split = Field(
        "all", title="Split", description="Prompts of this split; the samples carry it on to the rankings"
    )
    responses: int = Field(4, ge=2, le=9, title="Responses", description="Responses a prompt; InstructGPT: 4 to 9")
    max_new_tokens: int = Field(64, ge=1, title="Longest response", description="Tokens, the end token included")
    max_prompt_tokens: int | None = Field(
        None, ge=1, title="Longest prompt", description="Longer ones are left out; empty: what the context leaves"
    )
    temperature: float = Field(
        1.0, gt=0, title="Temperature", description="1 samples from the model as it is; nothing is truncated"
    )
    precision: Precision = Field("auto", title="Precision", description="auto: fp32 on CPUs, bf16 on GPUs")
    batch_size: int = Field(64, ge=1, title="Batch", description="Responses computed at once, a rank")
    launcher: LauncherConfig = Field(LauncherConfig(), title="Launcher", description="How the workers are started")
