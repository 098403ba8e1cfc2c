"""The reward stage: rankings and an SFT model in, a reward model out (Ouyang et al. 2022, section 3.5, appendix C)."""

from __future__ import annotations

from pydantic import Field

from artifacts.tables import CONVERSATIONS, METRICS, MODEL, RANKINGS
from tasks.stage import Stage, StageConfig, StageContext, Summary, outside_recipe
from tasks.training.launcher import LauncherConfig, launch
from tasks.training.metrics import write_metrics
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


def run(context: StageContext) -> Summary:
    """Train in a process group of its own; the metrics give held-out pair accuracy with its interval."""
    config: RewardConfig = context.config
    conversations = context.inputs.get("conversations")
    job = {
        "config": config.model_dump(mode="json", exclude={"launcher"}),
        "seed": context.seed,
        "rankings": [str(path) for path in context.input("rankings").files],
        "conversations": [str(path) for path in context.input("conversations").files] if conversations else [],
        "model": str(context.model("model")),
        "target": str(context.folder / "model"),
    }
    found = launch(context, "tasks.reward.train:main", job, config.launcher)
    write_metrics(context.writer("data"), found["rows"])
    account = found["account"]
    return Summary(
        rows_in=account["rows"],
        kept=account["kept"],
        dropped=account["rows"] - account["kept"],
        failed=0,
        reasons=account["reasons"],
        metrics=found["metrics"],
    )


STAGE = Stage(
    name="reward",
    version=2,
    config=RewardConfig,
    reads={"rankings": RANKINGS, "model": MODEL, "conversations": CONVERSATIONS},
    writes={"data": METRICS, "model": MODEL},
    run=run,
    optional=frozenset({"conversations"}),
    gpu=True,
)
