"""The stage's metrics: what the heuristic rules dropped, how good the classifier is, and what its rule kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.quality.config import QualityConfig
from tasks.quality.fates import Fates
from tasks.quality.heuristics import HeuristicsConfig, Verdict, rules_of
from tasks.quality.measures import BINS, heldout_metrics, histogram, keep_rate, threshold_table
from tasks.quality.rules import keep_probability
from tasks.quality.samples import Sample

Floats = NDArray[np.float64]


def heuristic_figures(config: HeuristicsConfig, verdict: Verdict | None) -> dict[str, Any] | None:
    """Each rule with its bound, the documents that fail it, and those of which it is the first; None if all are off."""
    if verdict is None:
        return None
    rules = rules_of(config)
    dropped = np.bincount(verdict.first[verdict.first >= 0], minlength=len(rules))
    return {
        "dropped": int(dropped.sum()),
        "curated_failing": verdict.exempt_failing,
        "rules": [
            {
                "reason": rule.reason,
                "dropped_if": f"{rule.measure} {rule.side} {rule.bound:g}",
                "failing": int(verdict.failing[number]),
                "dropped": int(dropped[number]),
            }
            for number, rule in enumerate(rules)
        ],
    }


def score_figures(
    config: QualityConfig,
    samples: dict[str, Sample],
    passages: dict[str, int],
    fates: Fates,
    judged: NDArray[np.int64],
    scores: Floats,
    sources: Sequence[str],
) -> dict[str, Any]:
    """All figures about scores; `judged` are the rows that the rule of scores judged."""
    heldout = samples["curated"].heldout + samples["crawl"].heldout
    crawl = np.zeros(len(scores), dtype=np.bool_)
    crawl[judged] = True
    trained_on = np.zeros(len(scores), dtype=np.bool_)
    trained_on[samples["crawl"].train] = True
    found: dict[str, Any] = {
        "classes": {
            name: {
                "documents": int(members.sum()),
                "train_documents": len(samples[name].train),
                "heldout_documents": len(samples[name].heldout),
                "train_passages": passages[name],
                "mean_score": float(scores[members].mean()),
            }
            for name, members in (("curated", fates.curated), ("crawl", crawl))
        },
        "curated_train_documents": dict(sorted(Counter(sources[row] for row in samples["curated"].train).items())),
        # A document that the classifier has seen as a negative scores lower than one it has not.
        "crawl_scores": {
            name: {"documents": int(rows.sum()), "mean": float(scores[rows].mean()) if rows.any() else None}
            for name, rows in (("sampled_for_training", trained_on), ("unseen", crawl & ~trained_on))
        },
        "heldout": heldout_metrics(scores[heldout], fates.curated[heldout]),
        "thresholds": threshold_table(scores[heldout], fates.curated[heldout], scores[judged]),
        "histogram": {
            "edges": [round(edge / BINS, 4) for edge in range(BINS + 1)],
            "kept": histogram(scores[crawl & fates.kept]),
            "dropped": histogram(scores[crawl & ~fates.kept]),
            "curated": histogram(scores[fates.curated]),
        },
    }
    if config.rule == "pareto":
        # Python's power, as for the draws: numpy's last bit depends on the processor.
        chances = np.array([keep_probability(score, config.alpha) for score in scores[judged].tolist()])
        found["keep"] = keep_rate(int(fates.kept[judged].sum()), chances)
    return found
