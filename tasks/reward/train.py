"""The training loop of the reward model: what the worker processes run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artifacts.errors import UserError
from artifacts.reader import InputTable
from tasks.reward.accuracy import length_accuracy, pair_accuracy
from tasks.reward.examples import Example, Examples, fit, openings, read_examples
from tasks.text.hashing import unit_interval
from tasks.training.batches import micro_batches, pad_right, share
from tasks.training.chat_format import encode_prompt, encode_text, end_id
from tasks.training.checkpoint import Checkpoints
from tasks.training.engine import AdamSettings, Engine, seed_everything
from tasks.training.intervals import mean_interval
from tasks.training.losses import reward_loss
from tasks.training.metrics import Metric
from tasks.training.model import RewardModel, count_parameters, load_tokenizer
from tasks.training.schedule import by_step

Report = Callable[[int, "int | None", str], None]


def main(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train, set the bias, save; returns the metric rows, the row account and the figures of the manifest.

    A metric's step is the number of updates done, so that the held-out figures begin at 0.
    """
    config, seed = job["config"], int(job["seed"])
    seed_everything(seed)
    tokenizer = load_tokenizer(job["model"])
    model = RewardModel.from_causal(job["model"], seed)
    context = int(model.classifier.config.max_position_embeddings)
    max_tokens = min(config["max_tokens"] or context, context)
    demonstrated = openings(_table(job["conversations"])) if job["conversations"] else {}
    table = _table(job["rankings"])
    examples = read_examples(table, tokenizer, max_tokens, config["min_prompt_tokens"], demonstrated)
    if not examples.train:
        raise UserError(
            f"reward: no ranking to train on: {examples.rows} read, {len(examples.heldout)} held out, "
            f"dropped {examples.account['reasons'] or 'none'}"
        )
    per_epoch = math.ceil(len(examples.train) / config["batch_prompts"])
    steps = per_epoch * config["epochs"]
    settings = AdamSettings(weight_decay=config["weight_decay"], clip=config["clip"])
    engine = Engine(model, by_step(config["lr"], steps), settings, job["deepspeed"], config["precision"])
    parameters = count_parameters(model)

    checkpoints = Checkpoints(job["work"], config["checkpoint_every"])
    done, state = checkpoints.resume({"reward": engine}, {"rows": [], "before": None})
    if state["before"] is None:
        state["before"] = _measure(engine, examples.heldout, config, state["rows"], 0)
    for step in range(done, steps):
        report(step, steps, "training the reward model")
        chosen = _batch(examples.train, step, per_epoch, config["batch_prompts"], seed)
        found = _train_step(engine, chosen, config["micro_batch"])
        state["rows"] += [(step + 1, name, value) for name, value in found.items()]
        if checkpoints.due(step + 1, steps):
            checkpoints.save(step + 1, {"reward": engine}, state)
    report(steps, steps, "measuring the reward model")
    after = _measure(engine, examples.heldout, config, state["rows"], steps)
    bias = _set_bias(engine, _demonstrations(job, tokenizer, max_tokens, examples), config["micro_batch"])
    with engine.gathered() as module:
        if engine.rank == 0:
            module.save(Path(job["target"]), Path(job["model"]))  # type: ignore[operator]
    engine.barrier()
    metrics = {**_figures(examples, state, after, bias, steps), "parameters": parameters}
    return {"rows": state["rows"], "account": examples.account, "metrics": metrics}


def _table(files: Sequence[str]) -> InputTable:
    return InputTable([Path(file) for file in files])


def _batch(train: Sequence[Example], step: int, per_epoch: int, size: int, seed: int) -> list[Example]:
    """The rankings of one optimizer step: an epoch's order is by a hash of row, epoch and seed."""
    epoch, place = divmod(step, per_epoch)
    order = sorted(train, key=lambda example: unit_interval(f"{epoch}:{example.number}", seed, "reward-order"))
    return order[place * size : (place + 1) * size]


def _shares(count: int, engine: Engine, size: int) -> Iterator[tuple[list[int], bool]]:
    """This rank's micro-batches of `count` items, as many on every rank: ZeRO-3 gathers weights in step.

    A rank that has no more repeats the first item with a False beside it: it is computed and counts nothing.
    """
    longest = max(len(share(range(count), rank, engine.world_size)) for rank in range(engine.world_size))
    mine = list(micro_batches(share(range(count), engine.rank, engine.world_size), size))
    for number in range(math.ceil(longest / size)):
        yield (mine[number], True) if number < len(mine) else ([0], False)


def _train_step(engine: Engine, chosen: list[Example], micro_batch: int) -> dict[str, float]:
    """One optimizer step over some rankings; returns its metrics."""
    chosen = sorted(chosen, key=lambda example: (max(map(len, example.ids)), example.number))
    totals = torch.zeros(3, dtype=torch.float64)
    for numbers, counts in _shares(len(chosen), engine, micro_batch):
        part = [chosen[number] for number in numbers]
        scores, ranks = engine(_forward, part, engine.device)
        loss = reward_loss(scores, ranks, prompt_count=len(chosen)) * float(counts)
        engine.backward(loss)
        if counts:
            totals += torch.tensor([loss.item(), *_right(part, scores)], dtype=torch.float64)
    rate = engine.rate
    norm = engine.step()
    loss_sum, right, pairs = engine.gather_sum(totals).tolist()
    return {"train_loss": loss_sum, "train_accuracy": right / pairs, "lr": rate, "grad_norm": norm}


