"""Sampling as a training group runs it: every rank answers its share of the prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.sample.config import SampleConfig
from tasks.training.batches import share
from tasks.training.chat_format import end_id
from tasks.training.generate import autocast, generate, row_seed
from tasks.training.model import load_causal, load_tokenizer
from tasks.training.worker import current_device, prepare

PROMPTS_AT_ONCE = 1_024  # a file of any length is answered in bounded memory


def main(job: dict[str, Any], report: Callable[[int, int | None, str], None]) -> dict[str, Any]:
    """Write each rank's responses as JSON lines in the order of its prompts; returns the files and figures over all."""
    prepare()
    config = SampleConfig.model_validate(job["config"])
    device = current_device()
    tokenizer = load_tokenizer(job["model"])
    model = load_causal(job["model"]).to(device)
    prompts: list[dict[str, Any]] = json.loads(Path(job["prompts"]).read_text())
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    mine = share(range(len(prompts)), rank, ranks)
    target = Path(f"{job['responses']}-{rank}.jsonl")
    sums = torch.zeros(3, dtype=torch.float64)  # responses, tokens, ended
    with target.open("w", encoding="utf8") as stream:
        for start in range(0, len(mine), PROMPTS_AT_ONCE):
            part = [prompts[number] for number in mine[start : start + PROMPTS_AT_ONCE]]
            with autocast(device, config.precision):
                found = generate(
                    model,
                    [prompt["ids"] for prompt in part for _ in range(config.responses)],
                    max_new_tokens=config.max_new_tokens,
                    temperature=config.temperature,
                    eos_id=end_id(tokenizer),
                    seeds=[
                        row_seed(job["seed"], "sample", prompt["prompt_id"], number)
                        for prompt in part
                        for number in range(config.responses)
                    ],
                    batch_size=config.batch_size,
                    progress=lambda done, _, base=start: report(  # type: ignore[misc]
                        base + done // config.responses, len(mine), "prompts answered"
                    ),
                )
            for place in range(len(part)):
                row = found[place * config.responses : (place + 1) * config.responses]
                texts = [tokenizer.decode(response.text_ids, skip_special_tokens=True) for response in row]
                line = {"responses": texts, "ended": [response.ended for response in row]}
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                lengths = sum(len(response.ids) for response in row)
                sums += torch.tensor([len(row), lengths, sum(line["ended"])], dtype=torch.float64)
    responses, tokens, ended = _total(sums, device).tolist()
    return {
        "files": [f"{job['responses']}-{number}.jsonl" for number in range(ranks)],
        "responses": int(responses),
        "tokens": int(tokens),
        "mean_length": tokens / responses,
        "ended_share": ended / responses,
    }


def _total(sums: Tensor, device: torch.device) -> Tensor:
    """Over all ranks; also where every rank waits until the last has written its file."""
    total = sums.to(device)
    if torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(total)
    return total
