"""The stage: turns conversations into samples, decides on each, and hands the training to a group."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from artifacts.errors import UserError
from artifacts.tables import CONVERSATIONS, DECISIONS, METRICS, MODEL, SEQUENCES
from tasks.sft.config import SftConfig
from tasks.stage import Stage, StageContext, Summary
from tasks.training.launcher import launch
from tasks.training.metrics import write_metrics


def run(ctx: StageContext) -> Summary:
    """Learn the answers of the `train` conversations; `heldout` ones are dropped here and only measured."""
    from tasks.sft.samples import Samples
    from tasks.training.batches import TokenRows
    from tasks.training.model import load_tokenizer

    config: SftConfig = ctx.config
    folder = ctx.model("model")
    train, heldout = _read(ctx, load_tokenizer(folder), _longest(config, folder))
    if not train:
        raise UserError("sft: no conversation is left to learn from (see the decisions' reasons: heldout, too_long)")
    Samples.write(train, ctx.work / "train.npz")
    Samples.write(heldout[: config.eval_samples], ctx.work / "heldout.npz")
    rows = 0
    if config.pretrain_fraction:
        sequences = TokenRows.build(ctx.input("sequences"), ctx.work / "tokens")
        rows = len(sequences)
        if not rows:
            raise UserError("sft.pretrain_fraction is above 0, but the input 'sequences' is empty")
        context = _context(folder)
        if sequences.length > context:
            raise UserError(f"sft: sequences of {sequences.length} tokens do not fit the model's context of {context}")
    job: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"launcher"}),
        "seed": ctx.seed,
        "train": str(ctx.work / "train.npz"),
        "heldout": str(ctx.work / "heldout.npz"),
        "tokens": str(ctx.work / "tokens") if rows else None,
        "source": str(folder),
        "model": str(ctx.path("model/config.json").parent),
    }
    found = launch(ctx, "tasks.sft.train:main", job, config.launcher)
    write_metrics(ctx.writer("data"), found.pop("metrics"))
    reads = []
    if rows:
        per_step = found["pretrain_rows_per_step"]
        reads = [
            {"input": "sequences", "first_row": 0, "rows_per_step": per_step, "steps": found["steps"], "rows": rows}
        ]
    return Summary(
        metrics={
            **found,
            "samples": len(train),
            "heldout_samples": min(len(heldout), config.eval_samples),
            "reads": reads,
        }
    )


def _context(folder: Any) -> int:
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    context: int = shape.max_position_embeddings
    return context


def _longest(config: SftConfig, folder: Any) -> int:
    context = _context(folder)
    if config.max_length > context:
        raise UserError(f"sft.max_length is {config.max_length}, but the model's context is {context} tokens")
    return config.max_length or context


def _read(ctx: StageContext, tokenizer: Any, longest: int) -> tuple[list[Any], list[Any]]:
    """Samples of the two splits; writes one decision a conversation."""
    from tasks.sft.samples import encode

    train: list[Any] = []
    heldout: list[Any] = []
    table = ctx.input("conversations")
    total, done = table.rows, 0
    for batch in table.batches(["prompt_id", "messages", "split"]):
        decisions = []
        for row in batch.to_pylist():
            try:
                found = encode(tokenizer, row["messages"], ctx.config.turns)
            except ValueError as error:
                decisions.append(_decision(row, "not_a_conversation", failed=True, detail=str(error)))
                continue
            fitting = [sample for sample in found if len(sample[0]) <= longest]
            if not fitting:
                shortest = min(len(ids) for ids, _ in found)
                decisions.append(_decision(row, "too_long", score=shortest, threshold=longest))
            elif row["split"] == "heldout":
                heldout += fitting
                decisions.append(_decision(row, "heldout"))
            else:
                train += fitting
                left_out = len(found) - len(fitting)
                detail = f"{left_out} of {len(found)} answers too long" if left_out else None
                decisions.append(_decision(row, None, kept=True, detail=detail))
        ctx.writer("decisions").write(pa.Table.from_pylist(decisions, schema=DECISIONS.schema))
        done += len(batch)
        ctx.progress(done, total, "conversations encoded")
    return train, heldout


def _decision(row: dict[str, Any], reason: str | None, **fields: Any) -> dict[str, Any]:
    known = {"doc_id": row["prompt_id"], "kept": False, "failed": False, "reason": reason, **fields}
    return {name: known.get(name) for name in DECISIONS.schema.names}


STAGE = Stage(
    name="sft",
    version=1,
    config=SftConfig,
    reads={"conversations": CONVERSATIONS, "model": MODEL, "sequences": SEQUENCES},
    writes={"data": METRICS, "decisions": DECISIONS, "model": MODEL},
    run=run,
    optional=frozenset({"sequences"}),
    gpu=True,
)
