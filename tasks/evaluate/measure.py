"""What the worker of the evaluate stage runs: one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.errors import UserError
from artifacts.reader import InputTable
from tasks.evaluate.choices import EvaluationSet
from tasks.evaluate.figures import answer_figures, choice_figures, heldout_figures, kl_figures
from tasks.evaluate.scoring import greedy_hits, logprobs_after, rewards_of, scoring
from tasks.training.chat_format import encode_text, end_id
from tasks.training.generate import Generated, generate, row_seed
from tasks.training.language import byte_lengths
from tasks.training.model import RewardModel, load_causal, load_tokenizer
from tasks.training.prompts import Prompt, context_of, prompt_limit, read_prompts
from tasks.training.worker import current_device, prepare

Report = Callable[[int, "int | None", str], None]
POLICIES = ("ppo", "ppo_without_ptx", "sft")


@dataclass
class Found:
    """Everything measured, by role of the model."""

    heldout: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, list[Generated]] = field(default_factory=dict)
    own_logprobs: dict[str, list[list[float]]] = field(default_factory=dict)
    reference_logprobs: dict[str, list[list[float]]] = field(default_factory=dict)
    hits: dict[str, dict[str, list[bool]]] = field(default_factory=dict)


def main(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Returns `metrics` (the figures of the manifest) and `comparisons` (rows of that table)."""
    config, seed = job["config"], int(job["seed"])
    tokenizer = load_tokenizer(job["models"]["sft"])
    prompts, too_long = _prompts(job, tokenizer)
    prepare()
    sets = [EvaluationSet.from_json(value) for value in job["sets"]]
    rows = _heldout_rows(job["heldout"], config["heldout_rows"])
    found = Found()
    for done, (role, folder) in enumerate(job["models"].items()):
        report(done, len(job["models"]) + 1, f"measuring {role}")
        model = load_causal(folder).to(current_device())
        _measure(found, role, model, prompts, rows, config, seed, end_id(tokenizer))
        for evaluation in sets:
            hits = _choose(model, tokenizer, evaluation, context_of(folder), config["batch_size"])
            found.hits.setdefault(evaluation.name, {})[role] = hits
        del model
    report(len(job["models"]), len(job["models"]) + 1, "scoring answers")
    end = end_id(tokenizer)
    reward_model = RewardModel.load(job["reward_model"]).to(current_device())
    rewards = {
        role: rewards_of(reward_model, _judged(prompts, answers, config["answers"], end), config["batch_size"])
        for role, answers in found.answers.items()
    }
    metrics: dict[str, Any] = {"prompts": len(prompts), "prompts_too_long": too_long}
    metrics |= _figures(found, rewards, rows, tokenizer, sets, config["answers"])
    return {"metrics": metrics, "comparisons": _comparisons(prompts, found.answers, rewards, tokenizer, config)}


def _heldout_rows(files: Sequence[str], limit: int) -> list[list[int]]:
    rows: list[list[int]] = []
    for batch in InputTable([Path(file) for file in files]).batches(["tokens"]):
        rows += batch.column("tokens").to_pylist()[: limit - len(rows)]
        if len(rows) >= limit:
            break
    return rows


def _prompts(job: dict[str, Any], tokenizer: Any) -> tuple[list[Prompt], int]:
    """Held-out prompts that leave room for an answer, chosen by hash, and how many were too long.

    Raises:
        UserError: there are fewer than two.
    """
    config = job["config"]
    context = min(context_of(folder) for folder in (*job["models"].values(), job["reward_model"]))
    # One token more than the answer: the reward model reads an end token even behind an answer that has none.
    limit = prompt_limit("evaluate", context, config["max_new_tokens"] + 1, None)
    table = InputTable([Path(file) for file in job["conversations"]])
    found = read_prompts(table, tokenizer, "heldout", limit)
    prompts = found.choose(config["prompts"], int(job["seed"]), "evaluate-prompt")
    if len(prompts) < 2:
        raise UserError(
            f"evaluate: {len(prompts)} held-out prompts of at most {limit} tokens ({found.why()}): raise "
            "demonstrations.heldout_fraction, or lower evaluate.max_new_tokens"
        )
    return prompts, found.reasons["prompt_too_long"]


