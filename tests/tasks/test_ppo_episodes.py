"""ppo: the tensors of its episodes, and the gradients that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from artifacts.store import Artifact, Store
from tasks.ppo.episodes import lay_out, response_logprobs, response_values, token_rewards
from tasks.ppo.rollout import Prompts
from tasks.training.generate import Generated
from tasks.training.language import language_loss
from tasks.training.losses import policy_loss, whiten
from tasks.training.model import ModelConfig, RewardModel, build_causal
from tests.tasks.ppo_inputs import EOS, VOCABULARY, make_inputs, trainer
from tests.training_support import tiny_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def inputs(store: Store) -> dict[str, Artifact]:
    return make_inputs(store)


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
