"""The config of the pretrain stage; defaults are the demo's sizes and GPT-3's optimizer settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.stage import StageConfig, outside_recipe
from tasks.training.launcher import LauncherConfig
from tasks.training.shapes import Decay, ModelConfig, Precision


class PretrainConfig(StageConfig):
    """Brown et al. 2020, appendix B: Adam with betas .9 and .95, eps 1e-8, global norm clipped at 1, weight decay .1,
    linear warm-up, cosine to 10%."""

    model: ModelConfig = Field(ModelConfig(), title="Model", description="Architecture and size")
    steps: int | None = Field(
        None, ge=1, title="Steps", description="Optimizer steps; null: one pass over the sequences in their order"
    )
    batch_tokens: int = Field(
        8_192, ge=1, title="Batch tokens", description="Tokens an optimizer step, over all ranks; whole sequences"
    )
    lr: float = Field(1e-3, gt=0, title="Learning rate", description="Peak; GPT-3: 6e-4 (125M) to 6e-5 (175B)")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", title="Schedule", description="After the warm-up: cosine down to `final_lr`, or constant"
    )
    final_lr: float = Field(0.1, ge=0, le=1, title="Final rate", description="End of the cosine: share of the peak")
    warmup_tokens: int = Field(
        65_536, ge=0, title="Warm-up tokens", description="Linear rise of the rate; GPT-3: 375 million tokens"
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.95), title="Betas", description="Adam's decay rates")
    eps: float = Field(1e-8, gt=0, title="Epsilon", description="Adam's epsilon")
    weight_decay: float = Field(0.1, ge=0, title="Weight decay", description="Decoupled; matrices and embeddings only")
    clip: float = Field(1.0, ge=0, title="Clip", description="Largest global gradient norm; 0: none")
    micro_batch: int = Field(
        0, ge=0, title="Micro-batch", description="Sequences a rank computes at once; 0: its whole share of the batch"
    )
    precision: Precision = Field(
        "auto", title="Precision", description="auto: fp32 on CPUs, bf16 on GPUs; weights and Adam stay fp32 always"
    )
    eval_every: int = Field(
        0, ge=0, title="Evaluate every", description="Steps between held-out losses; 0: at the end only"
    )
    eval_sequences: int = Field(
        256, ge=0, title="Held-out sequences", description="The first so many held-out sequences are used; 0: none"
    )
    checkpoint_every: int = outside_recipe(
        100, ge=0, title="Checkpoint every", description="Steps between checkpoints; 0: none"
    )
    launcher: LauncherConfig = Field(LauncherConfig(), title="Launcher", description="How training is started")