def _measure(
    found: Found,
    role: str,
    model: Any,
    prompts: list[Prompt],
    rows: list[list[int]],
    config: dict[str, Any],
    seed: int,
    end: int,
) -> None:
    """Held-out losses of a model, and, of a policy, its answers and their log-probabilities."""
    size, answers = config["batch_size"], config["answers"]
    if rows:
        logs = logprobs_after(model, rows, [1] * len(rows), size)
        found.heldout[role] = [-sum(values) / len(values) for values in logs]
    if role not in POLICIES:
        return
    # Equal seeds for all policies: what differs between two answers is the policies, not the draws.
    seeds = [row_seed(seed, "evaluate", prompt.prompt_id, number) for prompt in prompts for number in range(answers)]
    with scoring(current_device()):
        found.answers[role] = generate(
            model,
            [prompt.ids for prompt in prompts for _ in range(answers)],
            max_new_tokens=config["max_new_tokens"],
            temperature=config["temperature"],
            eos_id=end,
            seeds=seeds,
            batch_size=size,
        )
    starts = [len(prompt.ids) for prompt in prompts for _ in range(answers)]
    # Greedy answers are scored under the models as they are.
    temperature = config["temperature"] or 1.0
    own = logprobs_after(model, _whole(prompts, found.answers[role], answers), starts, size, temperature)
    found.own_logprobs[role] = own
    if role == "sft":
        for other, given in found.answers.items():
            if other != "sft":
                sequences = _whole(prompts, given, answers)
                found.reference_logprobs[other] = logprobs_after(model, sequences, starts, size, temperature)


def _whole(prompts: list[Prompt], answers: list[Generated], each: int) -> list[list[int]]:
    return [[*prompts[number // each].ids, *answer.ids] for number, answer in enumerate(answers)]


def _judged(prompts: list[Prompt], answers: list[Generated], each: int, end: int) -> list[list[int]]:
    """What the reward model reads: it has learnt to judge at end tokens only, and PPO shows it the same."""
    return [[*prompts[number // each].ids, *answer.text_ids, end] for number, answer in enumerate(answers)]


def _choose(model: Any, tokenizer: Any, evaluation: EvaluationSet, context: int, size: int) -> list[bool]:
    """Whether the model gets each item right.

    Multiple choice: the option whose tokens are likeliest on average (length-normalised, Brown et al. 2020, section
    2.4). Cloze: all tokens are predicted greedily. Contexts are cut from the left to fit, and begin with the end token,
    which is what stands before a page in pretraining.
    """
    sequences, starts = [], []
    for item in evaluation.items:
        for before, after in item.options:
            continuation = encode_text(tokenizer, after)[: context - 1]
            prefix = [end_id(tokenizer), *encode_text(tokenizer, before)][-(context - len(continuation)) :]
            sequences.append(prefix + continuation)
            starts.append(len(prefix))
    if all(item.gold is None for item in evaluation.items):
        return greedy_hits(model, sequences, starts, size)
    means = [sum(logs) / len(logs) for logs in logprobs_after(model, sequences, starts, size)]
    hits, place = [], 0
    for item in evaluation.items:
        given = means[place : place + len(item.options)]
        place += len(item.options)
        hits.append(given.index(max(given)) == item.gold)
    return hits


def _figures(
    found: Found,
    rewards: dict[str, list[float]],
    rows: list[list[int]],
    tokenizer: Any,
    sets: list[EvaluationSet],
    each: int,
) -> dict[str, Any]:
    lengths = {role: [len(answer.ids) for answer in answers] for role, answers in found.answers.items()}
    ended = {role: [answer.ended for answer in answers] for role, answers in found.answers.items()}
    figures = answer_figures(rewards, lengths, ended, each)
    figures["kl"] = {
        role: kl_figures(found.own_logprobs[role], logs, each) for role, logs in found.reference_logprobs.items()
    }
    if rows:
        sizes = byte_lengths(tokenizer)
        total = sum(sizes[token] for row in rows for token in row[1:])
        figures["heldout_loss"] = heldout_figures(found.heldout, len(rows[0]) - 1, total)
    figures["multiple_choice"] = {
        evaluation.name: {
            "items": len(evaluation.items),
            "available": evaluation.available,
            "bad_records": evaluation.bad,
            "chance": evaluation.chance,
            **choice_figures(found.hits[evaluation.name]),
        }
        for evaluation in sets
    }
    return figures


def _comparisons(
    prompts: list[Prompt],
    answers: dict[str, list[Generated]],
    rewards: dict[str, list[float]],
    tokenizer: Any,
    config: dict[str, Any],
) -> list[dict[str, Any]]:
    """Rows of SFT (a) against PPO (b), and against PPO without ptx where there is one."""
    rows = []
    for other in ("ppo", "ppo_without_ptx"):
        for number in range(len(answers.get(other, []))):
            prompt = prompts[number // config["answers"]]
            row: dict[str, Any] = {"prompt_id": prompt.prompt_id, "messages": prompt.messages}
            for letter, role in (("a", "sft"), ("b", other)):
                row[f"policy_{letter}"] = role
                row[f"response_{letter}"] = tokenizer.decode(answers[role][number].text_ids)
                row[f"reward_{letter}"] = rewards[role][number]
            rows.append(row)
    return rows
