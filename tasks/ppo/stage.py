"""The ppo stages: prompts, four models and pretraining rows in, a policy out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from artifacts.errors import UserError
from artifacts.tables import CONVERSATIONS, METRICS, MODEL, ROLLOUTS, SEQUENCES
from tasks.ppo.config import PPOConfig, PPOWithoutPtxConfig
from tasks.stage import Stage, StageContext, Summary
from tasks.training.launcher import launch
from tasks.training.metrics import write_metrics
from tasks.training.prompts import Prompts, context_of, prompt_limit, read_prompts, tokenizer_bytes


def run(ctx: StageContext) -> Summary:
    """Choose the train split's prompts, train in a process group of its own, write metrics and every episode."""
    config: PPOConfig = ctx.config
    found = _prompts(ctx, config)
    ctx.work.mkdir(parents=True, exist_ok=True)
    prompts_file = ctx.work / "prompts.json"
    prompts_file.write_text(json.dumps([{"prompt_id": prompt.prompt_id, "ids": prompt.ids} for prompt in found.kept]))
    rows = _pretraining_rows(ctx, config)
    job: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"launcher"}),
        "seed": ctx.seed,
        "prompts": str(prompts_file),
        "tokens": str(ctx.work / "tokens") if rows else None,
        "source": str(ctx.model("model")),
        "reward_model": str(ctx.model("reward_model")),
        "reference": str(ctx.model("reference")),
        "rollouts": str(ctx.work / "rollouts"),
        "model": str(ctx.path("model/config.json").parent),
    }
    figures = launch(ctx, "tasks.ppo.train:main", job, config.launcher)
    write_metrics(ctx.writer("data"), figures.pop("metrics"))
    for part in _episodes(figures.pop("files")):
        ctx.writer("rollouts").write(pa.Table.from_pylist(part, schema=ROLLOUTS.schema))
    steps = config.iterations * config.updates_an_iteration
    reads = {
        "input": "sequences",
        "first_row": config.first_row,
        "rows_per_step": config.rows_a_step,
        "steps": steps,
        "rows": rows,
    }
    return Summary(**found.account(), metrics={**figures, "steps": steps, "reads": [reads] if rows else []})


def _prompts(ctx: StageContext, config: PPOConfig) -> Prompts:
    from tasks.training.model import load_tokenizer

    name, policy = ctx.stage.name, ctx.model("model")
    for other in ("reward_model", "reference"):
        if tokenizer_bytes(ctx.model(other)) != tokenizer_bytes(policy):
            raise UserError(f"{name}: the inputs 'model' and {other!r} have different tokenizers")
    # One place is kept for the end token that the reward model reads behind a response that has none.
    context = min(context_of(policy), context_of(ctx.model("reward_model"))) - 1
    limit = prompt_limit(name, context, config.max_new_tokens, config.max_prompt_tokens)
    found = read_prompts(ctx.input("conversations"), load_tokenizer(policy), "train", limit)
    if not found.kept:
        raise UserError(f"{name}: none of the {found.rows} conversations gives a prompt: {found.why()}")
    return found


def _pretraining_rows(ctx: StageContext, config: PPOConfig) -> int:
    """How many there are, laid out for the workers; 0 where none are read."""
    if not config.ptx:
        return 0
    if not ctx.inputs.get("sequences"):
        raise UserError(f"{ctx.stage.name}.ptx is {config.ptx:g}, which needs the input 'sequences'; or set it to 0")
    from tasks.training.batches import TokenRows

    rows = TokenRows.build(ctx.input("sequences"), ctx.work / "tokens")
    if not len(rows):
        raise UserError(f"{ctx.stage.name}.ptx is {config.ptx:g}, but the input 'sequences' is empty; set it to 0")
    if rows.length > context_of(ctx.model("model")):
        raise UserError(f"{ctx.stage.name}: sequences of {rows.length} tokens do not fit the model's context")
    return len(rows)


def _episodes(files: list[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of each rollout file, one file an iteration and rank."""
    for path in files:
        with open(path, encoding="utf8") as stream:
            yield [json.loads(line) for line in stream]


STAGE = Stage(
    name="ppo",
    version=1,
    config=PPOConfig,
    reads={
        "conversations": CONVERSATIONS,
        "model": MODEL,
        "reward_model": MODEL,
        "reference": MODEL,
        "sequences": SEQUENCES,
    },
    writes={"data": METRICS, "rollouts": ROLLOUTS, "model": MODEL},
    run=run,
    optional=frozenset({"sequences"}),
    gpu=True,
)

# The same stage under a name of its own, so that a pipeline holds both and compares them.
WITHOUT_PTX = dataclasses.replace(STAGE, name="ppo_without_ptx", config=PPOWithoutPtxConfig)
