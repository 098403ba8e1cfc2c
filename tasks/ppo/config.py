"""The config of the ppo stages; defaults are InstructGPT's where the paper gives a number."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks.stage import StageConfig, outside_recipe
from tasks.training.launcher import LauncherConfig
from tasks.training.shapes import Decay, Precision


class PPOConfig(StageConfig):
    """Ouyang et al. 2022, section 3.5 and appendix C.4: 256k episodes (500 iterations of 512), minibatches of 64, one
    inner epoch, constant rate after a warm-up of 10 iterations from a tenth, EMA .992, no discount, clip .2,
    temperature 1, beta .02, pretraining coefficient 27.8 with 8 pretraining examples an episode."""

    iterations: int = Field(500, ge=1, title="Iterations", description="Each samples `batch` episodes and learns them")
    batch: int = Field(512, ge=1, title="Batch", description="Episodes an iteration, over all ranks")
    minibatch: int = Field(64, ge=1, title="Minibatch", description="Episodes an optimizer step, over all ranks")
    inner_epochs: int = Field(1, ge=1, title="Inner epochs", description="Passes over the episodes of an iteration")
    # On two CPU threads 16 rows at once took two thirds of the time of 64 (256 wide, 4 layers, 256 tokens a row).
    micro_batch: int = Field(
        16, ge=0, title="Micro-batch", description="Episodes (or pretraining rows) a forward pass; 0: the rank's share"
    )
    max_new_tokens: int = Field(1_024, ge=1, title="Longest response", description="Tokens, the end token included")
    max_prompt_tokens: int | None = Field(
        None, ge=1, title="Longest prompt", description="Longer ones are left out; empty: what the context leaves"
    )
    temperature: float = Field(
        1.0, gt=0, title="Temperature", description="Of sampling and of scoring alike; nothing is truncated"
    )
    beta: float = Field(0.02, ge=0, title="Beta", description="Weight of the KL from the reference in a token's reward")
    missing_end_penalty: float = Field(
        0.0, ge=0, title="Missing end", description="Taken off the reward of a response without an end token; 0: none"
    )
    gamma: float = Field(1.0, ge=0, le=1, title="Gamma", description="Discount; 1: none")
    lam: float = Field(0.95, ge=0, le=1, title="Lambda", description="GAE's trade of bias for variance")
    whiten: bool = Field(
        True, title="Whiten", description="Advantages to mean 0 and deviation 1 over an iteration's real tokens"
    )
    clip: float = Field(0.2, gt=0, title="Clip", description="Range of the ratio around 1")
    value_clip: float = Field(
        0.2, ge=0, title="Value clip", description="How far a value may move from that at sampling time; 0: no limit"
    )
    ptx: float = Field(
        27.8,
        ge=0,
        title="Pretraining coefficient",
        description="Times the mean cross-entropy in nats a pretraining token, beside PPO's loss, a mean over response "
        "tokens; 0 reads no pretraining rows",
    )
    ptx_ratio: int = Field(8, ge=1, title="Pretraining ratio", description="Pretraining rows an episode")
    first_row: int = Field(
        0, ge=0, title="First row", description="Where the first step begins to read the pretraining sequences"
    )
    actor_lr: float = Field(
        5e-6, gt=0, title="Actor's rate", description="Peak; the paper trains its 1.3B initial policy at 5e-6"
    )
    critic_lr: float = Field(9e-6, gt=0, title="Critic's rate", description="Peak; the paper: 9e-6, 5e-6 for 175B")
    warmup_iterations: int = Field(
        10, ge=0, title="Warm-up", description="Iterations over which both rates rise from a tenth to their peak"
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.95), title="Betas", description="Adam's decay rates")
    eps: float = Field(1e-8, gt=0, title="Epsilon", description="Adam's epsilon")
    weight_decay: float = Field(0.0, ge=0, title="Weight decay", description="Decoupled; matrices and embeddings only")
    grad_clip: float = Field(1.0, ge=0, title="Gradient clip", description="Largest global gradient norm; 0: none")
    ema: float = Field(
        0.992,
        ge=0,
        lt=1,
        title="EMA",
        description="Decay, an optimizer step, of the average of the policy's weights, which is what is saved; "
        "0: the last weights are saved",
    )
    precision: Precision = Field(
        "auto", title="Precision", description="auto: fp32 on CPUs, bf16 on GPUs; weights and Adam stay fp32 always"
    )
    sample_batch: int = Field(64, ge=1, title="Sampling batch", description="Responses sampled at once, a rank")
    checkpoint_every: int = outside_recipe(
        10, ge=0, title="Checkpoint every", description="Iterations between checkpoints; 0: none"
    )
    launcher: LauncherConfig = Field(LauncherConfig(), title="Launcher", description="How training is started")

    @model_validator(mode="after")
    def _shares(self) -> PPOConfig:
        if self.batch % self.minibatch:
            raise ValueError(f"minibatch ({self.minibatch}) must divide batch ({self.batch})")
        return self

    @property
    def updates_an_iteration(self) -> int:
        """Optimizer steps, of the actor and of the critic alike."""
        return self.inner_epochs * (self.batch // self.minibatch)

    @property
    def rows_a_step(self) -> int:
        """Pretraining rows an optimizer step; 0 without ptx."""
        return self.minibatch * self.ptx_ratio if self.ptx else 0


class PPOWithoutPtxConfig(PPOConfig):
    """The ablation: everything as in PPO-ptx, but no pretraining gradient."""

    ptx: float = Field(
        0.0, ge=0, title="Pretraining coefficient", description="0: no pretraining gradient, which is the ablation"
    )
