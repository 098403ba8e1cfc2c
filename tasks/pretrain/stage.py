"""The stage: sizes the run, hands it to a training group, and accounts for the rows."""

from __future__ import annotations

import math
from typing import Any

from artifacts.errors import UserError
from artifacts.tables import METRICS, MODEL, SEQUENCES, TOKENIZER
from tasks.pretrain.config import PretrainConfig
from tasks.stage import Stage, StageContext, Summary
from tasks.training.launcher import launch
from tasks.training.metrics import write_metrics


def run(ctx: StageContext) -> Summary:
    """Train on rows s*B … (s+1)*B in step s; rows beyond the last step are dropped as `not_reached`."""
    from tasks.training.batches import TokenRows
    from tasks.training.language import save_byte_lengths
    from tasks.training.model import load_tokenizer

    config: PretrainConfig = ctx.config
    tokenizer_folder = ctx.model("tokenizer")
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = TokenRows.build(ctx.input("sequences"), ctx.work / "tokens")
    heldout = ctx.input_table("sequences", "heldout")
    held = TokenRows.build(heldout, ctx.work / "heldout") if heldout.files else None
    _check(config, rows)
    save_byte_lengths(tokenizer, ctx.work / "bytes.npy")
    per_step = config.batch_tokens // rows.length
    steps = config.steps or max(1, len(rows) // per_step)
    job: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"launcher"}),
        "seed": ctx.seed,
        "tokens": str(ctx.work / "tokens"),
        "heldout": str(ctx.work / "heldout") if held is not None and len(held) else None,
        "bytes": str(ctx.work / "bytes.npy"),
        "tokenizer": str(tokenizer_folder),
        "vocab_size": len(tokenizer),
        "steps": steps,
        "rows_per_step": per_step,
        "model": str(ctx.path("model/config.json").parent),
    }
    found = launch(ctx, "tasks.pretrain.train:main", job, config.launcher)
    write_metrics(ctx.writer("data"), found["metrics"])
    return _summary(config, rows, steps, per_step, len(tokenizer), found)


def _check(config: PretrainConfig, rows: Any) -> None:
    if not len(rows):
        raise UserError("pretrain: there are no sequences to train on: the mix is empty")
    if rows.length > config.model.context:
        raise UserError(
            f"pretrain.model.context is {config.model.context}, but sequences have {rows.length} tokens "
            "(mix.sequence_length): raise the one or lower the other"
        )
    if config.batch_tokens < rows.length:
        raise UserError(f"pretrain.batch_tokens is {config.batch_tokens}, less than a sequence of {rows.length} tokens")


def _summary(
    config: PretrainConfig, rows: Any, steps: int, per_step: int, vocabulary: int, found: dict[str, Any]
) -> Summary:
    kept = min(len(rows), steps * per_step)
    return Summary(
        rows_in=len(rows),
        kept=kept,
        dropped=len(rows) - kept,
        failed=0,
        reasons={"not_reached": len(rows) - kept} if kept < len(rows) else {},
        metrics={
            "parameters": found["parameters"],
            "steps": steps,
            "tokens": steps * per_step * rows.length,
            "uniform_loss": math.log(vocabulary),
            "final_loss": found["final_loss"],
            "heldout_loss": found["heldout_loss"],
            "bits_per_byte": found["bits_per_byte"],
            "heldout_tokens": found["heldout_tokens"],
            "reads": [
                {"input": "sequences", "first_row": 0, "rows_per_step": per_step, "steps": steps, "rows": len(rows)}
            ],
        },
    )


STAGE = Stage(
    name="pretrain",
    version=1,
    config=PretrainConfig,
    reads={"sequences": SEQUENCES, "tokenizer": TOKENIZER},
    writes={"data": METRICS, "model": MODEL},
    run=run,
    gpu=True,
)
