"""The evaluate stage: the PPO policy against the SFT policy it came from, on prompts and pages that neither has seen.

As InstructGPT looks at it (Ouyang et al. 2022, sections 3.6 and 4): is the policy preferred, how far has it moved, and
what does it cost elsewhere (the alignment tax: loss on pretraining text and accuracy on public sets, with and without
the pretraining gradients).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from artifacts.errors import UserError
from artifacts.sources import Source, resolve_sources
from artifacts.tables import COMPARISONS, CONVERSATIONS, METRICS, MODEL, SEQUENCES
from tasks.evaluate.choices import read_items
from tasks.evaluate.config import EvaluateConfig
from tasks.stage import Stage, StageContext, Summary
from tasks.training.launcher import launch
from tasks.training.metrics import Metric, write_metrics
from tasks.training.prompts import tokenizer_bytes

# Role of a model in the figures, and the input that it is. The baseline comes last: it scores the others' answers.
ROLES = {"ppo": "model", "ppo_without_ptx": "ablation", "pretrained": "pretrained", "sft": "baseline"}


def _sources(config: EvaluateConfig) -> list[Source]:
    return resolve_sources(config.data, "evaluation") if config.data else []


def run(context: StageContext) -> Summary:
    """Measure all models that were given; `comparisons` holds the answers side by side with their rewards."""
    config: EvaluateConfig = context.config
    sets = [read_items(source, config.items, context.seed) for source in context.sources]
    for source, given in zip(context.sources, sets, strict=True):
        if not given.items:
            raise UserError(f"evaluate: {source.name} holds no item of a known form{given.first_problem}")
    roles = {role: name for role, name in ROLES.items() if context.inputs.get(name)}
    for name in (*roles.values(), "reward_model"):
        if tokenizer_bytes(context.model(name)) != tokenizer_bytes(context.model("baseline")):
            raise UserError(f"evaluate: the inputs 'baseline' and {name!r} have different tokenizers")
    job: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"launcher", "data"}),
        "seed": context.seed,
        "models": {role: str(context.model(name)) for role, name in roles.items()},
        "reward_model": str(context.model("reward_model")),
        "conversations": [str(path) for path in context.input("conversations").files],
        "heldout": [str(path) for path in context.input_table("sequences", "heldout").files],
        "sets": [given.as_json() for given in sets],
    }
    found = launch(context, "tasks.evaluate.measure:main", job, config.launcher.model_copy(update={"processes": 1}))
    context.writer("comparisons").write(pa.Table.from_pylist(found["comparisons"], schema=COMPARISONS.schema))
    write_metrics(context.writer("data"), list(flatten(found["metrics"])))
    return Summary(metrics={"reads": [], **found["metrics"]})


def flatten(figures: dict[str, Any], prefix: str = "") -> Iterator[Metric]:
    """Every number of nested figures as a metric of step 0, named by its path: `reward/ppo/mean`."""
    for name, value in figures.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from flatten(value, f"{path}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield 0, path, float(value)


STAGE = Stage(
    name="evaluate",
    version=2,
    config=EvaluateConfig,
    reads={
        "conversations": CONVERSATIONS,
        "sequences": SEQUENCES,
        "model": MODEL,
        "baseline": MODEL,
        "reward_model": MODEL,
        "ablation": MODEL,
        "pretrained": MODEL,
    },
    writes={"data": METRICS, "comparisons": COMPARISONS},
    run=run,
    optional=frozenset({"ablation", "pretrained"}),
    sources=_sources,
    gpu=True,
)
