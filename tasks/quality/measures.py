"""How good a classifier is on held-out documents, what each threshold would keep, and what a random rule should."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BINS = 20


def auc(scores: Floats, positive: Bools) -> float:
    """The area under the ROC curve: P(a positive scores above a negative), ties counting one half.

    By ranks (Mann and Whitney 1947): (sum of the positives' mean ranks - P(P + 1)/2) / (P N). NaN without one of each.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank = last - (counts - 1) / 2.0
    rank_sum = float(mean_rank[inverse][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def heldout_metrics(scores: Floats, positive: Bools, threshold: float = 0.5) -> dict[str, Any]:
    """Precision, recall, accuracy at `threshold` and AUC, with the counts behind them; None where undefined."""
    called = scores >= threshold
    true_positives = int((called & positive).sum())
    called_positive, positives = int(called.sum()), int(positive.sum())
    return {
        "threshold": threshold,
        "positives": positives,
        "negatives": int((~positive).sum()),
        "true_positives": true_positives,
        "false_positives": called_positive - true_positives,
        "precision": true_positives / called_positive if called_positive else None,
        "recall": true_positives / positives if positives else None,
        "accuracy": float((called == positive).mean()) if len(scores) else None,
        "auc": auc(scores, positive) if 0 < positives < len(scores) else None,
    }


def histogram(scores: Floats) -> list[int]:
    """Counts in `BINS` bins of equal width over [0, 1]; the last one includes 1."""
    return [int(count) for count in np.histogram(scores, bins=BINS, range=(0.0, 1.0))[0]]


def threshold_table(scores: Floats, positive: Bools, judged: Floats) -> list[dict[str, Any]]:
    """What `score >= threshold` does at `BINS` - 1 thresholds between 0 and 1: a row each, None where undefined.

    Precision and recall are those of the held-out `scores`; `false_positive_rate` the share of held-out negatives
    called positive; `even_precision` the precision if both classes were equally large; `crawl_kept` the share of the
    `judged` documents at or above the threshold.
    """
    rows = []
    for number in range(1, BINS):
        threshold = round(number / BINS, 4)
        at = heldout_metrics(scores, positive, threshold)
        rate = at["false_positives"] / at["negatives"] if at["negatives"] else None
        called = (at["recall"] or 0.0) + (rate or 0.0)
        rows.append(
            {
                "threshold": threshold,
                "precision": at["precision"],
                "recall": at["recall"],
                "false_positive_rate": rate,
                "even_precision": at["recall"] / called if called and at["recall"] is not None else None,
                "crawl_kept": float((judged >= threshold).mean()) if len(judged) else None,
            }
        )
    return rows


def keep_rate(kept: int, probabilities: Floats) -> dict[str, Any]:
    """How many of N documents a random rule kept, beside what it should: independent draws of these probabilities.

    `expected` is the sum of the probabilities, `standard_error` the square root of the sum of p (1 - p).
    """
    documents = len(probabilities)
    expected = float(probabilities.sum())
    return {
        "documents": documents,
        "kept": kept,
        "share": kept / documents if documents else None,
        "expected": expected,
        "expected_share": expected / documents if documents else None,
        "standard_error": float((probabilities * (1.0 - probabilities)).sum() ** 0.5),
    }
