"""ppo: the episodes' tensors, the gradients, and that a policy learns what a known reward asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from artifacts.tables import METRICS, MODEL
from tasks.execution import execute
from tasks.ppo import STAGE, WITHOUT_PTX, PPOConfig, PPOWithoutPtxConfig
from tasks.ppo.episodes import lay_out, response_logprobs, response_values, token_rewards
from tasks.ppo.rollout import Prompts
from tasks.ppo.train import Trainer
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tasks.training.batches import TokenRows
from tasks.training.generate import Generated
from tasks.training.language import language_loss
from tasks.training.launcher import LauncherConfig
from tasks.training.losses import policy_loss, whiten
from tasks.training.model import ModelConfig, RewardModel, build_causal
from tests.support import read_rows, run_stage
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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def inputs(store: Store) -> dict[str, Artifact]:
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


# --- episodes as tensors


def test_the_mask_reaches_to_the_first_end_whatever_the_ids_are() -> None:
    # Prompts hold end tokens, and the end token's id is also the pad's.
    prompts = [[7, EOS, 8], [9]]
    responses = [Generated([4, EOS], True), Generated([5, 6, 7], False)]
    layout = lay_out(prompts, responses, EOS)
    assert layout.ids.tolist() == [[7, EOS, 8, 4, EOS], [9, 5, 6, 7, 0]]
    assert layout.mask.tolist() == [[True, True, False], [True, True, True]]
    assert [row[:n] for row, n in zip(layout.places.tolist(), (2, 3), strict=True)] == [[2, 3], [0, 1, 2]]
    assert [row[:n] for row, n in zip(layout.targets.tolist(), (2, 3), strict=True)] == [[4, EOS], [5, 6, 7]]
    assert layout.judged.tolist() == [[7, EOS, 8, 4, EOS], [9, 5, 6, 7, EOS]]
    assert layout.judged_lengths.tolist() == [5, 5]
    assert layout.tokens == 5


def test_the_score_stands_on_the_last_real_token() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    logratio = torch.tensor([[0.5, -1.0, 9.0], [0.0, 2.0, 1.0]])
    rewards = token_rewards(torch.tensor([3.0, -1.0]), logratio, mask, beta=0.1)
    assert rewards.tolist() == [
        pytest.approx([-0.05, 3.1, 0.0], abs=1e-6),
        pytest.approx([0.0, -0.2, -1.1], abs=1e-6),
    ]


def test_logprobs_and_values_are_those_of_each_row_alone_at_the_temperature(inputs: dict[str, Artifact]) -> None:
    model = build_causal(ModelConfig(layers=2, width=32, heads=2, context=64), VOCABULARY, 5, EOS).eval()
    critic = RewardModel.load(inputs["reward_model"].local() / "model")
    prompts = [[5, 6, 7, 8, 9, 10], [11], [12, 13]]
    responses = [Generated([21], False), Generated([22, 23, 24, 25, EOS], True), Generated([26, 27], False)]
    layout = lay_out(prompts, responses, EOS)
    with torch.no_grad():
        logprobs, entropies = response_logprobs(model, layout, 0.7)
        values = response_values(critic, layout)
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            ids = torch.tensor([[*prompt, *response.ids]])
            start, count = len(prompt) - 1, len(response.ids)
            table = torch.log_softmax(model(ids).logits[0] / 0.7, -1)[start : start + count]
            wanted = table.gather(1, torch.tensor(response.ids)[:, None]).squeeze(1)
            assert torch.allclose(logprobs[row, :count], wanted, atol=2e-6)
            assert torch.allclose(entropies[row, :count], -(table.exp() * table).sum(-1), atol=1e-5)
            assert torch.allclose(values[row, :count], critic.values(ids)[0, start : start + count], atol=1e-6)
            assert not logprobs[row, count:].any() and not values[row, count:].any()


def test_every_epoch_asks_every_prompt_once_in_an_order_of_its_own() -> None:
    prompts = Prompts([{"prompt_id": f"{n:032x}", "ids": [n]} for n in range(20)], seed=1)
    epochs = [[prompts.episode(epoch * 20 + n)["ids"][0] for n in range(20)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert prompts.episode(27)["ids"][0] == epochs[1][7]  # a resumed run finds the same prompt


# --- gradients


def gradients(model: Any) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for name, p in model.named_parameters()
    }


def test_the_accumulated_gradient_is_that_of_ppo_plus_the_coefficient_times_that_of_pretraining(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    run = trainer(inputs, tmp_path, ptx=27.8, first_row=15)
    minibatch = run.collector.collect(run.prompts, 0)[0]
    tokens = sum(part.layout.tokens for part in minibatch)
    assert run.rows is not None
    figures = run.ppo_gradient(minibatch, tokens, untouched=True)
    ptx_loss = run.ptx_gradient(run.rows)
    accumulated = gradients(run.actor.module)

    model = build_causal(ModelConfig(layers=2, width=32, heads=2, context=64), VOCABULARY, 0, EOS).eval()
    part = minibatch[0]
    logprobs, _ = response_logprobs(model, part.layout, 1.0)
    policy_loss(logprobs, part.logprobs, part.advantages, part.layout.mask, 0.2).loss.backward()
    ppo = gradients(model)
    model.zero_grad()
    rows = torch.tensor([tiny_rows(20)[number % 20] for number in range(15, 23)])  # goes round at row 20
    loss = language_loss(model, rows, None, 8 * 15)
    loss.backward()
    pretraining = gradients(model)

    assert ptx_loss == pytest.approx(float(loss.detach()), rel=1e-6)
    # Whitened advantages at a ratio of 1: the loss is minus their mean over this minibatch.
    mean = float(part.advantages[part.layout.mask].mean())
    assert figures["policy_loss"] == pytest.approx(-mean, abs=1e-6) and figures["clip_fraction"] == 0.0
    for name, found in accumulated.items():
        assert torch.allclose(found, ppo[name] + 27.8 * pretraining[name], atol=2e-5), name
    assert max(float(gradient.abs().max()) for gradient in ppo.values()) > 1e-3


def test_micro_batches_give_the_gradient_of_the_whole_minibatch(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    found = []
    for number, size in enumerate((0, 3)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = trainer(inputs, folder, micro_batch=size, ptx=2.0)
        minibatch = run.collector.collect(run.prompts, 0)[1]
        assert [len(part.responses) for part in minibatch] == ([8] if size == 0 else [3, 3, 2])
        run.ppo_gradient(minibatch, sum(part.layout.tokens for part in minibatch), untouched=True)
        assert run.rows is not None
        run.ptx_gradient(run.rows)
        found.append(gradients(run.actor.module))
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name


def test_advantages_are_whitened_over_the_real_tokens_of_the_iteration(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    plain = trainer(inputs, tmp_path, whiten=False, ptx=0.0)
    parts = [part for minibatch in plain.collector.collect(plain.prompts, 0) for part in minibatch]
    white = trainer(inputs, tmp_path, ptx=0.0)
    others = [part for minibatch in white.collector.collect(white.prompts, 0) for part in minibatch]
    before = torch.cat([part.advantages[part.layout.mask] for part in parts])
    after = torch.cat([part.advantages[part.layout.mask] for part in others])
    assert torch.allclose(after, whiten(before), atol=1e-6)
    assert all(not part.advantages[~part.layout.mask].any() for part in others)
    # Returns are what the critic learns: they are never whitened.
    assert all(torch.equal(a.returns, b.returns) for a, b in zip(parts, others, strict=True))


def test_returns_are_the_score_less_kl_and_less_the_penalty_for_a_missing_end(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    sizes = {"batch": 32, "minibatch": 32, "micro_batch": 0, "max_new_tokens": 40}
    reward = {"lam": 1.0, "beta": 0.3, "missing_end_penalty": 0.5, "whiten": False}
    run = trainer(inputs, tmp_path, ptx=0.0, actor_lr=3e-3, **sizes, **reward)
    for _ in range(2):  # move away from the reference, so that there is a KL
        part = run.collector.collect(run.prompts, 0)[0][0]
        run.actor_step([part], part.layout.tokens)
    part = run.collector.collect(run.prompts, 1)[0][0]
    judge = RewardModel.load(inputs["reward_model"].local() / "model")
    assert float(part.logratio.abs().max()) > 0.01
    for row, response in enumerate(part.responses):
        start = int(part.layout.places[row, 0]) + 1
        read = [*part.layout.ids[row, :start].tolist(), *response.text_ids, EOS]
        with torch.no_grad():
            score = float(judge.scores(torch.tensor([read]), torch.tensor([len(read)])))
        assert float(part.scores[row]) == pytest.approx(score, abs=1e-5)
        expected = score - 0.3 * float(part.logratio[row].sum()) - (0.0 if response.ended else 0.5)
        # Without discount and with lambda 1 the return of the first token is the sum of all rewards.
        assert float(part.returns[row, 0]) == pytest.approx(expected, abs=1e-4)
    assert {response.ended for response in part.responses} == {True, False}


# --- the stages


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
