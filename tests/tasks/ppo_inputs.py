"""A small PPO to test with: a reward that is known by construction, its inputs, and a trainer without a launcher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from artifacts.store import Artifact, Store
from artifacts.tables import METRICS, MODEL
from tasks.execution import execute
from tasks.ppo import PPOConfig
from tasks.ppo.train import Trainer
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tasks.training.batches import TokenRows
from tasks.training.launcher import LauncherConfig
from tasks.training.model import ModelConfig, RewardModel, build_causal
from tests.support import read_rows
from tests.training_support import put_conversations, put_model, put_sequences, put_tokenizer, tiny_rows

HERE = LauncherConfig(starter="none", threads=1, device="cpu")
DIALOGUES = [["what does join", "it"], ["the cat"], ["a dog ran", "to"], ["path of file", "name"], ["what ran", "dog"]]
VOCABULARY = 300
EOS = 0


def wanted_token_reward(folder: Path, tokenizer: Path) -> None:
    """A reward model made by hand: its score grows with the share of even tokens in what it reads, by attention alone.

    Embeddings are u + .3 e for even and u - .3 e for odd tokens; one layer of uniform attention adds the mean along e.
    """
    shape = ModelConfig(layers=1, width=16, heads=1, context=64)
    causal = build_causal(shape, VOCABULARY, 0, EOS)
    causal.save_pretrained(folder)
    model = RewardModel.from_causal(folder, seed=0)
    even = torch.tensor([1.0, -1.0] * 8)
    constant = torch.tensor([1.0, 1.0, -1.0, -1.0] * 4)
    body = model.classifier.base_model
    with torch.no_grad():
        body.wpe.weight.zero_()
        sign = 1.0 - 2.0 * (torch.arange(VOCABULARY) % 2)
        body.wte.weight.copy_(constant + 0.3 * sign[:, None] * even)
        block = body.h[0]
        block.attn.c_attn.weight.zero_()
        block.attn.c_attn.weight[:, 32:].copy_(torch.outer(even, even) / 16)
        block.attn.c_proj.weight.copy_(3.0 * torch.eye(16))
        block.mlp.c_proj.weight.zero_()
        model.classifier.score.weight.copy_(2.0 * even / 16)
    model.save(folder, tokenizer)


class _Given(StageConfig):
    label: str = ""


def make_inputs(store: Store) -> dict[str, Artifact]:
    """Conversations, policy, reward model and sequences, each an artifact."""
    tokenizer = put_tokenizer(store, VOCABULARY)
    policy = build_causal(ModelConfig(layers=2, width=32, heads=2, context=64), VOCABULARY, 0, EOS)
    model = put_model(store, tokenizer, policy, "sft")

    def make_reward(ctx: StageContext) -> Summary:
        wanted_token_reward(ctx.path("model/config.json").parent, tokenizer.local() / "model")
        return Summary()

    reward = execute(
        Stage("reward", 1, _Given, {}, {"data": METRICS, "model": MODEL}, make_reward), _Given(), {}, store
    ).artifact
    return {
        "conversations": put_conversations(store, DIALOGUES, ["train"] * 4 + ["heldout"]),
        "model": model,
        "reward_model": reward,
        "reference": model,
        "sequences": put_sequences(store, tiny_rows(20)),
    }


def settings(**fields: Any) -> dict[str, Any]:
    defaults = {
        "iterations": 2,
        "batch": 16,
        "minibatch": 8,
        "max_new_tokens": 8,
        "ptx_ratio": 1,
        "warmup_iterations": 0,
        "ema": 0.0,
        "launcher": HERE,
    }
    return {**defaults, **fields}


def series(artifact: Artifact, name: str) -> list[float]:
    return [row["value"] for row in read_rows(artifact) if row["name"] == name]


def trainer(inputs: dict[str, Artifact], work: Path, **fields: Any) -> Trainer:
    """A trainer without a launcher, on the prompts [1 … n] and the sequences of the inputs."""
    config = PPOConfig(**settings(**fields))
    (work / "prompts.json").write_text(
        json.dumps([{"prompt_id": f"{n:032x}", "ids": list(range(1, 3 + n))} for n in range(1, 6)])
    )
    table = work / "tokens"
    if config.ptx:
        from artifacts.reader import InputTable

        TokenRows.build(InputTable(inputs["sequences"].files("data")), table)
    return Trainer(
        {
            "config": config.model_dump(mode="json", exclude={"launcher"}),
            "seed": 3,
            "prompts": str(work / "prompts.json"),
            "tokens": str(table) if config.ptx else None,
            "source": str(inputs["model"].local() / "model"),
            "reward_model": str(inputs["reward_model"].local() / "model"),
            "reference": str(inputs["reference"].local() / "model"),
            "rollouts": str(work / "rollouts"),
            "model": str(work / "model"),
            "deepspeed": "configs/deepspeed/zero0.json",
            "work": str(work),
        }
    )
