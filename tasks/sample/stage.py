"""The sample stage: K responses a prompt from one policy (Ouyang et al. 2022, section 3.3: K between 4 and 9)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from artifacts.errors import UserError
from artifacts.tables import CONVERSATIONS, MODEL, SAMPLES
from tasks.sample.config import SampleConfig
from tasks.stage import Stage, StageContext, Summary
from tasks.training.launcher import launch
from tasks.training.prompts import context_of, prompt_limit, read_prompts


def run(ctx: StageContext) -> Summary:
    """Choose prompts, sample in a process group of its own, and write one row a prompt in the order of choice."""
    from tasks.training.model import load_tokenizer

    config: SampleConfig = ctx.config
    folder = ctx.model("model")
    limit = prompt_limit("sample", context_of(folder), config.max_new_tokens, config.max_prompt_tokens)
    found = read_prompts(ctx.input("conversations"), load_tokenizer(folder), config.split, limit)
    chosen = found.choose(config.prompts, ctx.seed, "sample")
    if not chosen:
        raise UserError(f"sample: none of the {found.rows} conversations gives a prompt: {found.why()}")
    ctx.work.mkdir(parents=True, exist_ok=True)
    prompts_file = ctx.work / "prompts.json"
    prompts_file.write_text(json.dumps([{"prompt_id": prompt.prompt_id, "ids": prompt.ids} for prompt in chosen]))
    job: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"launcher"}),
        "seed": ctx.seed,
        "prompts": str(prompts_file),
        "model": str(folder),
        "responses": str(ctx.work / "responses"),
    }
    figures = launch(ctx, "tasks.sample.worker:main", job, config.launcher)
    answers = _answers(figures.pop("files"))
    policy = ctx.inputs["model"][0].ref
    for start in range(0, len(chosen), 1_024):
        part = chosen[start : start + 1_024]
        rows = [
            {
                "prompt_id": prompt.prompt_id,
                "messages": prompt.messages,
                "responses": answer["responses"],
                "ended": answer["ended"],
                "policy": policy,
                "source": prompt.source,
                "split": prompt.split,
            }
            for prompt, answer in zip(part, islice(answers, len(part)), strict=True)
        ]
        ctx.writer("data").write(pa.Table.from_pylist(rows, schema=SAMPLES.schema))
    return Summary(**found.account(), metrics=figures)


def _answers(files: list[str]) -> Iterator[dict[str, Any]]:
    for path in files:
        with open(path, encoding="utf8") as stream:
            for line in stream:
                yield json.loads(line)


STAGE = Stage(
    name="sample",
    version=1,
    config=SampleConfig,
    reads={"conversations": CONVERSATIONS, "model": MODEL},
    writes={"data": SAMPLES},
    run=run,
    gpu=True,
)
