"""sample: which prompts are answered, that the account is complete, and that the answers are the model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from tasks.sample import STAGE, SampleConfig
from tasks.text.hashing import unit_interval
from tasks.training.chat_format import encode_prompt
from tasks.training.generate import generate, row_seed
from tasks.training.launcher import LauncherConfig
from tasks.training.model import ModelConfig, build_causal, load_causal, load_tokenizer
from tests.support import read_rows, run_stage
from tests.training_support import put_conversations, put_model, put_tokenizer

HERE = LauncherConfig(starter="none", threads=1, device="cpu")
DIALOGUES = [
    ["what does join", "returns path"],
    ["the cat", "sat", "and then", "it ran"],
    ["what does it do to the path of a file and the name of a dog " * 9],
    ["file name"],
    ["the dog ran", "to it"],
]
SPLITS = ["train", "heldout", "train", "train", "train"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def inputs(store: Store) -> dict[str, Artifact]:
    tokenizer = put_tokenizer(store)
    model = build_causal(ModelConfig(layers=1, width=32, heads=2, context=128), 300, 0, 0)
    return {
        "conversations": put_conversations(store, DIALOGUES, SPLITS),
        "model": put_model(store, tokenizer, model, "sft"),
    }


def config(**fields: Any) -> SampleConfig:
    return SampleConfig(**{"max_new_tokens": 12, "launcher": HERE, **fields})


def test_each_prompt_gets_its_own_responses_whatever_else_is_sampled(store: Store, inputs: dict[str, Artifact]) -> None:
    artifact = run_stage(STAGE, config(), store, inputs, seed=4).artifact
    rows = read_rows(artifact)
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (5, 4, 1, 0)
    assert counts.reasons == {"prompt_too_long": 1}
    ids = [f"{number:032x}" for number in (0, 1, 3, 4)]
    assert [row["prompt_id"] for row in rows] == sorted(ids, key=lambda key: unit_interval(key, 4, "sample"))
    folder = inputs["model"].local() / "model"
    tokenizer, model = load_tokenizer(folder), load_causal(folder)
    for row in rows:
        prompt = DIALOGUES[int(row["prompt_id"], 16)]
        assert [message["content"] for message in row["messages"]] == prompt[: len(prompt) - (len(prompt) + 1) % 2]
        assert row["policy"] == inputs["model"].ref and row["split"] == SPLITS[int(row["prompt_id"], 16)]
        alone = generate(
            model,
            [encode_prompt(tokenizer, row["messages"])] * 4,
            max_new_tokens=12,
            temperature=1.0,
            eos_id=0,
            seeds=[row_seed(4, "sample", row["prompt_id"], number) for number in range(4)],
        )
        assert row["responses"] == [tokenizer.decode(response.text_ids) for response in alone]
        assert row["ended"] == [response.ended for response in alone]
    assert artifact.manifest.metrics["responses"] == 16
    assert artifact.manifest.metrics["tokens"] <= 16 * 12


def test_the_account_names_what_was_left_out(store: Store, inputs: dict[str, Artifact]) -> None:
    artifact = run_stage(STAGE, config(prompts=2, split="train", responses=5), store, inputs).artifact
    assert artifact.manifest.counts.reasons == {"not_chosen": 1, "other_split": 1, "prompt_too_long": 1}
    assert [len(row["responses"]) for row in read_rows(artifact)] == [5, 5]


def test_wrong_limits_are_named(store: Store, inputs: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match=r"sample\.max_new_tokens leaves no room .* 128 tokens"):
        run_stage(STAGE, config(max_new_tokens=128), store, inputs)
    with pytest.raises(UserError, match="none of the 5 conversations gives a prompt: prompt_too_long 5"):
        run_stage(STAGE, config(max_prompt_tokens=1), store, inputs)


def test_two_workers_give_what_one_gives(tmp_path: Path, inputs: dict[str, Artifact]) -> None:
    two = LauncherConfig(processes=2, threads=1, device="cpu")
    here = run_stage(STAGE, config(), Store(tmp_path / "here"), inputs).artifact
    there = run_stage(STAGE, config(launcher=two), Store(tmp_path / "there"), inputs).artifact
    assert here.recipe == there.recipe and here.manifest.content == there.manifest.content
