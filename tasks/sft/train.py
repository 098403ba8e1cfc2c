"""The training loop of supervised fine-tuning, as a training group runs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from artifacts.errors import RunError, UserError
from tasks.sft.config import SftConfig
from tasks.sft.samples import Order, Samples
from tasks.training.batches import TokenRows, micro_batches, on, share
from tasks.training.checkpoint import Checkpoints
from tasks.training.engine import AdamSettings, Engine, seed_everything
from tasks.training.language import examples_loss, language_loss
from tasks.training.metrics import Metric
from tasks.training.model import count_parameters, load_causal, save_causal
from tasks.training.schedule import by_step

EVALUATE_AT_ONCE = 16  # samples a forward pass


class Trainer:
    """One run: what its steps read, and what they have measured."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.config = SftConfig.model_validate(job["config"])
        self.samples = Samples(job["train"])
        self.heldout = Samples(job["heldout"])
        self.order = Order(self.samples.lengths, self.config.epochs, self.config.batch_size, job["seed"])
        self.rows = TokenRows(job["tokens"]) if job["tokens"] else None
        fraction = self.config.pretrain_fraction
        self.rows_per_step = max(1, round(self.config.batch_size * fraction / (1 - fraction))) if self.rows else 0
        settings = AdamSettings(self.config.betas, self.config.eps, self.config.weight_decay, self.config.clip)
        rate = by_step(self.config.lr, self.order.steps, kind=self.config.schedule, floor=self.config.final_lr)
        model = load_causal(job["source"], self.config.dropout)
        self.engine = Engine(model, rate, settings, job["deepspeed"], self.config.precision)
        for name, count in (("batch_size", self.config.batch_size), ("pretraining rows a step", self.rows_per_step)):
            if count % self.engine.world_size:
                raise UserError(f"sft: {name} is {count}: {self.engine.world_size} ranks cannot share it evenly")

    def step(self, step: int) -> list[Metric]:
        """One optimizer step: (1 - f) times the loss on answers, f times that on pretraining rows."""
        numbers = self.order.step(step)
        learnt = sum(self.samples.learnt[number] for number in numbers)
        weight = 1.0 - self.config.pretrain_fraction if self.rows else 1.0
        loss = self._accumulate(numbers, self.samples.batch, learnt, weight, self.config.micro_batch)
        metrics: list[Metric] = [(step, "train_loss", loss), (step, "response_tokens", float(learnt))]
        if self.rows is not None:
            rows = self.rows
            wanted = range(step * self.rows_per_step, (step + 1) * self.rows_per_step)
            predicted = rows.predicted(wanted)
            mixed = self._accumulate(wanted, rows.batch, predicted, 1.0 - weight, self.config.micro_batch)
            metrics.append((step, "pretrain_loss", mixed))
        metrics.append((step, "lr", self.engine.rate))
        metrics.append((step, "grad_norm", self.engine.step()))
        return metrics

    def _accumulate(
        self,
        numbers: Sequence[int],
        batch_of: Callable[[list[int]], tuple[Tensor, Tensor | None]],
        count: int,
        weight: float,
        size: int,
    ) -> float:
        """Backward over this rank's share; returns the global loss, unweighted."""
        engine = self.engine
        mine = share(numbers, engine.rank, engine.world_size)
        parts = []
        for part in micro_batches(mine, size or len(mine)):
            loss = engine(language_loss, *on(engine.device, batch_of(part)), count)
            engine.backward(loss * weight)
            parts.append(loss.detach())
        total = float(engine.gather_sum(sum(parts[1:], parts[0])))
        if not math.isfinite(total):
            raise RunError(f"sft: the loss of step {engine.updates} is not finite: lower sft.lr")
        return total

    def due(self, done: int) -> bool:
        """Whether to measure the held-out loss after `done` steps."""
        if done == self.order.steps:
            return True
        if self.config.eval_every:
            return done % self.config.eval_every == 0
        samples, size = len(self.samples), self.config.batch_size
        return done * size // samples > (done - 1) * size // samples

    def heldout_loss(self) -> float | None:
        """Nats a response token on held-out conversations; None if there are none."""
        if not len(self.heldout):
            return None
        return examples_loss(self.engine, self.heldout.batch, len(self.heldout), EVALUATE_AT_ONCE).loss


def main(job: dict[str, Any], report: Callable[[int, int | None, str], None]) -> dict[str, Any]:
    """Train, save the model, and return metrics and figures."""
    trainer = Trainer(job)
    engine, steps = trainer.engine, trainer.order.steps
    seed_everything(job["seed"])
    engine.module.train()
    checkpoints = Checkpoints(job["work"], trainer.config.checkpoint_every)
    start, state = checkpoints.resume({"model": engine}, {"metrics": [], "before": None, "heldout": None})
    if start == 0:
        state["before"] = trainer.heldout_loss()
    for step in range(start, steps):
        state["metrics"] += trainer.step(step)
        state["loss"] = next(value for at, name, value in state["metrics"][::-1] if name == "train_loss")
        if trainer.due(step + 1):
            state["heldout"] = trainer.heldout_loss()
            if state["heldout"] is not None:
                state["metrics"].append((step, "heldout_loss", state["heldout"]))
        report(step + 1, steps, f"loss {state['loss']:.3f}")
        if checkpoints.due(step + 1, steps):
            checkpoints.save(step + 1, {"model": engine}, state)
    with engine.gathered() as module:
        if engine.rank == 0:
            save_causal(module, job["source"], job["model"])
        parameters = count_parameters(module)
    engine.barrier()
    return {
        "metrics": state["metrics"],
        "parameters": parameters,
        "steps": steps,
        "final_loss": state["loss"],
        "heldout_loss": state["heldout"],
        "heldout_loss_before": state["before"],
        "response_tokens": sum(trainer.samples.learnt),
        "pretrain_rows_per_step": trainer.rows_per_step,
    }
