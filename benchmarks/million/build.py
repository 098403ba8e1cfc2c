"""The runs that make the store: a pipeline from crawl to PPO, and a second one that differs from mix on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from artifacts.store import Artifact, Store
from flows.records import now, start_record
from tasks.execution import as_inputs, execute
from tasks.stage import Stage

from . import data, training

DOCUMENTS = "decontaminate"
WIRING: list[tuple[Stage, dict[str, str]]] = [
    (data.INGEST, {}),
    (data.DEDUP, {"documents": "ingest"}),
    (data.QUALITY, {"documents": "dedup"}),
    (data.DECONTAMINATE, {"documents": "quality"}),
    (data.TOKENIZE, {"documents": DOCUMENTS}),
    (data.MIX, {"documents": DOCUMENTS, "tokenizer": "tokenize"}),
    (training.PRETRAIN, {"sequences": "mix", "tokenizer": "tokenize"}),
    (training.DEMONSTRATIONS, {}),
    (training.SFT, {"conversations": "demonstrations", "model": "pretrain", "sequences": "mix"}),
    (training.SAMPLE, {"conversations": "demonstrations", "model": "sft"}),
    (training.LABEL, {"samples": "sample"}),
    (training.REWARD, {"rankings": "label", "model": "sft"}),
    (
        training.PPO,
        {
            "conversations": "demonstrations",
            "model": "sft",
            "reward_model": "reward",
            "reference": "sft",
            "sequences": "mix",
        },
    ),
    (
        training.PPO_WITHOUT_PTX,
        {"conversations": "demonstrations", "model": "sft", "reward_model": "reward", "reference": "sft"},
    ),
]


def build(
    folder: Path, documents: int = 1_000_000, say: Callable[[str], None] = lambda line: None
) -> dict[str, Artifact]:
    """Make the store, or what is missing of it; returns the first pipeline's artifacts by stage."""
    store = Store(folder)
    first = _pipeline(store, documents, {}, [], say)
    _pipeline(store, documents, {"mix": "another order"}, ["mix.label=another order"], say, until="pretrain")
    return first


def _pipeline(
    store: Store,
    documents: int,
    labels: dict[str, str],
    overrides: list[str],
    say: Callable[[str], None],
    until: str = "",
) -> dict[str, Artifact]:
    made: dict[str, Artifact] = {}
    record = start_record("benchmarks/million", overrides)
    for stage, feeds in WIRING:
        config = data.Config(documents=documents, label=labels.get(stage.name, ""))
        inputs = as_inputs({name: made[feed] for name, feed in feeds.items()})
        outcome = execute(stage, config, inputs, store, run_id=record.run)
        made[stage.name] = outcome.artifact
        record.stages.append(outcome.row())
        say(f"{stage.name:<16} {outcome.seconds:6.1f} s  {outcome.artifact.ref}")
        if stage.name == until:
            break
    record.finished, record.ok = now(), True
    record.save(store)
    return made
