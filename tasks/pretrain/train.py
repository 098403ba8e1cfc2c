"""The training loop of pretraining, as a training group runs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from artifacts.errors import RunError, UserError
from tasks.pretrain.config import PretrainConfig
from tasks.training.batches import TokenRows, micro_batches, on, share
from tasks.training.chat_format import end_id
from tasks.training.checkpoint import Checkpoints
from tasks.training.engine import AdamSettings, Engine, seed_everything
from tasks.training.language import CorpusLoss, corpus_loss, language_loss
from tasks.training.metrics import Metric
from tasks.training.model import build_causal, count_parameters, load_tokenizer, save_causal
from tasks.training.schedule import by_step

EVALUATE_AT_ONCE = 16  # sequences a forward pass


def main(job: dict[str, Any], report: Callable[[int, int | None, str], None]) -> dict[str, Any]:
    """Train, save the model, and return metrics and figures (rank 0's are used; all ranks have the same)."""
    config = PretrainConfig.model_validate(job["config"])
    rows = TokenRows(job["tokens"])
    steps, per_step = int(job["steps"]), int(job["rows_per_step"])
    engine = _engine(config, job, steps, per_step * rows.length)
    if per_step % engine.world_size:
        raise UserError(f"pretrain.batch_tokens is {per_step} sequences: {engine.world_size} ranks cannot share them")
    seed_everything(job["seed"])
    engine.module.train()
    checkpoints = Checkpoints(job["work"], config.checkpoint_every)
    start, state = checkpoints.resume({"model": engine}, {"metrics": []})
    metrics: list[Metric] = state["metrics"]
    loss, last = math.nan, None
    for step in range(start, steps):
        loss = _update(engine, config, rows, step, per_step, metrics)
        done = step + 1
        if done == steps or (config.eval_every and done % config.eval_every == 0):
            last = _evaluate(engine, config, job)
            if last is not None:
                metrics += [(step, "heldout_loss", last.loss), (step, "bits_per_byte", last.bits_per_byte)]
        report(done, steps, f"loss {loss:.3f}")
        if checkpoints.due(done, steps):
            checkpoints.save(done, {"model": engine}, {"metrics": metrics})
    with engine.gathered() as module:
        if engine.rank == 0:
            save_causal(module, job["tokenizer"], job["model"])
        parameters = count_parameters(module)
    engine.barrier()
    return {
        "metrics": metrics,
        "parameters": parameters,
        "final_loss": loss,
        "heldout_loss": None if last is None else last.loss,
        "bits_per_byte": None if last is None else last.bits_per_byte,
        "heldout_tokens": 0 if last is None else last.tokens,
    }


def _engine(config: PretrainConfig, job: dict[str, Any], steps: int, step_tokens: int) -> Engine:
    end = end_id(load_tokenizer(job["tokenizer"]))
    model = build_causal(config.model, job["vocab_size"], job["seed"], end)
    rate = by_step(
        config.lr,
        steps,
        kind=config.schedule,
        warmup=config.warmup_tokens / step_tokens,
        floor=config.final_lr,
    )
    settings = AdamSettings(config.betas, config.eps, config.weight_decay, config.clip)
    return Engine(model, rate, settings, job["deepspeed"], config.precision)


def _update(
    engine: Engine, config: PretrainConfig, rows: TokenRows, step: int, per_step: int, metrics: list[Metric]
) -> float:
    """One optimizer step on the rows of its number; returns its loss in nats a token."""
    whole = range(step * per_step, (step + 1) * per_step)
    numbers, predicted = share(whole, engine.rank, engine.world_size), rows.predicted(whole)
    parts = []
    for part in micro_batches(numbers, config.micro_batch or len(numbers)):
        loss = engine(language_loss, *on(engine.device, rows.batch(part)), predicted)
        engine.backward(loss)
        parts.append(loss.detach())
    total = float(engine.gather_sum(sum(parts[1:], parts[0])))
    if not math.isfinite(total):
        raise RunError(f"pretrain: the loss of step {step} is not finite: lower pretrain.lr")
    metrics.append((step, "train_loss", total))
    metrics.append((step, "lr", engine.rate))
    metrics.append((step, "grad_norm", engine.step()))
    return total


def _evaluate(engine: Engine, config: PretrainConfig, job: dict[str, Any]) -> CorpusLoss | None:
    if job["heldout"] is None or not config.eval_sequences:
        return None
    lengths = np.load(job["bytes"], allow_pickle=False).tolist()
    return corpus_loss(engine, TokenRows(job["heldout"]), config.eval_sequences, lengths, EVALUATE_AT_ONCE)
