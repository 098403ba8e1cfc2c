"""ppo: a policy learns what a known reward asks for, resumes to the same bytes, and is refused what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from tasks.ppo import STAGE, WITHOUT_PTX, PPOConfig, PPOWithoutPtxConfig
from tasks.training.launcher import LauncherConfig
from tasks.training.model import ModelConfig, build_causal
from tests.support import read_rows, run_stage
from tests.tasks.ppo_inputs import make_inputs, series, settings, trainer
from tests.training_support import put_model, put_tokenizer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def inputs(store: Store) -> dict[str, Artifact]:
    return make_inputs(store)


def test_a_policy_learns_a_known_reward_and_says_what_it_cost(store: Store, inputs: dict[str, Artifact]) -> None:
    fields = settings(
        iterations=16, batch=64, minibatch=32, max_new_tokens=10, actor_lr=1e-2, critic_lr=3e-3, checkpoint_every=0
    )
    artifact = run_stage(WITHOUT_PTX, PPOWithoutPtxConfig(**fields), store, inputs).artifact
    metrics, reward, kl = artifact.manifest.metrics, series(artifact, "reward"), series(artifact, "kl")
    # A fresh policy says even and odd tokens alike.
    noise = series(artifact, "reward_deviation")[0] / 64**0.5
    assert reward[-1] > reward[0] + 10 * noise
    rows = [row for row in read_rows(artifact, "rollouts") if row["step"] == 15]
    assert kl[0] == 0.0 and kl[-1] > 3.0 and series(artifact, "kl_per_token")[-1] > 0.3
    assert kl[-1] == pytest.approx(sum(row["kl"] for row in rows) / len(rows), rel=1e-5)
    assert reward[-1] == pytest.approx(sum(row["reward"] for row in rows) / len(rows), rel=1e-5)
    assert metrics["first_ratio_max_deviation"] == 0.0
    assert metrics["reads"] == [] and metrics["steps"] == 32 and not series(artifact, "ptx_loss")
    assert {row["prompt_id"] for row in rows} == {f"{n:032x}" for n in range(4)}  # the fifth is held out
    assert artifact.manifest.counts.reasons == {"other_split": 1}


def test_a_huge_beta_keeps_the_policy_at_the_reference(store: Store, inputs: dict[str, Artifact]) -> None:
    fields = settings(
        iterations=16,
        batch=64,
        minibatch=32,
        max_new_tokens=10,
        actor_lr=1e-2,
        critic_lr=3e-3,
        beta=100.0,
        checkpoint_every=0,
    )
    artifact = run_stage(WITHOUT_PTX, PPOWithoutPtxConfig(**fields), store, inputs).artifact
    reward = series(artifact, "reward")
    noise = series(artifact, "reward_deviation")[0] / 64**0.5
    assert abs(sum(reward[-4:]) / 4 - reward[0]) < 3 * noise
    assert max(series(artifact, "kl_per_token")) < 0.06


def test_ptx_reads_the_rows_it_names_and_keeps_the_language_model(store: Store, inputs: dict[str, Artifact]) -> None:
    fields = settings(iterations=6, actor_lr=2e-3, first_row=5, checkpoint_every=0, inner_epochs=2)
    artifact = run_stage(STAGE, PPOConfig(**fields), store, inputs).artifact
    assert artifact.manifest.metrics["reads"] == [
        {"input": "sequences", "first_row": 5, "rows_per_step": 8, "steps": 24, "rows": 20}
    ]
    losses = series(artifact, "ptx_loss")
    assert losses[-1] < losses[0] - 0.3
    assert series(artifact, "clip_fraction")[0] > 0.0  # the second inner epoch has moved off ratio 1
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(artifact.local() / "model")


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path, inputs: dict[str, Artifact]) -> None:
    config = PPOConfig(**settings(iterations=4, actor_lr=1e-3, ema=0.9, checkpoint_every=1, sample_batch=5))
    whole = run_stage(STAGE, config, Store(tmp_path / "whole"), inputs).artifact

    class Killed(BaseException):
        pass

    seen: list[int] = []

    def stop(done: int, total: int | None, what: str) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise Killed

    halves = Store(tmp_path / "halves")
    with pytest.raises(Killed):
        run_stage(STAGE, config, halves, inputs, progress=stop)
    assert not halves.artifacts("ppo")
    again = run_stage(STAGE, config, halves, inputs, progress=stop).artifact
    assert seen == [1, 2, 3, 3, 4]  # the third iteration had no checkpoint yet
    assert again.manifest.content == whole.manifest.content
    assert len(read_rows(again, "rollouts")) == 64


def test_the_saved_policy_is_the_average_of_the_weights(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    run = trainer(inputs, tmp_path, ptx=0.0, ema=0.9, actor_lr=1e-2)
    start = {name: p.detach().clone() for name, p in run.actor.module.named_parameters()}
    minibatches = run.collector.collect(run.prompts, 0)
    expected = dict(start)
    for number, minibatch in enumerate(minibatches):
        run.actor_step(minibatch, sum(part.layout.tokens for part in minibatch), number == 0)
        for name, p in run.actor.module.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * p.detach()
    run.save()
    from tasks.training.model import load_causal

    for name, p in load_causal(tmp_path / "model").named_parameters():
        assert torch.allclose(p, expected[name], atol=1e-7)
    moved = max(float((expected[name] - start[name]).abs().max()) for name in start)
    assert moved > 1e-4


def test_wrong_inputs_are_named(store: Store, inputs: dict[str, Artifact], tmp_path: Path) -> None:
    without = {name: artifact for name, artifact in inputs.items() if name != "sequences"}
    with pytest.raises(UserError, match=r"ppo\.ptx is 27\.8, which needs the input 'sequences'"):
        run_stage(STAGE, PPOConfig(**settings()), store, without)
    other = put_model(
        Store(tmp_path), put_tokenizer(Store(tmp_path), 280), build_causal(ModelConfig(layers=1, width=16), 280, 0)
    )
    with pytest.raises(UserError, match="'model' and 'reference' have different tokenizers"):
        run_stage(STAGE, PPOConfig(**settings()), store, {**inputs, "reference": other})
    with pytest.raises(UserError, match=r"ppo\.max_prompt_tokens is 60, but the model's context of 63"):
        run_stage(STAGE, PPOConfig(**settings(max_prompt_tokens=60)), store, inputs)
    with pytest.raises(UserError, match=r"none of the 5 conversations .*: other_split 1, prompt_too_long 4"):
        run_stage(STAGE, PPOConfig(**settings(max_prompt_tokens=2)), store, inputs)
    with pytest.raises(ValueError, match="must divide batch"):
        PPOConfig(**settings(batch=10))


def test_two_workers_learn_what_one_learns(tmp_path: Path, inputs: dict[str, Artifact]) -> None:
    fields = {"iterations": 2, "actor_lr": 1e-3, "critic_lr": 1e-3, "missing_end_penalty": 0.5, "sample_batch": 4}
    two = LauncherConfig(processes=2, threads=1, device="cpu")
    here = run_stage(STAGE, PPOConfig(**settings(**fields)), Store(tmp_path / "here"), inputs).artifact
    there = run_stage(STAGE, PPOConfig(**settings(**fields, launcher=two)), Store(tmp_path / "there"), inputs).artifact
    alone, shared = read_rows(here), read_rows(there)
    assert [(row["step"], row["name"]) for row in alone] == [(row["step"], row["name"]) for row in shared]
    for one, other in zip(alone, shared, strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=2e-3, abs=2e-4), one
    # Sums in another order: the numbers agree, the bits may not. The episodes are the same ones.
    said = [
        {(row["step"], row["prompt_id"], row["response"]) for row in read_rows(a, "rollouts")} for a in (here, there)
    ]
    assert said[0] == said[1]
