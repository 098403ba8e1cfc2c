"""sft: what is learnt, in which order, and that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from tasks.sft import STAGE, SftConfig
from tasks.sft.samples import Order, Samples, encode
from tasks.training.launcher import LauncherConfig
from tasks.training.model import ModelConfig, build_causal, load_tokenizer
from tests.support import read_rows, run_stage
from tests.training_support import put_conversations, put_model, put_sequences, put_tokenizer, tiny_rows

HERE = LauncherConfig(starter="none", threads=1)
DIALOGUES = [
    ["what does join", "returns path of file"],
    ["what does it do", "the cat sat on a mat", "and the dog", "the dog ran to it"],
    ["the name of the cat", "it sat", "to what", "a mat"],
    ["what ran", "the dog"],
]


def config(**fields: Any) -> SftConfig:
    defaults = {"batch_size": 2, "dropout": 0.0, "lr": 5e-3, "launcher": HERE}
    return SftConfig(**{**defaults, **fields})


def inputs(store: Store, dialogues: Any = DIALOGUES, splits: Any = ()) -> dict[str, Artifact]:
    tokenizer = put_tokenizer(store)
    model = build_causal(ModelConfig(layers=2, width=32, heads=2, context=128), 300, 0, 0)
    return {
        "conversations": put_conversations(store, dialogues, splits),
        "model": put_model(store, tokenizer, model),
        "sequences": put_sequences(store, tiny_rows(20)),
    }


def values(artifact: Artifact, name: str) -> list[float]:
    return [row["value"] for row in read_rows(artifact) if row["name"] == name]


def test_three_ways_to_train_a_conversation(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(put_tokenizer(Store(tmp_path)).local() / "model")
    messages = [
        {"role": ("user", "assistant")[turn % 2], "content": content} for turn, content in enumerate(DIALOGUES[1])
    ]

    def learnt(turns: Any) -> list[str]:
        return [
            tokenizer.decode([token for token, wanted in zip(ids, mask, strict=True) if wanted])
            for ids, mask in encode(tokenizer, messages, turns)
        ]

    first, second = "the cat sat on a mat<|endoftext|>", "the dog ran to it<|endoftext|>"
    assert learnt("all") == [first + second]
    assert learnt("last") == [second]
    assert learnt("split") == [first, second]
    everything, only, parts = (encode(tokenizer, messages, turns) for turns in ("all", "last", "split"))
    assert everything[0][0] == only[0][0] == parts[1][0]
    assert parts[0][0] == everything[0][0][: len(parts[0][0])]


def test_the_loss_is_that_of_answers_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given = inputs(store)
    artifact = run_stage(STAGE, config(epochs=1, batch_size=4), store, given).artifact
    folder = given["model"].local() / "model"
    tokenizer = load_tokenizer(folder)
    model = build_causal(ModelConfig(layers=2, width=32, heads=2, context=128), 300, 0, 0)
    nats, count = 0.0, 0
    for dialogue in DIALOGUES:
        text = ""
        for prompt, answer in zip(dialogue[::2], dialogue[1::2], strict=True):
            text += f"### Instruction:\n{prompt}\n\n### Response:\n"
            before = tokenizer(text)["input_ids"]
            text += f"{answer}<|endoftext|>"
            ids = tokenizer(text)["input_ids"]
            logs = model(torch.tensor([ids])).logits.log_softmax(-1)[0]
            nats -= sum(float(logs[place - 1, ids[place]].detach()) for place in range(len(before), len(ids)))
            count += len(ids) - len(before)
    assert values(artifact, "train_loss") == [pytest.approx(nats / count, rel=1e-5)]
    assert values(artifact, "response_tokens") == [count]
    assert artifact.manifest.metrics["response_tokens"] == count


def test_it_learns_the_answers_and_every_conversation_is_accounted_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    long = ["what", "the cat " * 60]
    broken = ["what"]
    given = inputs(store, [*DIALOGUES, long, broken, DIALOGUES[0]], ["train"] * 6 + ["heldout"])
    artifact = run_stage(STAGE, config(epochs=100), store, given).artifact
    metrics, counts = artifact.manifest.metrics, artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (7, 4, 2, 1)
    assert counts.reasons == {"heldout": 1, "not_a_conversation": 1, "too_long": 1}
    decision = next(row for row in read_rows(artifact, "decisions") if row["reason"] == "too_long")
    assert decision["threshold"] == 128 and decision["score"] > 128
    assert metrics["steps"] == 200 and metrics["heldout_loss_before"] > 4.5
    assert metrics["final_loss"] < 0.2
    assert metrics["heldout_loss"] < 0.2  # the held-out one is a copy of a learnt one
    assert len(values(artifact, "heldout_loss")) == 100  # once an epoch


def test_a_share_of_pretraining_data_is_mixed_in(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given = inputs(store)
    plain = run_stage(STAGE, config(epochs=5, batch_size=4), store, given).artifact
    mixed = run_stage(STAGE, config(epochs=5, batch_size=4, pretrain_fraction=0.5), store, given).artifact
    assert plain.manifest.metrics["reads"] == []
    assert mixed.manifest.metrics["reads"] == [
        {"input": "sequences", "first_row": 0, "rows_per_step": 4, "steps": 5, "rows": 20}
    ]
    assert values(plain, "pretrain_loss") == []
    falling = values(mixed, "pretrain_loss")
    assert len(falling) == 5 and falling[-1] < falling[0]
    assert values(mixed, "train_loss")[0] == values(plain, "train_loss")[0]


def test_dropout_is_drawn_from_the_seed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given = inputs(store)
    runs = [
        run_stage(STAGE, config(epochs=2, dropout=0.2), store, given, seed=seed, force=True).artifact
        for seed in (0, 0, 1)
    ]
    assert runs[0].content == runs[1].content != runs[2].content
    assert (
        values(runs[0], "train_loss")[0]
        != values(run_stage(STAGE, config(epochs=2), store, given).artifact, "train_loss")[0]
    )


def test_an_interrupted_run_draws_the_same_dropout_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    settings = config(epochs=4, dropout=0.2, pretrain_fraction=0.5, checkpoint_every=2)
    whole = run_stage(STAGE, settings, Store(tmp_path / "whole"), inputs(Store(tmp_path / "whole"))).artifact
    store = Store(tmp_path / "halves")
    given, seen = inputs(store), []

    class Killed(BaseException):
        pass

    def stop(done: int, total: int | None, what: str) -> None:
        if what.startswith("loss"):
            seen.append(done)
            if len(seen) == 5:
                raise Killed

    with pytest.raises(Killed):
        run_stage(STAGE, settings, store, given, progress=stop)
    again = run_stage(STAGE, settings, store, given, progress=stop).artifact
    assert seen == [1, 2, 3, 4, 5, 5, 6, 7, 8]  # goes on behind the checkpoint of step 4
    assert again.manifest.content == whole.manifest.content


def test_orders_are_permutations_of_the_seed(tmp_path: Path) -> None:
    lengths = [5, 9, 2, 7, 4, 8, 3, 6, 1, 10]
    order = Order(lengths, epochs=2, batch_size=4, seed=3)
    seen = [number for step in range(order.steps) for number in order.step(step)]
    assert order.steps == 5 and sorted(seen) == sorted(list(range(10)) * 2)
    again = Order(lengths, epochs=2, batch_size=4, seed=3)
    assert [again.step(step) for step in (4, 0, 2)] == [order.step(step) for step in (4, 0, 2)]
    other = Order(lengths, epochs=2, batch_size=4, seed=4)
    assert [other.step(step) for step in range(5)] != [order.step(step) for step in range(5)]
    # One window of five batches: each holds neighbours in length.
    for step in range(5):
        found = sorted(lengths[number] for number in order.step(step))
        assert found[-1] - found[0] <= 2
    assert Order([3], epochs=1, batch_size=4, seed=0).step(0) == [0, 0, 0, 0]


def test_samples_come_back_from_disk(tmp_path: Path) -> None:
    Samples.write([([5, 6, 7], [False, True, True]), ([8, 9], [False, True])], tmp_path / "s.npz")
    samples = Samples(tmp_path / "s.npz")
    assert samples.lengths == [3, 2] and samples.learnt == [2, 1]
    ids, mask = samples.batch([1, 0])
    assert ids.tolist() == [[8, 9, 0], [5, 6, 7]]
    assert mask.tolist() == [[False, True, False], [False, True, True]]


@pytest.mark.parametrize(
    ("fields", "splits", "problem"),
    [({"max_length": 500}, (), "context is 128"), ({}, ["heldout"] * 4, "no conversation is left")],
)
def test_what_cannot_be_learnt_is_the_users_error(
    tmp_path: Path, fields: dict[str, Any], splits: list[str], problem: str
) -> None:
    store = Store(tmp_path)
    with pytest.raises(UserError, match=problem):
        run_stage(STAGE, config(**fields), store, inputs(store, splits=splits))


def test_pretraining_rows_must_fit_the_model(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given = {**inputs(store), "sequences": put_sequences(store, tiny_rows(4, length=129), label="long")}
    with pytest.raises(UserError, match="sequences of 129 tokens do not fit the model's context of 128"):
        run_stage(STAGE, config(pretrain_fraction=0.5), store, given)
    with pytest.raises(ValueError, match=r"betas\.1\n  Input should be less than 1"):
        config(betas=(0.9, 1.5))
