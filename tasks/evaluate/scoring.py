"""Log-probabilities and rewards of token sequences under one model at a time, without gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.training.batches import pad_right
from tasks.training.generate import autocast
from tasks.training.losses import token_logprobs
from tasks.training.model import RewardModel, head_weight, hidden_states


@contextlib.contextmanager
def scoring(device: torch.device) -> Iterator[None]:
    """No gradients, and the precision that training has by default: fp32 on CPUs, bf16 on GPUs."""
    with torch.no_grad(), autocast(device, "auto"):
        yield


def _batches(sequences: Sequence[Sequence[int]], size: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """(places, ids, mask), similar lengths together, in an order that depends on the sequences alone."""
    order = sorted(range(len(sequences)), key=lambda place: (len(sequences[place]), place))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        ids, mask = pad_right([sequences[place] for place in places])
        yield places, ids, mask


def logprobs_after(
    model: Any, sequences: Sequence[Sequence[int]], starts: Sequence[int], size: int, temperature: float = 1.0
) -> list[list[float]]:
    """For each sequence log p (nats) of its tokens from place `starts[i]` (1 or more) on, given those before."""
    device = next(model.parameters()).device
    found: list[list[float]] = [[] for _ in sequences]
    with scoring(device):
        for places, ids, mask in _batches(sequences, size):
            ids, mask = ids.to(device), mask.to(device)
            wanted = mask[:, 1:].clone()
            for row, place in enumerate(places):
                wanted[row, : starts[place] - 1] = False
            hidden = hidden_states(model, ids[:, :-1])
            logs = token_logprobs(hidden[wanted], head_weight(model), ids[:, 1:][wanted], temperature).tolist()
            counts = wanted.sum(1).tolist()
            for place, count in zip(places, counts, strict=True):
                found[place], logs = logs[:count], logs[count:]
    return found


def greedy_hits(model: Any, sequences: Sequence[Sequence[int]], starts: Sequence[int], size: int) -> list[bool]:
    """Whether each token of a sequence from place `starts[i]` on is the most probable one given those before."""
    device = next(model.parameters()).device
    found = [False] * len(sequences)
    with scoring(device):
        for places, ids, mask in _batches(sequences, size):
            ids = ids.to(device)
            hidden = hidden_states(model, ids[:, :-1])
            for row, place in enumerate(places):
                end = int(mask[row].sum())
                logits = hidden[row, starts[place] - 1 : end - 1] @ head_weight(model).T
                found[place] = bool((logits.argmax(-1) == ids[row, starts[place] : end]).all())
    return found


def rewards_of(model: RewardModel, sequences: Sequence[Sequence[int]], size: int) -> list[float]:
    """The reward model's score of each sequence, at its last token."""
    device = next(model.parameters()).device
    found = [0.0] * len(sequences)
    with scoring(device):
        for places, ids, mask in _batches(sequences, size):
            scores = model.scores(ids.to(device), mask.sum(1).to(device)).tolist()
            for place, score in zip(places, scores, strict=True):
                found[place] = score
    return found
