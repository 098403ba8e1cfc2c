"""Losses of language models, reward models and PPO, as functions of tensors.

Nothing here keeps B x T x V logits: token log-probabilities come from hidden states and the head's weight, some tokens
at a time, forward and backward. Masks are given by the caller (they come from lengths and first EOS, never from ids),
and sums are divided by a count that the caller passes, which is the global one when a batch is spread over
micro-batches or processes.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Tokens whose logits exist at once. 512 x 50,257 float32 logits are 100 MB; on two CPU cores a head of 192 x 4,096 took
# 0.058 s for 2,048 tokens in chunks of 512, 0.24 s in one piece.
CHUNK = 512


class _TokenLogprobs(torch.autograd.Function):
    """Log-probability of each target and entropy of each distribution; logits are made again in backward.

    `torch.nn.functional.linear_cross_entropy` is the library's version for losses alone; this one also gives each
    token's value and the entropy, which PPO needs, so that scoring and training share one path. A node of its own
    (and not `torch.utils.checkpoint`) adds the head's gradient once, which is what DeepSpeed's hooks expect.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logprobs = hidden.new_empty(len(hidden), dtype=torch.float32)
        normaliser = torch.empty_like(logprobs)
        entropy = torch.zeros_like(logprobs)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = _logits(hidden[part], weight, temperature)
            normaliser[part] = torch.logsumexp(logits, dim=-1)
            logprobs[part] = logits.gather(1, targets[part, None]).squeeze(1) - normaliser[part]
            if with_entropy:
                logs = logits.sub_(normaliser[part, None])
                entropy[part] = -(logs.exp() * logs).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, normaliser, entropy)
        ctx.settings = (temperature, chunk, with_entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, normaliser, entropy = ctx.saved_tensors
        temperature, chunk, with_entropy = ctx.settings
        for_logprobs, for_entropy = gradients
        hidden_gradient = torch.empty_like(hidden)
        # Summed in float32 over the chunks even where the weight is bfloat16.
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logs = _logits(hidden[part], weight, temperature).sub_(normaliser[part, None])
            slope = logs.exp()
            if with_entropy:
                # d H / d z = -p (log p + H)
                factor = -for_logprobs[part, None] - for_entropy[part, None] * (logs + entropy[part, None])
                slope.mul_(factor)
            else:
                slope.mul_(-for_logprobs[part, None])
            slope.scatter_add_(1, targets[part, None], for_logprobs[part, None].to(slope.dtype))
            slope.div_(temperature)
            narrow = slope.to(weight.dtype)
            hidden_gradient[part] = narrow @ weight
            if weight.dtype == torch.float32:
                weight_gradient.addmm_(narrow.T, hidden[part])
            else:
                weight_gradient += narrow.T @ hidden[part]
        return hidden_gradient, weight_gradient.to(weight.dtype), None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = functional.linear(hidden, weight).float()
    return logits if temperature == 1.0 else logits / temperature


def token_logprobs_and_entropy(
    hidden: Tensor, head_weight: Tensor, targets: Tensor, temperature: float = 1.0, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """As `token_logprobs`, and with it the entropy in nats of each position's distribution, both with gradient."""
    return _scored(hidden, head_weight, targets, temperature, chunk, True)


def token_logprobs(
    hidden: Tensor, head_weight: Tensor, targets: Tensor, temperature: float = 1.0, chunk: int = CHUNK
) -> Tensor:
    """log p(target) under softmax(hidden @ head_weight.T / temperature), float32, with gradient.

    Args:
        hidden: (..., D), the final hidden states, after the last norm.
        head_weight: (V, D).
        targets: (...), the token that each state must predict: already shifted by one.
        temperature: the one that the tokens were sampled with.
    Returns:
        (...) float32, nats.
    """
    return _scored(hidden, head_weight, targets, temperature, chunk, False)[0]


def _scored(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if hidden.shape[:-1] != targets.shape:
        raise ValueError(f"hidden states {tuple(hidden.shape)} and targets {tuple(targets.shape)} do not match")
    flat = hidden.reshape(-1, hidden.shape[-1])
    arguments = (flat, weight, targets.reshape(-1), temperature, chunk, with_entropy)
    found = _TokenLogprobs.apply(*arguments)  # type: ignore[no-untyped-call]
    return found[0].view(targets.shape), found[1].view(targets.shape)


def causal_loss(
    hidden: Tensor,
    head_weight: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    token_count: int | float | Tensor | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Cross entropy in nats a token: -(sum of log p(target) over the mask) / token_count.

    Args:
        hidden: (B, T, D); targets: (B, T), already shifted: hidden[b, t] predicts targets[b, t].
        mask: (B, T) bool, the positions that count; None is all of them. The head is computed for these only.
        token_count: what to divide by: the number of counted tokens of the whole optimizer step, over micro-batches
            and processes. None: those of this call.
    Returns:
        A scalar, float32; 0 with a gradient of zeros where nothing is counted.
    """
    if mask is not None:
        hidden, targets = hidden[mask], targets[mask]
    total = token_logprobs(hidden, head_weight, targets, chunk=chunk).sum()
    return -total / (max(targets.numel(), 1) if token_count is None else token_count)


def reward_loss(scores: Tensor, ranks: Tensor, prompt_count: int | float | None = None) -> Tensor:
    """Pairwise loss of a reward model over all pairs of a prompt (Ouyang et al. 2022, equation 1).

    -1/P * sum of log sigmoid(r_w - r_l) over the P pairs of a prompt that are not tied, averaged over prompts. Tied
    responses never make a pair. Without ties P is C(K, 2); with ties it is the number of pairs left, so that every
    prompt that says something weighs the same.

    Args:
        scores: (K,) or (N, K), r(x, y).
        ranks: the same shape, 1 = best; 0 marks a place that is only padding.
        prompt_count: what to divide the sum over prompts by; None: the prompts of this call that have a pair.
    Returns:
        A scalar, float32; 0 where no prompt has a pair.
    """
    scores, ranks = scores.float().view(-1, scores.shape[-1]), ranks.view(-1, ranks.shape[-1])
    real = ranks > 0
    better = (ranks[:, :, None] < ranks[:, None, :]) & real[:, :, None] & real[:, None, :]
    difference = scores[:, :, None] - scores[:, None, :]
    losses = torch.where(better, -functional.logsigmoid(difference), difference.new_zeros(()))
    pairs = better.sum((1, 2))
    per_prompt = losses.sum((1, 2)) / pairs.clamp(min=1)
    count = max(int((pairs > 0).sum()), 1) if prompt_count is None else prompt_count
    return per_prompt.sum() / count


def kl_estimate(logratio: Tensor, kind: Literal["k1", "k2", "k3"] = "k1") -> Tensor:
    """Estimates of KL(policy || reference) from x = log policy - log reference of tokens that the policy sampled.

    k1 = x (unbiased, any sign; the form in InstructGPT's reward), k2 = x^2/2 (biased), k3 = e^-x - 1 + x (unbiased,
    never negative). Same shape as `logratio`. As losses, k1 and k3 have another gradient than the KL's: use them on
    values.
    """
    if kind == "k1":
        return logratio
    if kind == "k2":
        return logratio.square() / 2
    if kind == "k3":
        return torch.expm1(-logratio) + logratio
    raise ValueError(f"unknown KL estimator {kind!r}: k1, k2 or k3")


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor | None = None, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates (Schulman et al. 2016) and the returns that the critic learns.

    A_t = sum over k of (gamma lam)^k delta_{t+k}, delta_t = r_t + gamma V_{t+1} - V_t; the value after the last token
    is 0.

    Args:
        rewards, values: (..., T). mask: (..., T) bool, true on one unbroken run of tokens of each row.
    Returns:
        advantages and returns (= advantages + values), both (..., T), without gradient, 0 outside the mask.
    """
    real = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.bool()
    zero = values.new_zeros(())
    rewards = torch.where(real, rewards.detach(), zero)
    values = torch.where(real, values.detach(), zero)
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[..., 0])
    following = torch.zeros_like(running)
    for step in reversed(range(values.shape[-1])):
        delta = rewards[..., step] + gamma * following - values[..., step]
        running = torch.where(real[..., step], delta + gamma * lam * running, zero)
        following = values[..., step]
        advantages[..., step] = running
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor | None = None, unbiased: bool = False) -> Tensor:
    """Shift to mean 0 and scale to deviation 1 over the real tokens only; 0 elsewhere. Same shape.

    Args:
        unbiased: divide the squares by n - 1 (Bessel) instead of n.
    """
    real = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.bool()
    inside = values[real].double()
    if inside.numel() < 2:
        return torch.zeros_like(values)
    # 1e-8 as in lm-human-preferences: a constant becomes 0 and not noise of size 1.
    scale = (inside.var(correction=1 if unbiased else 0) + 1e-8).rsqrt()
    whitened = ((values.double() - inside.mean()) * scale).to(values.dtype)
    return torch.where(real, whitened, torch.zeros_like(values))


class PolicyLoss(NamedTuple):
    """`loss` has the gradient; the rest are detached means over the mask: how far the policy has moved."""

    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor
    ratio: Tensor


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip: float = 0.2,
    token_count: int | float | Tensor | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate (Schulman et al. 2017, equation 7), to be minimised.

    -sum over the mask of min(ratio A, clip(ratio, 1 - clip, 1 + clip) A) / token_count, ratio = exp(new - old), which
    is exactly 1 where the two are equal.

    Args:
        logprobs: (B, T) with gradient; old_logprobs, advantages: (B, T); mask: (B, T) bool, the response's tokens.
        token_count: tokens of the whole optimizer step; None: those of the mask.
    Returns:
        `clip_fraction`: the share of tokens whose ratio is outside the range; `approx_kl`: k3 of old against new;
        `ratio`: its mean.
    """
    mask = mask.bool()
    here = max(int(mask.sum()), 1)
    zero = logprobs.new_zeros(())
    logratio = torch.where(mask, logprobs - old_logprobs.detach(), zero)
    ratio = logratio.exp()
    gain = torch.where(mask, advantages.detach(), zero)
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    loss = -surrogate.sum() / (here if token_count is None else token_count)
    with torch.no_grad():
        outside = (((ratio - 1).abs() > clip) & mask).sum() / here
        # The tokens come from the old policy: log(old / new) is the estimator's x.
        approx_kl = kl_estimate(-logratio, "k3").sum() / here
        mean_ratio = torch.where(mask, ratio, zero).sum() / here
    return PolicyLoss(loss, outside, approx_kl, mean_ratio)


class ValueLoss(NamedTuple):
    """`loss` has the gradient; `clip_fraction` is the share of tokens where the clipped error was the larger."""

    loss: Tensor
    clip_fraction: Tensor


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip: float = 0.2,
    token_count: int | float | Tensor | None = None,
) -> ValueLoss:
    """Clipped squared error of the critic: half the larger of (V - R)^2 and (V_clipped - R)^2, over token_count.

    V_clipped stays within `clip` of the value at sampling time; `clip` 0 or less means no clipping.
    Shapes and `token_count` as in `policy_loss`.
    """
    mask = mask.bool()
    here = max(int(mask.sum()), 1)
    zero = values.new_zeros(())
    values, old, returns = (torch.where(mask, item, zero) for item in (values, old_values.detach(), returns.detach()))
    plain = (values - returns).square()
    if clip <= 0:
        worst, clipped = plain, torch.zeros_like(plain)
    else:
        clipped = (old + (values - old).clamp(-clip, clip) - returns).square()
        worst = torch.maximum(plain, clipped)
    loss = 0.5 * worst.sum() / (here if token_count is None else token_count)
    return ValueLoss(loss, ((clipped > plain) & mask).sum() / here)
