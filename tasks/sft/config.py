"""The config of the sft stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe
from tasks.training.launcher import LauncherConfig
from tasks.training.shapes import Decay, Precision


class SftConfig(StageConfig):
    """Ouyang et al. 2022, appendix C.1: Adam .9/.95, residual dropout .2, cosine to 10%, no warm-up; batch 32 and rate
    9.65e-6 for 1.3B; 16 epochs for the SFT models, 2 with 10% pretraining data for the initial policy of PPO."""

    turns: Literal["last", "split", "all"] = Field(
        default="all",
        title="Turns",
        description="all: every answer of a conversation in one sequence; last: the last answer only; "
        "split: a sample an answer, each with what came before it",
    )
    epochs: int = Field(default=2, ge=1, title="Epochs", description="Passes over the conversations")
    lr: float = Field(default=1e-4, gt=0, title="Learning rate", description="Peak")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", title="Schedule", description="No warm-up")
    final_lr: float = Field(
        default=0.1, ge=0, le=1, title="Final rate", description="End of the cosine: share of the peak"
    )
    batch_size: int = Field(default=32, ge=1, title="Batch", description="Samples an optimizer step, over all ranks")
    max_length: int = Field(
        default=0, ge=0, title="Longest", description="Tokens; longer samples are dropped (too_long); 0: the context"
    )
    pretrain_fraction: float = Field(
        default=0.0, ge=0, lt=1, title="Pretraining share", description="Weight of pretraining data in the loss"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, title="Dropout", description="Residual dropout")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.95), title="Betas", description="Adam's decay rates")
    eps: float = Field(default=1e-8, gt=0, title="Epsilon", description="Adam's epsilon")
    weight_decay: float = Field(default=0.0, ge=0, title="Weight decay", description="Decoupled; matrices only")
    clip: float = Field(default=1.0, ge=0, title="Clip", description="Largest global gradient norm; 0: none")
    micro_batch: int = Field(
        default=0, ge=0, title="Micro-batch", description="Samples a rank computes at once; 0: its whole share"
    )
    precision: Precision = Field(
        default="auto", title="Precision", description="auto: fp32 on CPUs, bf16 on GPUs; weights stay fp32"
    )
    eval_every: int = Field(
        default=0, ge=0, title="Evaluate every", description="Steps between held-out losses; 0: once an epoch"
    )
    eval_samples: int = Field(
        default=512, ge=0, title="Held-out samples", description="The first so many are used; 0: none"
    )
    checkpoint_every: int = outside_recipe(
        100, ge=0, title="Checkpoint every", description="Steps between checkpoints; 0: none"
    )
    launcher: LauncherConfig = Field(default=LauncherConfig(), title="Launcher", description="How training is started")
