"""A pipeline in miniature: stages with the tables of the real ones and figures that can be worked out by hand.

Six pages, ten tokens each. Page 0 fails in ingest's language rule, page 5 is a duplicate of page 1, page 2 fails in
quality. Pages 1, 3 and 4 are packed into rows of 4 tokens: page 1 in rows 0 to 2, page 3 in rows 2 to 4, page 4 in rows
5 to 7 with a filler in row 7.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifacts.sources import Source
from artifacts.store import Artifact, Store
from artifacts.tables import CONVERSATIONS, DECISIONS, DOCUMENTS, METRICS, MODEL, SEQUENCES, TOKENIZER, TableKind
from tasks.execution import Outcome
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tests.support import make_documents, run_stage

PAGES = [f"http://example.org/d/{number}" for number in range(6)]
IDS = [f"d{number:031d}" for number in range(6)]
FILLER = "f" * 32
SHA = "ab" * 32


class ChainConfig(StageConfig):
    label: str = ""
    steps: int = 3
    first_row: int = 0
    rows_per_step: int = 2


def decide(context: StageContext, rows: list[dict[str, Any]]) -> None:
    defaults = dict.fromkeys(DECISIONS.schema.names) | {"failed": False}
    table = pa.Table.from_pylist([defaults | row for row in rows], schema=DECISIONS.schema)
    context.writer("decisions").write(table)


def ingest(context: StageContext) -> Summary:
    table = make_documents(f"page {number}" for number in range(6)).slice(1)
    context.writer("data").write(table)
    context.config.label  # noqa: B018 (only makes another recipe)
    decide(
        context,
        [{"doc_id": IDS[0], "url": PAGES[0], "kept": False, "reason": "lang", "score": 0.2, "threshold": 0.5}]
        + [{"doc_id": IDS[n], "url": PAGES[n], "kept": True} for n in range(1, 6)]
        + [{"doc_id": "e" * 32, "kept": False, "failed": True, "reason": "truncated_record", "detail": "x.warc@9"}],
    )
    return Summary()


def sources(config: ChainConfig) -> list[Source]:
    return [
        Source(
            name="made.warc.gz",
            path=Path("/nowhere"),
            sha256=SHA,
            bytes=12,
            source="crawl",
            manifest="made",
            role="crawl",
            licence="CC0-1.0",
            url="https://example.org/made.warc.gz",
        )
    ]


def _filter(given: dict[str, dict[str, Any]]) -> Callable[[StageContext], Summary]:
    def run(context: StageContext) -> Summary:
        drops = given
        table = context.input("documents").read()
        ids = table.column("doc_id").to_pylist()
        if context.config.label == "strict":
            drops = drops | {IDS[4]: {"reason": "strict"}}
        context.writer("data").write(table.filter(pa.array([doc_id not in drops for doc_id in ids])))
        decide(
            context,
            [{"doc_id": doc_id, "kept": doc_id not in drops, **drops.get(doc_id, {"score": 0.9})} for doc_id in ids],
        )
        return Summary(metrics={"label": context.config.label})

    return run


def mix(context: StageContext) -> Summary:
    ids = context.input("documents").read().column("doc_id").to_pylist()
    stream = [(doc_id, offset) for doc_id in ids for offset in range(10)]
    stream += [(FILLER, offset) for offset in range(-len(stream) % 4)]
    rows = []
    for start in range(0, len(stream), 4):
        spans: list[dict[str, Any]] = []
        for place, (doc_id, offset) in enumerate(stream[start : start + 4]):
            if not spans or spans[-1]["doc_id"] != doc_id:
                spans.append({"doc_id": doc_id, "start": place, "length": 0, "offset": offset})
            spans[-1]["length"] += 1
        rows.append({"tokens": [1, 2, 3, 4], "spans": spans, "source": context.config.label or "crawl", "epoch": 0})
    context.writer("data").write(pa.Table.from_pylist(rows, schema=SEQUENCES.schema))
    decide(context, [{"doc_id": doc_id, "kept": True} for doc_id in ids])
    return Summary()


def tokenize(context: StageContext) -> Summary:
    context.path("model/tokenizer.json").write_text("{}")
    ids = context.input("documents").read().column("doc_id").to_pylist()
    decide(context, [{"doc_id": doc_id, "kept": True} for doc_id in ids])
    return Summary()


def train(context: StageContext) -> Summary:
    config: ChainConfig = context.config
    reads = []
    if context.inputs.get("sequences"):
        reads = [
            {
                "input": "sequences",
                "first_row": config.first_row,
                "rows_per_step": config.rows_per_step,
                "steps": config.steps,
                "rows": context.input("sequences").rows,
            }
        ]
    context.path("model/model.safetensors").write_bytes(f"{context.stage.name} {context.recipe}".encode())
    context.path("model/config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    metrics = pa.Table.from_pylist(
        [{"step": step, "name": "loss", "value": 3.0 - step} for step in range(config.steps)], schema=METRICS.schema
    )
    context.writer("data").write(metrics)
    return Summary(metrics={"reads": reads, "parameters": 7})


def demonstrations(context: StageContext) -> Summary:
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    rows = [
        {"prompt_id": f"{number:032x}", "messages": messages, "source": "made", "split": split}
        for number, split in enumerate(["train", "heldout"])
    ]
    context.writer("data").write(pa.Table.from_pylist(rows, schema=CONVERSATIONS.schema))
    return Summary(rows_in=2, kept=2, dropped=0, failed=0)


def _stage(name: str, run: Callable[[StageContext], Summary], writes: dict[str, TableKind], **more: Any) -> Stage:
    reads = more.pop("reads", {"documents": DOCUMENTS})
    return Stage(name, 1, ChainConfig, reads, writes, run, **more)


DOCS = {"data": DOCUMENTS, "decisions": DECISIONS}
INGEST = _stage("ingest", ingest, DOCS, reads={}, sources=sources)
DEDUP = _stage("dedup", _filter({IDS[5]: {"reason": "near_duplicate", "detail": IDS[1], "score": 0.93}}), DOCS)
QUALITY = _stage("quality", _filter({IDS[2]: {"reason": "quality", "score": 0.1, "threshold": 0.4}}), DOCS)
TOKENIZE = _stage("tokenize", tokenize, {"decisions": DECISIONS, "model": TOKENIZER})
MIX = _stage(
    "mix",
    mix,
    {"data": SEQUENCES, "decisions": DECISIONS},
    reads={"documents": DOCUMENTS, "tokenizer": TOKENIZER},
)
TRAINED = {"data": METRICS, "model": MODEL}
PRETRAIN = _stage("pretrain", train, TRAINED, reads={"sequences": SEQUENCES})
DEMONSTRATIONS = _stage("demonstrations", demonstrations, {"data": CONVERSATIONS}, reads={})
SFT = _stage("sft", train, TRAINED, reads={"conversations": CONVERSATIONS, "model": MODEL})
PPO = _stage("ppo", train, TRAINED, reads={"conversations": CONVERSATIONS, "model": MODEL, "sequences": SEQUENCES})


def build(
    store: Store, until: str = "ppo", labels: dict[str, str] | None = None, run_id: str | None = None, **train: Any
) -> dict[str, Artifact]:
    """Run the chain; returns stage name to artifact. `labels` give a stage another recipe, and so a rerun."""
    made: dict[str, Artifact] = {}
    wiring: list[tuple[Stage, dict[str, str]]] = [
        (INGEST, {}),
        (DEDUP, {"documents": "ingest"}),
        (QUALITY, {"documents": "dedup"}),
        (TOKENIZE, {"documents": "quality"}),
        (MIX, {"documents": "quality", "tokenizer": "tokenize"}),
        (PRETRAIN, {"sequences": "mix"}),
        (DEMONSTRATIONS, {}),
        (SFT, {"conversations": "demonstrations", "model": "pretrain"}),
        (PPO, {"conversations": "demonstrations", "model": "sft", "sequences": "mix"}),
    ]
    for stage, feeds in wiring:
        config = ChainConfig(label=(labels or {}).get(stage.name, ""), **(train if stage is PPO else {}))
        inputs = {name: made[feed] for name, feed in feeds.items()}
        outcome: Outcome = run_stage(stage, config, store, inputs, run_id=run_id)
        made[stage.name] = outcome.artifact
        if stage.name == until:
            break
    return made
