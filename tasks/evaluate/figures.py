"""From scores to the figures of the manifest, each with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tasks.training.intervals import Z95, mean_interval, paired_difference, wilson


def by_prompt(values: Sequence[float], each: int) -> list[float]:
    """The sum of every `each` neighbours: of the answers to one prompt, which are not independent of one another."""
    return [math.fsum(values[start : start + each]) for start in range(0, len(values), each)]


def win_rate(ours: Sequence[float], theirs: Sequence[float], each: int = 1) -> dict[str, Any]:
    """The share of pairs in which ours scores higher, equal scores counting half, with its Wilson interval.

    With equal seeds two policies that are close often give the very same answer: those are the ties.

    Args:
        each: answers a prompt, standing together. `wins`, `ties` and `losses` count answers, `n` counts prompts.
    """
    wins = sum(a > b for a, b in zip(ours, theirs, strict=True))
    ties = sum(a == b for a, b in zip(ours, theirs, strict=True))
    losses = len(ours) - wins - ties
    return {**wilson((wins + ties / 2) / each, len(ours) // each), "wins": wins, "ties": ties, "losses": losses}


def kl_figures(
    policy: Sequence[Sequence[float]], reference: Sequence[Sequence[float]], each: int = 1
) -> dict[str, Any]:
    """KL(policy || reference) from log-probabilities of the policy's own samples, one list an answer.

    `per_answer` is the mean over answers of the summed log ratio (k1, unbiased); `per_token` the total over the number
    of tokens, its interval by the delta method for a ratio of means; `per_token_k3` the mean of e^-x - 1 + x, which is
    never negative. All intervals are over prompts, of `each` answers that stand together.
    """
    ratios = [
        [a - b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in zip(policy, reference, strict=True)
    ]
    sums = by_prompt([math.fsum(ratio) for ratio in ratios], each)
    k3 = by_prompt([math.fsum(math.expm1(-x) + x for x in ratio) for ratio in ratios], each)
    lengths = by_prompt([len(ratio) for ratio in ratios], each)
    return {
        "per_answer": mean_interval([total / each for total in sums]),
        "per_token": ratio_interval(sums, lengths),
        "per_token_k3": ratio_interval(k3, lengths),
    }


def ratio_interval(tops: Sequence[float], bottoms: Sequence[float]) -> dict[str, Any]:
    """sum(tops) / sum(bottoms) over independent rows with its 95% interval by the delta method."""
    count, total = len(tops), math.fsum(bottoms)
    if not count or not total:
        return {"mean": None, "low": None, "high": None, "n": count}
    ratio = math.fsum(tops) / total
    if count == 1:
        return {"mean": ratio, "low": None, "high": None, "n": 1}
    spread = math.fsum((top - ratio * bottom) ** 2 for top, bottom in zip(tops, bottoms, strict=True))
    half = Z95 * math.sqrt(spread / (count - 1) / count) / (total / count)
    return {"mean": ratio, "low": ratio - half, "high": ratio + half, "n": count}


def heldout_figures(rows: dict[str, list[float]], predicted: int, bytes_total: int) -> dict[str, Any]:
    """Loss on held-out rows by model (nats a token; each row's mean in `rows`), and paired differences over rows.

    Args:
        predicted: predicted tokens a row; bytes_total: UTF-8 bytes that all predicted tokens stand for.
    """
    found: dict[str, Any] = {}
    for role, losses in rows.items():
        loss = mean_interval(losses)
        nats = math.fsum(losses) * predicted
        found[role] = {
            **loss,
            "perplexity": math.exp(math.fsum(losses) / len(losses)),
            "bits_per_byte": nats / math.log(2) / max(bytes_total, 1),
        }
    differences = {}
    for left, right in (("ppo", "ppo_without_ptx"), ("ppo", "sft"), ("ppo_without_ptx", "sft"), ("sft", "pretrained")):
        if left in rows and right in rows:
            differences[f"{left}_minus_{right}"] = paired_difference(rows[left], rows[right])
    return {**found, "difference": differences, "rows": len(next(iter(rows.values()))), "tokens_a_row": predicted}


def answer_figures(
    rewards: dict[str, list[float]], lengths: dict[str, list[int]], ended: dict[str, list[bool]], each: int = 1
) -> dict[str, Any]:
    """Rewards of each policy on the same prompts, their differences to the baseline, wins, lengths and endings.

    Args:
        each: answers a prompt, standing together: the intervals are over prompts, of which each counts once.
    """
    means = {role: [total / each for total in by_prompt(values, each)] for role, values in rewards.items()}
    reward: dict[str, Any] = {role: mean_interval(values) for role, values in means.items()}
    reward["difference"] = paired_difference(means["ppo"], means["sft"])
    if "ppo_without_ptx" in means:
        reward["difference_without_ptx"] = paired_difference(means["ppo_without_ptx"], means["sft"])
    return {
        "reward": reward,
        "win_rate": win_rate(rewards["ppo"], rewards["sft"], each),
        "length": {
            role: mean_interval([total / each for total in by_prompt(values, each)]) for role, values in lengths.items()
        },
        "ended": {role: wilson(sum(values) / each, len(values) // each) for role, values in ended.items()},
    }


def choice_figures(hits: dict[str, list[bool]]) -> dict[str, Any]:
    """Accuracy by model with its interval, and the paired differences of PPO to SFT and to PPO without ptx."""
    found: dict[str, Any] = {role: wilson(sum(values), len(values)) for role, values in hits.items()}
    for other in ("sft", "ppo_without_ptx"):
        if other in hits:
            difference = paired_difference([float(hit) for hit in hits["ppo"]], [float(hit) for hit in hits[other]])
            found[f"ppo_minus_{other}"] = difference
    return found
