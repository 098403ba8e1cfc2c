"""The reward stage: rankings and an SFT model in, a reward model out (Ouyang et al. 2022, section 3.5, appendix C)."""

from __future__ import annotations

from artifacts.tables import CONVERSATIONS, METRICS, MODEL, RANKINGS
from tasks.reward.config import RewardConfig
from tasks.stage import Stage, StageContext, Summary
from tasks.training.launcher import launch
from tasks.training.metrics import write_metrics


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
