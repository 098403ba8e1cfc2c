"""The training stages and what they learn from besides pages: models of a few random numbers, with true `reads`."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from artifacts.sources import Source
from artifacts.tables import (
    CONVERSATIONS,
    DECISIONS,
    MESSAGES,
    METRICS,
    MODEL,
    RANKINGS,
    ROLLOUTS,
    SAMPLES,
    SEQUENCES,
    TOKENIZER,
)
from tasks.stage import StageContext, Summary

from .data import Config, decisions, external, stage

FILES = ("answers-a.jsonl", "answers-b.jsonl")
K = 4
ITERATIONS, EPISODES = 200, 64


def prompt_of(number: int) -> str:
    return blake2b(b"prompt %d" % number, digest_size=16).hexdigest()


def _asked(documents: int) -> tuple[int, int, int]:
    """How many conversations, sampled prompts and rankings a store of that many documents has."""
    return max(40, documents // 16), max(10, documents // 500), max(20, documents // 25)


def messages(questions: list[str], answers: list[str] | None = None) -> pa.Array:
    """A list of turns a row: the user's question and, where given, the assistant's answer."""
    turns = 1 if answers is None else 2
    content = questions if answers is None else [text for pair in zip(questions, answers, strict=True) for text in pair]
    roles = ["user", "assistant"][:turns] * len(questions)
    fields = MESSAGES.value_type
    flat = pa.StructArray.from_arrays([pa.array(roles), pa.array(content)], fields=[fields.field(0), fields.field(1)])
    return pa.ListArray.from_arrays(np.arange(0, len(content) + 1, turns).astype(np.int32), flat).cast(MESSAGES)


def _demonstration_sources(_: Config) -> list[Source]:
    return [external(name, f"answers-{name[8]}", "demonstrations", "MIT", name[:9]) for name in FILES]


def _demonstrations(context: StageContext) -> Summary:
    """Two files of records; of fifty one is a duplicate, of a thousand one cannot be read."""
    total = _asked(context.config.documents)[0]
    for part, name in enumerate(FILES):
        numbers = np.arange(part * total // 2, (part + 1) * total // 2)
        lines = numbers - numbers[0] + 1
        bad, twice = numbers % 1_000 == 999, numbers % 50 == 17
        kept = ~bad & ~twice
        ids = pa.array([prompt_of(number) for number in numbers])
        questions = [f"What is said of number {number}?" for number in numbers[kept]]
        context.writer("data").write(
            pa.table(
                {
                    "prompt_id": ids.filter(pa.array(kept)),
                    "messages": messages(questions, [f"All of it: {question}" for question in questions]),
                    "source": [f"answers-{name[8]}"] * len(questions),
                    "split": np.where(numbers[kept] % 20 == 0, "heldout", "train"),
                },
                schema=CONVERSATIONS.schema,
            )
        )
        notes = np.where(bad, ": not JSON", np.where(twice, f": the same as {name}:1", ""))
        detail = [f"{name}:{line}{note}" for line, note in zip(lines, notes, strict=True)]
        reason = np.where(bad, "bad_record", np.where(twice, "duplicate", ""))
        context.writer("decisions").write(decisions(ids, kept, failed=bad, reason=reason, detail=detail))
    return Summary()


def _save(context: StageContext, architecture: str) -> None:
    draw = np.random.default_rng(int(context.recipe, 16))
    save_file({"weight": draw.random(64, np.float32)}, str(context.path("model/model.safetensors")))
    context.path("model/config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
    context.path("model/tokenizer.json").write_text("{}")


def _curves(context: StageContext, steps: int, names: list[str]) -> None:
    every = np.arange(0, steps, max(1, steps // 300))
    for name in names:
        values = 3 + 5 / (1 + every / 20)
        context.writer("data").write(
            pa.table({"step": every, "name": [name] * len(every), "value": values}, schema=METRICS.schema)
        )


def _reads(context: StageContext, first_row: int, rows_per_step: int, steps: int | None = None) -> dict[str, Any]:
    """All rows and a tenth of them again, where no number of steps is given."""
    rows = context.input("sequences").rows
    steps = rows * 11 // 10 // rows_per_step if steps is None else steps
    return {
        "input": "sequences",
        "first_row": first_row,
        "rows_per_step": rows_per_step,
        "steps": steps,
        "rows": rows,
    }


def _pretrain(context: StageContext) -> Summary:
    _save(context, "GPT2LMHeadModel")
    reads = _reads(context, 0, 64)
    _curves(context, reads["steps"], ["train_loss"])
    rows = reads["rows"]
    return Summary(rows_in=rows, kept=rows, dropped=0, failed=0, metrics={"steps": reads["steps"], "reads": [reads]})


def _sft(context: StageContext) -> Summary:
    _save(context, "GPT2LMHeadModel")
    reads = _reads(context, 0, 2, 400)
    _curves(context, 400, ["train_loss", "pretrain_loss"])
    table = context.input("conversations").read(["prompt_id", "split"])
    train = np.asarray(table["split"]) == "train"
    reason = pa.array(np.full(len(train), "heldout"), mask=train)
    context.writer("decisions").write(decisions(table["prompt_id"], train, reason=reason))
    return Summary(metrics={"steps": 400, "reads": [reads]})


def _sample(context: StageContext) -> Summary:
    """K answers to each of the first prompts."""
    count = _asked(context.config.documents)[1]
    table = context.input("conversations").read(["prompt_id", "source", "split"]).slice(0, count)
    count, rows = len(table), context.input("conversations").rows
    questions = [f"What is said of number {number}?" for number in range(count)]
    answers = pa.array([[f"Answer {n} of {number}" for n in range(K)] for number in range(count)])
    context.writer("data").write(
        pa.table(
            {
                "prompt_id": table["prompt_id"],
                "messages": messages(questions),
                "responses": answers,
                "ended": [[True] * K] * count,
                "policy": [context.inputs["model"][0].ref] * count,
                "source": table["source"],
                "split": table["split"],
            },
            schema=SAMPLES.schema,
        )
    )
    reasons = {"not_chosen": rows - count} if rows > count else {}
    return Summary(rows_in=rows, kept=count, dropped=rows - count, failed=0, reasons=reasons)


def _label_sources(_: Config) -> list[Source]:
    return [external("preferences.jsonl", "preferences", "rankings", "MIT", "preferences")]


def _label(context: StageContext) -> Summary:
    """A file of pairs, of which one in a hundred holds none, and the sampled answers."""
    total = _asked(context.config.documents)[2]
    source = context.sources[0]
    kept = np.arange(total) % 100 != 99
    chosen = np.flatnonzero(kept)
    context.writer("data").write(
        _rankings(
            [prompt_of(10**9 + number // 2) for number in chosen],
            [f"Which is better, number {number}?" for number in chosen],
            pa.array([[f"This one {number}", f"That one {number}"] for number in chosen]),
            [[1, 2]] * len(chosen),
            ["preferences"] * len(chosen),
            np.where(chosen // 2 % 10 == 0, "heldout", "train"),
            "unknown",
        )
    )
    keys = [blake2b(f"{source.sha256}:{line}".encode(), digest_size=16).hexdigest() for line in range(1, total + 1)]
    detail = [
        f"{source.name}:{line}" if used else f"{source.name}:{line}: all answers are the same text"
        for line, used in zip(range(1, total + 1), kept, strict=True)
    ]
    reason = pa.array(np.full(total, "no_preference"), mask=kept)
    context.writer("decisions").write(decisions(keys, kept, reason=reason, detail=detail))
    samples = context.input("samples").read()
    context.writer("data").write(
        _rankings(
            samples["prompt_id"],
            [turns[0]["content"] for turns in samples["messages"].to_pylist()],
            samples["responses"],
            [[1, 2, 2, 4]] * len(samples),
            samples["source"],
            samples["split"],
            "simulated",
        )
    )
    context.writer("decisions").write(decisions(samples["prompt_id"], np.ones(len(samples), np.bool_)))
    return Summary()


def _rankings(
    ids: Any, questions: list[str], answers: Any, ranks: list[list[int]], sources: Any, splits: Any, annotator: str
) -> pa.Table:
    return pa.table(
        {
            "prompt_id": ids,
            "messages": messages(questions),
            "responses": answers,
            "ranks": pa.array(ranks, pa.list_(pa.int32())),
            "annotator": [annotator] * len(ranks),
            "axis": ["helpful"] * len(ranks),
            "policy": pa.array([[]] * len(ranks), pa.list_(pa.string())),
            "source": sources,
            "split": splits,
        },
        schema=RANKINGS.schema,
    )


def _reward(context: StageContext) -> Summary:
    _save(context, "GPT2ForSequenceClassification")
    _curves(context, 600, ["train_loss"])
    rows = context.input("rankings").rows
    return Summary(rows_in=rows, kept=rows, dropped=0, failed=0, metrics={"steps": 600, "reads": []})


def _ppo(context: StageContext) -> Summary:
    _save(context, "GPT2LMHeadModel")
    _curves(context, ITERATIONS, ["reward", "kl"])
    table = context.input("conversations").read(["prompt_id", "split"])
    train = np.asarray(table["prompt_id"])[np.asarray(table["split"]) == "train"]
    draw = np.random.default_rng([context.seed, 9])
    for step in range(ITERATIONS):
        asked = train[draw.integers(0, len(train), EPISODES)]
        context.writer("rollouts").write(
            pa.table(
                {
                    "step": np.full(EPISODES, step, np.int32),
                    "prompt_id": asked,
                    "response": [f"Answer to {prompt}" for prompt in asked],
                    "reward": draw.normal(size=EPISODES),
                    "kl": draw.random(EPISODES),
                    "length": draw.integers(1, 128, EPISODES).astype(np.int32),
                    "ended": draw.random(EPISODES) < 0.9,
                    "advantage_mean": draw.normal(size=EPISODES),
                },
                schema=ROLLOUTS.schema,
            )
        )
    reads = [_reads(context, 37, 16, ITERATIONS)] if context.inputs.get("sequences") else []
    return Summary(
        rows_in=len(table),
        kept=len(train),
        dropped=len(table) - len(train),
        failed=0,
        reasons={"other_split": len(table) - len(train)},
        metrics={"steps": ITERATIONS, "reads": reads},
    )


def _model(name: str, run: Callable[[StageContext], Summary], reads: Any, writes: Any = None) -> Any:
    return stage(name, run, reads, {"data": METRICS, "model": MODEL, **(writes or {})})


_POLICY = {"conversations": CONVERSATIONS, "model": MODEL, "reward_model": MODEL, "reference": MODEL}
DEMONSTRATIONS = stage(
    "demonstrations", _demonstrations, {}, {"data": CONVERSATIONS, "decisions": DECISIONS}, _demonstration_sources
)
PRETRAIN = _model("pretrain", _pretrain, {"sequences": SEQUENCES, "tokenizer": TOKENIZER})
SFT = _model(
    "sft",
    _sft,
    {"conversations": CONVERSATIONS, "model": MODEL, "sequences": SEQUENCES},
    {"decisions": DECISIONS},
)
SAMPLE = stage("sample", _sample, {"conversations": CONVERSATIONS, "model": MODEL}, {"data": SAMPLES})
LABEL = stage("label", _label, {"samples": SAMPLES}, {"data": RANKINGS, "decisions": DECISIONS}, _label_sources)
REWARD = _model("reward", _reward, {"rankings": RANKINGS, "model": MODEL})
PPO = _model("ppo", _ppo, {**_POLICY, "sequences": SEQUENCES}, {"rollouts": ROLLOUTS})
PPO_WITHOUT_PTX = _model("ppo_without_ptx", _ppo, _POLICY, {"rollouts": ROLLOUTS})
