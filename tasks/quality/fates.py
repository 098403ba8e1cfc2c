"""What becomes of each document, and the decisions table that says so."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from artifacts.tables import DECISIONS
from artifacts.writer import TableWriter
from tasks.quality.heuristics import HeuristicsConfig, Verdict, rules_of
from tasks.quality.rules import Judgement

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CURATED, DROPPED = "curated", "quality"


@dataclass
class Fates:
    """N documents and what the stage has found of them so far.

    Attributes:
        curated: (N,) the curated class: kept, whatever the rules say.
        open: (N,) neither curated nor ruled out.
        kept: (N,) kept as things stand.
        reasons: (N,) None for what a rule of scores kept, or nothing has judged.
        score, threshold, draw: (N,) as in the decisions; NaN for null.
    """

    doc_ids: list[str]
    curated: Bools
    open: Bools = field(init=False)
    kept: Bools = field(init=False)
    reasons: NDArray[np.object_] = field(init=False)
    score: Floats = field(init=False)
    threshold: Floats = field(init=False)
    draw: Floats = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.doc_ids)
        self.open = ~self.curated
        self.kept = np.ones(rows, dtype=np.bool_)
        self.reasons = np.full(rows, None, dtype=object)
        self.reasons[self.curated] = CURATED
        self.score, self.threshold, self.draw = (np.full(rows, np.nan) for _ in range(3))

    def rule_out(self, config: HeuristicsConfig, verdict: Verdict) -> None:
        """Drop what fails a heuristic rule: the score is what the rule measured, the threshold its bound."""
        rules = rules_of(config)
        out = verdict.first >= 0
        self.open &= ~out
        self.kept &= ~out
        self.score[out] = verdict.values[out]
        for number, rule in enumerate(rules):
            rows = verdict.first == number
            self.reasons[rows], self.threshold[rows] = rule.reason, rule.bound

    def decide(self, judgement: Judgement, scores: Floats) -> None:
        """Keep or drop what is open by a rule of scores, and write down the scores."""
        judged = np.flatnonzero(self.open)
        scored = self.open | self.curated
        self.score[scored] = scores[scored]
        self.kept[judged] = judgement.kept
        self.reasons[judged[~judgement.kept]] = DROPPED
        self.threshold[judged] = judgement.threshold
        if judgement.draw is not None:
            self.draw[judged] = judgement.draw


def write_decisions(writer: TableWriter, fates: Fates) -> None:
    """A decision a document."""
    rows = len(fates.doc_ids)
    nothing = pa.nulls(rows, pa.string())
    columns = {
        "doc_id": pa.array(fates.doc_ids, pa.string()),
        "kept": pa.array(fates.kept),
        "failed": pa.array(np.zeros(rows, dtype=np.bool_)),
        "reason": pa.array(fates.reasons, pa.string()),
        "score": pa.array(fates.score, from_pandas=True),
        "threshold": pa.array(fates.threshold, from_pandas=True),
        "draw": pa.array(fates.draw, from_pandas=True),
        "detail": nothing,
        "url": nothing,
    }
    writer.write(pa.table(columns, schema=DECISIONS.schema))
