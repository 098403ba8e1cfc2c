"""The rules that turn scores into decisions. All are functions of the documents and the seed, never of their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.quality.config import QualityConfig
from tasks.text.hashing import unit_interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """What a rule says of N documents: `kept` (N,) bool, `threshold` (N,), `draw` (N,) or None if nothing is drawn.

    For `pareto`, `threshold` is 1 - score: the value that the draw had to exceed. For the other rules it is the value
    that the score had to reach.
    """

    kept: npt.NDArray[np.bool_]
    threshold: Floats
    draw: Floats | None


def keep_probability(score: float | Floats, alpha: float = 9.0) -> float | Floats:
    """(2 - score)^-alpha: the chance that a Pareto(alpha) draw exceeds 1 - score (Brown et al. 2020, appendix A)."""
    return (2.0 - score) ** -alpha


def pareto_draws(doc_ids: Sequence[str], seed: int, alpha: float) -> Floats:
    """One draw a document, distributed as `np.random.pareto(alpha)` (Lomax: P(draw > x) = (1 + x)^-alpha), shape (N,).

    The inverse of the distribution function at a uniform number that is a hash of doc_id and seed: the same document
    gets the same draw in every run, whatever else is in the crawl.
    """
    # Python's power, not numpy's: the latter's last bit depends on the processor's vector instructions.
    uniform = [unit_interval(doc_id, seed, "quality") for doc_id in doc_ids]
    return np.array([(1.0 - number) ** (-1.0 / alpha) - 1.0 for number in uniform], dtype=np.float64)


def judge(config: QualityConfig, doc_ids: Sequence[str], scores: Floats, seed: int) -> Judgement:
    """Apply the configured rule to N documents with scores in [0, 1]. The rule `none` is not for scores."""
    if config.rule == "pareto":
        draws, needed = pareto_draws(doc_ids, seed, config.alpha), 1.0 - scores
        return Judgement(draws > needed, needed, draws)
    if config.rule == "threshold":
        return Judgement(scores >= config.threshold, np.full(len(scores), config.threshold), None)
    if config.rule == "top_fraction":
        return _top_fraction(doc_ids, scores, config.fraction)
    raise ValueError(f"no rule of scores: {config.rule}")


def _top_fraction(doc_ids: Sequence[str], scores: Floats, fraction: float) -> Judgement:
    """Keep the round(fraction * N) best, at least one; of equal scores the smaller doc_id comes first."""
    kept = np.zeros(len(scores), dtype=np.bool_)
    if len(scores) == 0:
        return Judgement(kept, np.zeros(0), None)
    best = sorted(range(len(scores)), key=lambda row: (-scores[row], doc_ids[row]))
    best = best[: max(1, round(fraction * len(scores)))]
    kept[best] = True
    return Judgement(kept, np.full(len(scores), scores[best[-1]]), None)
