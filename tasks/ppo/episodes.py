"""Episodes as tensors: where each response lies in its row, and what the models say of its tokens.

Rows are prompt + response, padded on the right, so positions count from 0 without more ado and no real token sees a
pad. Everything about responses is (B, L): entry t belongs to the response's token t, and to the state before it, at
`places[b, t]` = prompt length - 1 + t, which predicts that token and has its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.training.batches import pad_right
from tasks.training.generate import Generated
from tasks.training.losses import token_logprobs_and_entropy
from tasks.training.model import RewardModel, head_weight, hidden_states


@dataclass(frozen=True)
class Layout:
    """ids (B, T); places, targets and mask (B, L). The mask is True up to and with the first end token.

    `judged` (B, T') and `judged_lengths` (B,) are what the reward model reads: the row with an end token even where
    the response has none, since it has learnt to judge at end tokens only.
    """

    ids: Tensor
    places: Tensor
    targets: Tensor
    mask: Tensor
    judged: Tensor
    judged_lengths: Tensor

    def to(self, device: torch.device) -> Layout:
        return Layout(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    @property
    def tokens(self) -> int:
        """Real response tokens."""
        return int(self.mask.sum())


def lay_out(prompts: Sequence[Sequence[int]], responses: Sequence[Generated], eos_id: int) -> Layout:
    """The tensors of some episodes. The mask comes from the lengths of the responses, which `generate` ends at the
    first end token; the ids themselves are never asked (a pad may have any id, a prompt may hold end tokens)."""
    ids, _ = pad_right([[*prompt, *response.ids] for prompt, response in zip(prompts, responses, strict=True)])
    targets, mask = pad_right([response.ids for response in responses])
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts])
    places = (starts[:, None] + torch.arange(targets.shape[1])).clamp_(max=ids.shape[1] - 1)
    judged, judged_mask = pad_right(
        [[*prompt, *response.text_ids, eos_id] for prompt, response in zip(prompts, responses, strict=True)]
    )
    return Layout(ids, places, targets, mask, judged, judged_mask.sum(1))


def response_logprobs(model: Any, layout: Layout, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probabilities, entropies) of the response's tokens under the softmax at this temperature, (B, L) float32.

    Old policy, new policy and reference all go through here: where the weights and the layout are the same, so is
    every bit, and the ratio is exactly 1. 0 outside the mask. With gradient, where that is on.
    """
    hidden = hidden_states(model, layout.ids)
    states = _at_places(hidden, layout)[layout.mask]
    logprobs, entropies = token_logprobs_and_entropy(
        states, head_weight(model), layout.targets[layout.mask], temperature
    )
    return _spread(logprobs, layout.mask), _spread(entropies, layout.mask)


def response_values(critic: RewardModel, layout: Layout) -> Tensor:
    """(B, L) values of the states before each response token; 0 outside the mask."""
    values = critic.values(layout.ids)
    rows = torch.arange(len(values), device=values.device)[:, None]
    return torch.where(layout.mask, values[rows, layout.places], values.new_zeros(()))


def _at_places(hidden: Tensor, layout: Layout) -> Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)[:, None]
    return hidden[rows, layout.places]


def _spread(flat: Tensor, mask: Tensor) -> Tensor:
    spread = flat.new_zeros(mask.shape)
    spread[mask] = flat
    return spread


def token_rewards(scores: Tensor, logratio: Tensor, mask: Tensor, beta: float) -> Tensor:
    """(B, L) rewards: -beta (log pi - log pi_ref) at every token (k1), and the score on the last real token.

    Ouyang et al. 2022, equation 2, as a reward a token. scores: (B,); logratio, mask: (B, L), every row with at least
    one real token; 0 outside the mask.
    """
    rewards = torch.where(mask, -beta * logratio, logratio.new_zeros(()))
    last = mask.sum(1) - 1
    rewards[torch.arange(len(rewards), device=rewards.device), last] += scores
    return rewards
