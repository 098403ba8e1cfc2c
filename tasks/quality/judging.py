"""The heuristic rules over shards of documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifacts.reader import Shard
from tasks.quality.heuristics import HeuristicsConfig, Verdict, judge_texts
from tasks.quality.scoring import pieces
from tasks.stage import StageContext


@dataclass(frozen=True)
class JudgeJob:
    """One shard of documents, the rules, and which of its rows are exempt; picklable."""

    shard: Shard
    config: HeuristicsConfig
    exempt: NDArray[np.bool_]


def judge_documents(ctx: StageContext, exempt: NDArray[np.bool_], rows: int) -> Verdict:
    """The rules' verdict on all documents of the stage's input, in order."""
    jobs = []
    for shard in ctx.input("documents").shards(rows):
        part = exempt[shard.first_row : shard.first_row + shard.rows]
        jobs.append(JudgeJob(shard, ctx.config.heuristics, part))
    return joined(list(ctx.map_with_progress(judge_shard, jobs, "applying heuristic rules")))


def judge_shard(job: JudgeJob) -> Verdict:
    """The verdict on a shard's rows, in order."""
    found, first = [], 0
    for piece in pieces(job.shard, ["text", "lang"]):
        exempt = job.exempt[first : first + len(piece)]
        found.append(judge_texts(piece.column("text"), piece.column("lang"), job.config, exempt))
        first += len(piece)
    return joined(found)


def joined(verdicts: list[Verdict]) -> Verdict:
    """The verdict on all rows of these verdicts, in order."""
    return Verdict(
        np.concatenate([verdict.first for verdict in verdicts]),
        np.concatenate([verdict.values for verdict in verdicts]),
        np.sum([verdict.failing for verdict in verdicts], axis=0, dtype=np.int64),
        sum(verdict.exempt_failing for verdict in verdicts),
    )