def _forward(model: RewardModel, examples: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scores and ranks, both (prompts, largest K), of all answers of some rankings in one pass; rank 0 is padding."""
    ids, mask = pad_right([sequence for example in examples for sequence in example.ids])
    flat = model.scores(ids.to(device), mask.sum(1).to(device))
    ranks = torch.nn.utils.rnn.pad_sequence([torch.tensor(example.ranks) for example in examples], batch_first=True)
    ranks = ranks.to(device)
    scores = flat.new_zeros(ranks.shape)
    return scores.masked_scatter(ranks > 0, flat), ranks


def _right(examples: Sequence[Example], scores: Tensor) -> tuple[int, int]:
    """(pairs in the right order, pairs)."""
    rows = scores.detach().tolist()
    hits = [row[a] > row[b] for example, row in zip(examples, rows, strict=True) for a, b in example.pairs]
    return sum(hits), len(hits)


def _scores(engine: Engine, sequences: Sequence[list[int]], size: int) -> list[float]:
    """The score of each sequence, on every rank, in order."""
    order = sorted(range(len(sequences)), key=lambda number: (len(sequences[number]), number))
    found = torch.zeros(len(sequences), dtype=torch.float64, device=engine.device)
    with torch.no_grad():
        for numbers, counts in _shares(len(order), engine, size):
            places = [order[number] for number in numbers]
            ids, mask = pad_right([sequences[place] for place in places])
            scores = engine(RewardModel.scores, ids.to(engine.device), mask.sum(1).to(engine.device))
            if counts:
                found[torch.tensor(places, device=engine.device)] = scores.double()
    return [float(score) for score in engine.gather_sum(found).tolist()]


def _measure(
    engine: Engine, heldout: Sequence[Example], config: dict[str, Any], rows: list[Metric], step: int
) -> dict[str, Any]:
    """Loss and accuracy on the held-out rankings, added to the metric rows; empty without any."""
    if not heldout:
        return {}
    flat = _scores(engine, [sequence for example in heldout for sequence in example.ids], config["micro_batch"] * 4)
    scores, start = [], 0
    for example in heldout:
        scores.append(flat[start : start + len(example.ids)])
        start += len(example.ids)
    losses = [
        reward_loss(torch.tensor(given), torch.tensor(example.ranks)).item()
        for example, given in zip(heldout, scores, strict=True)
    ]
    found = {"loss": mean_interval(losses), "accuracy": pair_accuracy(heldout, scores)}
    rows.append((step, "heldout_loss", found["loss"]["mean"]))
    rows.append((step, "heldout_accuracy", found["accuracy"]["pairs"]["value"]))
    return found


def _demonstrations(
    job: dict[str, Any], tokenizer: Any, max_tokens: int, examples: Examples
) -> tuple[str, list[list[int]]]:
    """What scores 0 on average: answers of the training conversations, or the best answers if there are none."""
    limit = job["config"]["demonstrations"]
    if not job["conversations"]:
        ordered = sorted(examples.train, key=lambda e: unit_interval(str(e.number), job["seed"], "reward-bias"))
        return "best responses", [e.ids[e.ranks.index(min(e.ranks))] for e in ordered[:limit]]
    found: list[tuple[float, list[dict[str, str]]]] = []
    for number, row in enumerate(_training_conversations(_table(job["conversations"]))):
        key = unit_interval(f"{row['prompt_id']}:{number}", job["seed"], "reward-bias")
        found.append((key, row["messages"]))
    sequences = []
    for _, messages in sorted(found, key=lambda pair: pair[0])[:limit]:
        answer = [*encode_text(tokenizer, messages[-1]["content"]), end_id(tokenizer)]
        prompt = encode_prompt(tokenizer, messages[:-1])
        sequences += fit(prompt, [answer], max_tokens, job["config"]["min_prompt_tokens"])[0]
    if not sequences:
        raise UserError("reward: no demonstration is short enough to take the bias from: raise max_tokens")
    return "demonstrations", sequences


def _training_conversations(table: InputTable) -> Iterator[dict[str, Any]]:
    for batch in table.batches(["prompt_id", "messages", "split"]):
        for row in batch.to_pylist():
            if row["split"] == "train" and row["messages"][-1]["role"] == "assistant":
                yield row


def _set_bias(engine: Engine, given: tuple[str, list[list[int]]], micro_batch: int) -> dict[str, Any]:
    """Shift all scores so that the given sequences average 0 (Ouyang et al. 2022, section 3.5)."""
    kind, sequences = given
    scores = _scores(engine, sequences, micro_batch * 4)
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    model: Any = engine.module
    with torch.no_grad():
        model.bias -= mean
    return {"value": -mean, "from": kind, "n": len(scores), "deviation": deviation}


def _figures(
    examples: Examples, state: dict[str, Any], after: dict[str, Any], bias: dict[str, Any], steps: int
) -> dict[str, Any]:
    losses = [value for _, name, value in state["rows"] if name == "train_loss"]
    last = losses[-max(1, len(losses) // 10) :]
    return {
        # Rankings are read in an order by hash, not as sequences are: nothing for `trace` to count steps by.
        "reads": [],
        "steps": steps,
        "final_loss": math.fsum(last) / len(last),
        "heldout_loss": after.get("loss"),
        "heldout_accuracy": after.get("accuracy"),
        "untrained_accuracy": state["before"].get("accuracy"),
        "length_baseline": length_accuracy(examples.heldout),
        "train_rankings": len(examples.train),
        "train_pairs": sum(len(example.pairs) for example in examples.train),
        "heldout_rankings": len(examples.heldout),
        "prompts_cut": examples.prompts_cut,
        "answers_too_long": examples.answers_too_long,
        "bias": bias,
    }
