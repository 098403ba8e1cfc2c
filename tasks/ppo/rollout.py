"""An iteration's episodes: sampled, scored by the four models, and turned into advantages and returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.ppo.config import PPOConfig
from tasks.ppo.episodes import Layout, lay_out, response_logprobs, response_values, token_rewards
from tasks.text.hashing import unit_interval
from tasks.training.batches import micro_batches, share
from tasks.training.engine import Engine
from tasks.training.generate import Generated, generate, row_seed
from tasks.training.losses import gae, kl_estimate
from tasks.training.model import RewardModel


@dataclass
class Experience:
    """Some episodes that are computed together, at sampling time and in every update alike. Tensors are (B, L)."""

    layout: Layout
    prompt_ids: list[str]
    responses: list[Generated]
    scores: Tensor  # (B,), the reward model's, without KL or penalty
    logprobs: Tensor
    logratio: Tensor  # old policy against reference
    entropies: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class Prompts:
    """The order in which prompts are asked: every epoch its own permutation, a function of the seed alone."""

    def __init__(self, prompts: Sequence[dict[str, Any]], seed: int) -> None:
        self._prompts = prompts
        self._seed = seed
        self._epoch = -1
        self._order: list[int] = []

    def episode(self, number: int) -> dict[str, Any]:
        """The prompt (`prompt_id`, `ids`) of an episode's number, counted from the run's first."""
        epoch, place = divmod(number, len(self._prompts))
        if epoch != self._epoch:
            draws = [unit_interval(prompt["prompt_id"], self._seed, f"ppo-{epoch}") for prompt in self._prompts]
            self._order = sorted(range(len(draws)), key=lambda prompt: (draws[prompt], prompt))
            self._epoch = epoch
        return self._prompts[self._order[place]]


class Collector:
    """Samples with the actor and asks all four models about what was said."""

    def __init__(
        self,
        config: PPOConfig,
        seed: int,
        eos_id: int,
        actor: Engine,
        critic: Engine,
        reference: Any,
        reward: RewardModel,
    ) -> None:
        self.config, self.seed, self.eos_id = config, seed, eos_id
        self.actor, self.critic, self.reference, self.reward = actor, critic, reference, reward

    def collect(self, prompts: Prompts, iteration: int) -> list[list[Experience]]:
        """The iteration's minibatches, this rank's share of each, cut into what is computed at once."""
        config, actor = self.config, self.actor
        first = iteration * config.batch
        cut = [
            list(micro_batches(mine, config.micro_batch or len(mine)))
            for start in range(first, first + config.batch, config.minibatch)
            for mine in [share(range(start, start + config.minibatch), actor.rank, actor.world_size)]
        ]
        numbers = [number for minibatch in cut for part in minibatch for number in part]
        asked = {number: prompts.episode(number) for number in numbers}
        answers = dict(zip(numbers, self._sample([asked[number] for number in numbers], numbers), strict=True))
        found = [
            [self._experience([asked[n] for n in part], [answers[n] for n in part]) for part in minibatch]
            for minibatch in cut
        ]
        if config.whiten:
            whiten_together(actor, [part for minibatch in found for part in minibatch])
        return found

    def _sample(self, prompts: Sequence[dict[str, Any]], numbers: Sequence[int]) -> list[Generated]:
        config = self.config
        with self.actor.autocast(), self.actor.gathered() as module:
            return generate(
                module,
                [prompt["ids"] for prompt in prompts],
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                eos_id=self.eos_id,
                seeds=[row_seed(self.seed, "ppo", number) for number in numbers],
                batch_size=config.sample_batch,
            )

    def _experience(self, prompts: list[dict[str, Any]], responses: list[Generated]) -> Experience:
        config = self.config
        layout = lay_out([prompt["ids"] for prompt in prompts], responses, self.eos_id).to(self.actor.device)
        # With the graph, although it is thrown away: without it a GPU may choose another attention kernel, and the
        # ratio before the first update would be 1 only to rounding.
        logprobs, entropies = (part.detach() for part in self.actor(response_logprobs, layout, config.temperature))
        with torch.no_grad():
            values = self.critic(response_values, layout)
            with self.actor.autocast():
                theirs, _ = response_logprobs(self.reference, layout, config.temperature)
                scores = self.reward.scores(layout.judged, layout.judged_lengths)
        logratio = logprobs - theirs
        ended = torch.tensor([response.ended for response in responses], device=scores.device)
        judged = torch.where(ended, scores, scores - config.missing_end_penalty)
        rewards = token_rewards(judged, kl_estimate(logratio, "k1"), layout.mask, config.beta)
        advantages, returns = gae(rewards, values, layout.mask, config.gamma, config.lam)
        return Experience(
            layout=layout,
            prompt_ids=[prompt["prompt_id"] for prompt in prompts],
            responses=responses,
            scores=scores,
            logprobs=logprobs,
            logratio=logratio,
            entropies=entropies,
            values=values,
            advantages=advantages,
            returns=returns,
        )


def moments(engine: Engine, parts: Sequence[Tensor]) -> tuple[float, float, float]:
    """(count, mean, population variance) of numbers spread over parts and ranks; two passes, in float64."""
    local = torch.cat([part.reshape(-1).double() for part in parts])
    count, total = engine.gather_sum(torch.stack([local.new_tensor(float(len(local))), local.sum()])).tolist()
    mean = total / max(1.0, count)
    squares = float(engine.gather_sum((local - mean).square().sum()))
    return count, mean, squares / max(1.0, count)


def whiten_together(engine: Engine, parts: Sequence[Experience]) -> None:
    """Set the advantages to mean 0 and deviation 1 over all real tokens of an iteration, over all ranks; 0 elsewhere.

    For one part on one rank this is `losses.whiten`.
    """
    count, mean, variance = moments(engine, [part.advantages[part.layout.mask] for part in parts])
    scale = (variance + 1e-8) ** -0.5 if count > 1 else 0.0
    for part in parts:
        white = ((part.advantages.double() - mean) * scale).to(part.advantages.dtype)
        part.advantages = torch.where(part.layout.mask, white, torch.zeros_like(white))


def rollout_rows(
    minibatches: Sequence[Sequence[Experience]], iteration: int, tokenizer: Any
) -> Iterator[dict[str, Any]]:
    """One row of the rollouts table an episode, in the order of the episodes.

    `reward` is the reward model's score alone, `kl` the sum of log pi - log pi_ref over the response, and
    `advantage_mean` that of the advantages as they were learnt (whitened, if they were).
    """
    for part in (part for minibatch in minibatches for part in minibatch):
        lengths = part.layout.mask.sum(1)
        kl = part.logratio.sum(1).tolist()
        advantages = (part.advantages.sum(1) / lengths).tolist()
        for row, response in enumerate(part.responses):
            yield {
                "step": iteration,
                "prompt_id": part.prompt_ids[row],
                "response": tokenizer.decode(response.text_ids, skip_special_tokens=True),
                "reward": float(part.scores[row]),
                "kl": kl[row],
                "length": len(response.ids),
                "ended": response.ended,
                "advantage_mean": advantages[row],
            }
