"""Config of the stage `reward`."""

from __future__ import annotations

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe
from tasks.training.launcher import LauncherConfig
from tasks.training.shapes import Precision


class RewardConfig(StageConfig):
    """How the reward model is trained; the defaults are InstructGPT's."""

    epochs: int = Field(
        1, ge=1, title="Epochs", description="Passes over the rankings; more than one overfits at once."
    )
    lr: float = Field(9e-6, gt=0, title="Learning rate", description="Peak; a cosine takes it to 10% of it.")
    batch_prompts: int = Field(
        64, ge=1, title="Batch", description="Rankings an optimizer step, each with all its pairs."
    )
    micro_batch: int = Field(
        8, ge=1, title="Micro-batch", description="Rankings a forward pass; all answers of one are in the same pass."
    )
    weight_decay: float = Field(0.0, ge=0, title="Weight decay", description="Of matrices and embeddings.")
    clip: float = Field(1.0, ge=0, title="Clipping", description="Largest norm of the gradient; 0 for none.")
    max_tokens: int | None = Field(
        None, ge=16, title="Longest input", description="Tokens of prompt and answer; empty: the model's context."
    )
    min_prompt_tokens: int = Field(
        16, ge=1, title="Shortest prompt", description="How far a prompt may be cut (from the left) to fit its answers."
    )
    demonstrations: int = Field(
        512,
        ge=1,
        title="Demonstrations",
        description="How many the bias is taken from, so that they score 0 on average.",
    )
    precision: Precision = Field(
        "auto", title="Precision", description="auto: fp32 on CPUs, bf16 on GPUs; weights and Adam stay fp32 always."
    )
    checkpoint_every: int = outside_recipe(
        50, ge=0, title="Checkpoints", description="Optimizer steps between checkpoints; 0 for none."
    )
    launcher: LauncherConfig = Field(LauncherConfig(), title="Launcher", description="How training is started.")
