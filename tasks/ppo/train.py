"""The loop of PPO-ptx, as a training group runs it (Ouyang et al. 2022, appendix C.4)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artifacts.errors import RunError, UserError
from tasks.ppo.config import PPOConfig
from tasks.ppo.episodes import response_logprobs, response_values
from tasks.ppo.rollout import Collector, Experience, Prompts, moments, rollout_rows
from tasks.training.batches import TokenRows, micro_batches, on, share
from tasks.training.chat_format import end_id
from tasks.training.checkpoint import Checkpoints
from tasks.training.engine import AdamSettings, Engine, seed_everything
from tasks.training.language import language_loss
from tasks.training.losses import kl_estimate, policy_loss, value_loss
from tasks.training.metrics import Metric
from tasks.training.model import RewardModel, count_parameters, load_causal, load_tokenizer, save_causal
from tasks.training.schedule import by_step

Figures = dict[str, float]


class Trainer:
    """Actor and critic under training, the reward model and the reference frozen."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.config = config = PPOConfig.model_validate(job["config"])
        self.job = job
        self.tokenizer = load_tokenizer(job["source"])
        self.actor = self._engine(load_causal(job["source"]), config.actor_lr)
        self.critic = self._engine(RewardModel.load(job["reward_model"]), config.critic_lr)
        reference = load_causal(job["reference"]).to(self.actor.device).requires_grad_(False)
        reward = RewardModel.load(job["reward_model"]).to(self.actor.device).requires_grad_(False)
        # Dropout is off in all four: with it the ratio would not be 1 where nothing was learnt.
        for model in (self.actor.module, self.critic.module, reference, reward):
            model.eval()
        self.collector = Collector(
            config, job["seed"], end_id(self.tokenizer), self.actor, self.critic, reference, reward
        )
        self.prompts = Prompts(json.loads(Path(job["prompts"]).read_text()), job["seed"])
        self.rows = TokenRows(job["tokens"]) if job["tokens"] else None
        self.ema = self._weights() if config.ema else {}
        self.deviation = 0.0
        for name, count in (("minibatch", config.minibatch), ("pretraining rows a step", config.rows_a_step)):
            if count % self.actor.world_size:
                raise UserError(f"ppo: {name} is {count}: {self.actor.world_size} ranks cannot share it evenly")

    def _engine(self, model: Any, lr: float) -> Engine:
        config = self.config
        updates = config.updates_an_iteration
        rate = by_step(
            lr,
            config.iterations * updates,
            kind="constant",
            warmup=config.warmup_iterations * updates,
            warmup_from=0.1,
        )
        settings = AdamSettings(config.betas, config.eps, config.weight_decay, config.grad_clip)
        return Engine(model, rate, settings, self.job["deepspeed"], config.precision)

    def _weights(self) -> dict[str, Tensor]:
        with self.actor.gathered() as module:
            return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    def iterate(self, iteration: int) -> list[Metric]:
        """Sample, score, learn; write the episodes; returns the iteration's metrics, the same on every rank."""
        minibatches = self.collector.collect(self.prompts, iteration)
        self._write_rollouts(minibatches, iteration)
        figures = self._describe([part for minibatch in minibatches for part in minibatch])
        figures["lr"] = self.actor.rate
        updates: list[Figures] = []
        for epoch in range(self.config.inner_epochs):
            for number, minibatch in enumerate(minibatches):
                tokens = int(self._sum([float(sum(part.layout.tokens for part in minibatch))])[0])
                untouched = epoch == number == 0
                update = self.actor_step(minibatch, tokens, untouched)
                update.update(self.critic_step(minibatch, tokens))
                updates.append(update)
        for name in updates[0]:
            figures[name] = sum(update[name] for update in updates) / len(updates)
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        if bad:
            raise RunError(f"ppo: {', '.join(bad)} of iteration {iteration} is not finite: lower actor_lr or critic_lr")
        return [(iteration, name, value) for name, value in figures.items()]

    # --- learning

    def actor_step(self, minibatch: Sequence[Experience], tokens: int, untouched: bool = False) -> Figures:
        """One update of the policy: PPO's gradient, then gamma times that of pretraining, in the same buffers.

        Args:
            tokens: real response tokens of the minibatch over all ranks, by which the loss is divided.
            untouched: no update since sampling: the ratio must be exactly 1.
        """
        figures = self.ppo_gradient(minibatch, tokens, untouched)
        if self.rows is not None:
            figures["ptx_loss"] = self.ptx_gradient(self.rows)
        figures["actor_grad_norm"] = self.actor.step()
        if self.ema:
            with torch.no_grad(), self.actor.gathered() as module:
                for name, parameter in module.named_parameters():
                    self.ema[name].lerp_(parameter.detach(), 1.0 - self.config.ema)
        return figures

    def ppo_gradient(self, minibatch: Sequence[Experience], tokens: int, untouched: bool) -> Figures:
        """Accumulate the clipped surrogate's gradient; figures are means over the minibatch's real tokens."""
        config, sums = self.config, [0.0, 0.0, 0.0]
        for part in minibatch:
            mask = part.layout.mask
            logprobs, _ = self.actor(response_logprobs, part.layout, config.temperature)
            if untouched:
                self._check_ratio(logprobs.detach(), part)
            found = policy_loss(logprobs, part.logprobs, part.advantages, mask, config.clip, tokens)
            self.actor.backward(found.loss)
            weight = part.layout.tokens / tokens
            for place, value in enumerate(
                (float(found.loss.detach()), weight * float(found.clip_fraction), weight * float(found.approx_kl))
            ):
                sums[place] += value
        return dict(zip(("policy_loss", "clip_fraction", "approx_kl"), self._sum(sums), strict=True))

    def ptx_gradient(self, rows: TokenRows) -> float:
        """Accumulate gamma times the gradient of the mean cross-entropy of this update's pretraining rows (nats)."""
        config, actor = self.config, self.actor
        first = config.first_row + actor.updates * config.rows_a_step
        whole = range(first, first + config.rows_a_step)
        mine, predicted = share(whole, actor.rank, actor.world_size), rows.predicted(whole)
        total = 0.0
        for part in micro_batches(mine, config.micro_batch or len(mine)):
            loss = actor(language_loss, *on(actor.device, rows.batch(part)), predicted)
            actor.backward(loss * config.ptx)
            total += float(loss.detach())
        return self._sum([total])[0]

    def critic_step(self, minibatch: Sequence[Experience], tokens: int) -> Figures:
        """One update of the critic on the clipped squared error of its values."""
        sums = [0.0, 0.0]
        for part in minibatch:
            values = self.critic(response_values, part.layout)
            found = value_loss(values, part.values, part.returns, part.layout.mask, self.config.value_clip, tokens)
            self.critic.backward(found.loss)
            sums[0] += float(found.loss.detach())
            sums[1] += part.layout.tokens / tokens * float(found.clip_fraction)
        figures = dict(zip(("value_loss", "value_clip_fraction"), self._sum(sums), strict=True))
        figures["critic_grad_norm"] = self.critic.step()
        return figures

    def _check_ratio(self, logprobs: Tensor, part: Experience) -> None:
        ratio = (logprobs - part.logprobs).exp()[part.layout.mask]
        deviation = float((ratio - 1.0).abs().max())
        self.deviation = max(self.deviation, deviation)
        if deviation != 0.0:
            raise RunError(
                f"ppo: the ratio before the first update of an iteration is off 1 by {deviation:g}: old and new "
                "log-probabilities do not come from the same forward pass (is a dropout or a kernel not deterministic?)"
            )

    # --- saying what happened

    def _describe(self, parts: Sequence[Experience]) -> Figures:
        """Means over episodes (reward, kl, length, ended) and over real tokens (entropy, kl_per_token)."""
        episodes = float(sum(len(part.responses) for part in parts))
        masks = [part.layout.mask for part in parts]
        k3 = sum(float(kl_estimate(part.logratio, "k3")[mask].sum()) for part, mask in zip(parts, masks, strict=True))
        sums = self._sum(
            [
                episodes,
                float(sum(part.layout.tokens for part in parts)),
                sum(float(part.scores.double().sum()) for part in parts),
                sum(float(part.logratio.double().sum()) for part in parts),
                float(sum(response.ended for part in parts for response in part.responses)),
                sum(float(part.entropies.double().sum()) for part in parts),
                k3,
            ]
        )
        count, tokens, reward, kl, ended, entropy, k3 = sums
        _, _, reward_variance = moments(self.actor, [part.scores for part in parts])
        returns = [part.returns[mask] for part, mask in zip(parts, masks, strict=True)]
        errors = [(part.returns - part.values)[mask] for part, mask in zip(parts, masks, strict=True)]
        _, _, spread = moments(self.actor, returns)
        _, _, left = moments(self.actor, errors)
        return {
            "reward": reward / count,
            "reward_deviation": math.sqrt(reward_variance),
            "kl": kl / count,
            "kl_per_token": k3 / tokens,
            "objective": (reward - self.config.beta * kl) / count,
            "entropy": entropy / tokens,
            "length": tokens / count,
            "ended": ended / count,
            "explained_variance": 1.0 - left / spread if spread > 0 else 0.0,
        }

    def _sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks."""
        total = self.actor.gather_sum(torch.tensor(values, dtype=torch.float64, device=self.actor.device))
        found: list[float] = total.tolist()
        return found

    def _write_rollouts(self, minibatches: Sequence[Sequence[Experience]], iteration: int) -> None:
        path = Path(rollout_file(self.job, iteration, self.actor.rank))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("w", encoding="utf8") as stream:
            for row in rollout_rows(minibatches, iteration, self.tokenizer):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(partial, path)

    def save(self) -> int:
        """Write the policy (the average of its weights, if one is kept); returns its number of parameters."""
        weights = self.ema or self._weights()
        policy = load_causal(self.job["source"])
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                parameter.copy_(weights[name])
        if self.actor.rank == 0:
            save_causal(policy, self.job["source"], self.job["model"])
        return count_parameters(policy)


def rollout_file(job: dict[str, Any], iteration: int, rank: int) -> str:
    """Where a rank writes the episodes of an iteration. A resumed run writes its iterations anew, to the same bytes."""
    return f"{job['rollouts']}/{iteration:06d}-{rank:04d}.jsonl"


def main(job: dict[str, Any], report: Callable[[int, int | None, str], None]) -> dict[str, Any]:
    """Train, save the policy, and return metrics, the files of episodes and figures."""
    trainer = Trainer(job)
    config = trainer.config
    seed_everything(job["seed"])
    engines = {"actor": trainer.actor, "critic": trainer.critic}
    checkpoints = Checkpoints(job["work"], config.checkpoint_every)
    start, state = checkpoints.resume(engines, {"metrics": [], "ema": trainer.ema, "deviation": 0.0})
    metrics: list[Metric] = state["metrics"]
    trainer.ema = {name: weight.to(trainer.actor.device) for name, weight in state["ema"].items()}
    trainer.deviation = state["deviation"]
    for iteration in range(start, config.iterations):
        found = trainer.iterate(iteration)
        metrics += found
        now = {name: value for _, name, value in found}
        report(iteration + 1, config.iterations, f"reward {now['reward']:.3f}, KL {now['kl']:.2f}")
        if checkpoints.due(iteration + 1, config.iterations):
            state = {"metrics": metrics, "ema": trainer.ema, "deviation": trainer.deviation}
            checkpoints.save(iteration + 1, engines, state)
    parameters = trainer.save()
    trainer.actor.barrier()
    last = {name: value for step, name, value in metrics if step == config.iterations - 1}
    first = {name: value for step, name, value in metrics if step == 0}
    ranks = trainer.actor.world_size
    return {
        "metrics": metrics,
        "files": [rollout_file(job, step, rank) for step in range(config.iterations) for rank in range(ranks)],
        "parameters": parameters,
        "final_loss": last["policy_loss"] + config.ptx * last.get("ptx_loss", 0.0),
        "first_reward": first["reward"],
        "final_reward": last["reward"],
        "final_kl": last["kl"],
        "final_ptx_loss": last.get("ptx_loss"),
        "first_ratio_max_deviation": trainer.deviation,
        "episodes": config.iterations * config.batch,
        "ema": config.ema,
    }
