"""Closed forms of the losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from tasks.training.losses import (
    causal_loss,
    gae,
    kl_estimate,
    policy_loss,
    reward_loss,
    token_logprobs,
    token_logprobs_and_entropy,
    value_loss,
    whiten,
)


def assert_close(found: torch.Tensor, wanted: object, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=0)


def head(tokens: int = 13, width: int = 5, vocab: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(1, tokens, width, generator=generator, dtype=torch.float32)
    weight = torch.randn(vocab, width, generator=generator)
    return hidden, weight, torch.randint(vocab, (1, tokens), generator=generator)


def test_a_head_of_zeros_is_uniform() -> None:
    hidden, weight, targets = head()
    assert_close(token_logprobs(hidden, torch.zeros_like(weight), targets), torch.full((1, 13), -math.log(11)))
    assert_close(causal_loss(hidden, torch.zeros_like(weight), targets), math.log(11))
    entropy = token_logprobs_and_entropy(hidden, torch.zeros_like(weight), targets)[1]
    assert_close(entropy, torch.full((1, 13), math.log(11)))


@pytest.mark.parametrize("chunk", [1, 4, 13, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_chunks_give_the_values_and_gradients_of_whole_logits(chunk: int, temperature: float) -> None:
    hidden, weight, targets = head()
    results = []
    for chunked in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if chunked:
            logprobs, entropy = token_logprobs_and_entropy(h, w, targets, temperature, chunk)
        else:
            logs = functional.log_softmax(h @ w.T / temperature, -1)
            logprobs = logs.gather(-1, targets[..., None])[..., 0]
            entropy = -(logs.exp() * logs).sum(-1)
        scale = torch.linspace(-1, 2, 13)
        (logprobs * scale + 0.3 * entropy * scale.flip(0)).sum().backward()
        results.append((logprobs.detach(), entropy.detach(), h.grad, w.grad))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_gradients_by_finite_differences() -> None:
    hidden, weight, targets = head(tokens=3, width=2, vocab=4)
    weight = weight.requires_grad_()
    causal_loss(hidden, weight, targets, chunk=2).backward()
    step = 1e-2
    for row in range(4):
        shift = torch.zeros_like(weight)
        shift[row, 1] = step
        with torch.no_grad():
            slope = (causal_loss(hidden, weight + shift, targets) - causal_loss(hidden, weight - shift, targets)) / step
        assert weight.grad is not None
        assert_close(weight.grad[row, 1], slope.item() / 2, 1e-4)


def test_causal_loss_counts_the_mask_and_divides_by_the_count_given() -> None:
    hidden, weight, targets = head()
    mask = torch.zeros_like(targets, dtype=torch.bool)
    mask[0, 4:9] = True
    logits = hidden[0, 4:9] @ weight.T
    assert_close(causal_loss(hidden, weight, targets, mask), functional.cross_entropy(logits, targets[0, 4:9]).item())
    total = functional.cross_entropy(logits, targets[0, 4:9], reduction="sum")
    assert_close(causal_loss(hidden, weight, targets, mask, 50), total.item() / 50)
    # Two micro-batches under one count add up to the whole.
    first, second = mask.clone(), mask.clone()
    first[0, 6:], second[0, :6] = False, False
    parts = causal_loss(hidden, weight, targets, first, 5) + causal_loss(hidden, weight, targets, second, 5)
    assert_close(parts, total.item() / 5)


def test_nothing_counted_is_zero_with_a_gradient_of_zeros() -> None:
    hidden, weight, targets = head()
    weight = weight.requires_grad_()
    loss = causal_loss(hidden, weight, targets, torch.zeros_like(targets, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert weight.grad is not None and not weight.grad.any()


def test_no_logits_are_kept() -> None:
    hidden, weight, targets = head(tokens=64, width=4, vocab=1000)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor.numel()), tensor)[1], lambda x: x):
        causal_loss(hidden.requires_grad_(), weight.requires_grad_(), targets, chunk=8)
    assert max(kept) == weight.numel() < 64 * 1000


def test_reward_loss_of_the_sources() -> None:
    ranks = torch.tensor([1, 2, 3])
    assert_close(reward_loss(torch.tensor([2.0, 1.0, 0.0]), ranks), 0.2511505, 1e-7)
    assert_close(reward_loss(torch.zeros(3), ranks), 0.6931472, 1e-7)


def test_ties_and_padding_make_no_pairs() -> None:
    # Two tied in front of a third: two pairs, not three.
    expected = -(functional.logsigmoid(torch.tensor(2.0)) + functional.logsigmoid(torch.tensor(1.0))) / 2
    assert_close(reward_loss(torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1, 1, 2])), expected.item())
    padded = reward_loss(torch.tensor([[2.0, 1.0, 0.0, 99.0]]), torch.tensor([[1, 1, 2, 0]]))
    assert_close(padded, expected.item())
    scores = torch.tensor([1.0, -1.0, 0.5], requires_grad=True)
    loss = reward_loss(scores, torch.tensor([1, 1, 1]))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None and not scores.grad.any()


def test_prompts_weigh_the_same_whatever_their_number_of_responses() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0], [3.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    ranks = torch.tensor([[1, 2, 3], [1, 2, 0], [1, 1, 1]])
    pair = math.log1p(math.exp(-3.0))
    assert_close(reward_loss(scores, ranks), (0.2511505 + pair) / 2, 1e-6)
    assert_close(reward_loss(scores, ranks, prompt_count=4), (0.2511505 + pair) / 4, 1e-6)


def test_kl_estimators_of_the_sources() -> None:
    x = torch.tensor(0.1)
    assert_close(kl_estimate(x, "k1"), 0.1)
    assert_close(kl_estimate(x, "k2"), 0.005)
    assert_close(kl_estimate(x, "k3"), 0.0048374, 1e-7)
    with pytest.raises(ValueError, match="k4"):
        kl_estimate(x, "k4")  # type: ignore[arg-type]


def test_gae_of_the_sources() -> None:
    advantages, returns = gae(torch.tensor([0.0, 0, 0, 1]), torch.tensor([0.0, 0, 0, 1]), gamma=0.9, lam=0.95)
    assert_close(advantages, [0.6579225, 0.7695, 0.9, 0.0])
    assert_close(returns, [0.6579225, 0.7695, 0.9, 1.0])
    advantages, returns = gae(torch.tensor([-0.1, -0.1, 0.9]), torch.tensor([0.2, 0.3, 0.4]), gamma=1.0, lam=0.95)
    assert_close(advantages, [0.45125, 0.475, 0.5])
    assert_close(returns, [0.65125, 0.775, 0.9])
    assert_close(whiten(advantages), [-1.21413, -0.02093, 1.23506], 1e-5)
    assert_close(whiten(advantages, unbiased=True), [-0.99134, -0.01709, 1.00843], 1e-5)


def test_gae_does_not_look_past_the_mask() -> None:
    rewards = torch.tensor([[9.0, -0.1, -0.1, 0.9, 7.0, 7.0]])
    values = torch.tensor([[9.0, 0.2, 0.3, 0.4, 50.0, float("nan")]])
    mask = torch.tensor([[False, True, True, True, False, False]])
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.95)
    assert_close(advantages, [[0, 0.45125, 0.475, 0.5, 0, 0]])
    assert_close(returns, [[0, 0.65125, 0.775, 0.9, 0, 0]])


def test_whitening_counts_real_tokens_only() -> None:
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, -7.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    whitened = whiten(values, mask)
    assert_close(whitened, [[-math.sqrt(1.5), 0, 0], [math.sqrt(1.5), 0, 0]])
    assert_close(whiten(torch.full((2, 3), 0.1)), torch.zeros(2, 3))


def test_the_ratio_is_one_to_the_last_bit_before_the_first_update() -> None:
    logprobs = -torch.rand(4, 7).mul(9)
    mask = torch.rand(4, 7) > 0.3
    advantages = torch.randn(4, 7)
    trained = logprobs.clone().requires_grad_()
    found = policy_loss(trained, logprobs, advantages, mask)
    assert found.ratio.item() == 1.0
    assert found.clip_fraction.item() == 0.0
    assert found.approx_kl.item() == 0.0
    assert_close(found.loss, -advantages[mask].mean().item())
    found.loss.backward()
    assert trained.grad is not None
    assert_close(trained.grad, torch.where(mask, -advantages / mask.sum(), torch.zeros(())))


def test_policy_loss_clips() -> None:
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5, 1.1, 3.0]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0, 2.0, 9.0]])
    mask = torch.tensor([[True] * 5 + [False]])
    logprobs = ratio.log().requires_grad_()
    found = policy_loss(logprobs, torch.zeros_like(ratio), advantages, mask, clip=0.2)
    assert_close(found.loss, -(1.2 + 0.5 - 1.5 - 0.8 + 2.2) / 5)
    assert_close(found.clip_fraction, 4 / 5)
    assert_close(found.ratio, (1.5 + 0.5 + 1.5 + 0.5 + 1.1) / 5)
    assert_close(found.approx_kl, sum(r - 1 - math.log(r) for r in (1.5, 0.5, 1.5, 0.5, 1.1)) / 5)
    found.loss.backward()
    assert logprobs.grad is not None
    # No gradient where clipping won, nor outside the mask.
    assert_close(logprobs.grad, [[0.0, -0.1, 0.3, 0.0, -0.44, 0.0]])
    assert_close(policy_loss(logprobs, torch.zeros_like(ratio), advantages, mask, 0.2, 10).loss, -1.6 / 10)


def test_value_loss_clips() -> None:
    values = torch.tensor([[1.0, 0.1, 7.0]], requires_grad=True)
    old = torch.tensor([[0.0, 0.0, 0.0]])
    returns = torch.tensor([[1.0, 1.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    found = value_loss(values, old, returns, mask, clip=0.2)
    # The first moved by 1, clipped to .2: error .8; the second is inside: error .9.
    assert_close(found.loss, 0.5 * (0.64 + 0.81) / 2)
    assert_close(found.clip_fraction, 0.5)
    found.loss.backward()
    assert values.grad is not None
    assert_close(values.grad, [[0.0, -0.45, 0.0]])
    assert_close(value_loss(values, old, returns, mask, clip=0).loss, 0.5 * (0 + 0.81) / 2)
