"""The quality stage: train, score every document, keep by the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artifacts.errors import RunError
from artifacts.tables import DECISIONS, DOCUMENTS
from tasks.quality import classifier
from tasks.quality.config import QualityConfig
from tasks.quality.measures import BINS, heldout_metrics, histogram
from tasks.quality.rules import Judgement, judge
from tasks.quality.samples import Sample, curated_rows, draw_sample, read_texts, training_lines
from tasks.stage import Stage, StageContext, Summary

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def run(ctx: StageContext) -> Summary:
    """Documents that are curated or that the rule keeps, in input order, with a decision for every document.

    GPT-3's filter (Brown et al. 2020, appendix A) with fastText in place of hashed features and logistic regression.

    Raises:
        UserError: the curated class is empty or everything.
        RunError: there are no documents, or none of those judged survives.
    """
    config: QualityConfig = ctx.config
    table = ctx.input("documents")
    names = table.read(["doc_id", "source", "url"])
    doc_ids: list[str] = names.column("doc_id").to_pylist()
    curated = curated_rows(config.positives, names.column("source").to_pylist(), names.column("url").to_pylist())

    model = ctx.path("model/classifier.bin")
    samples, passages = _train(ctx, doc_ids, curated)
    jobs = [classifier.ScoreJob(shard, str(model)) for shard in table.shards()]
    scores = np.concatenate(list(ctx.map_with_progress(classifier.score_shard, jobs, "scoring documents")))

    judged = np.flatnonzero(~curated)
    verdict = judge(config, [doc_ids[row] for row in judged], scores[judged], ctx.seed)
    if not verdict.kept.any():
        raise RunError(_nothing_survives(config, scores[judged]))
    kept = curated.copy()
    kept[judged] = verdict.kept

    _write_decisions(ctx, doc_ids, curated, kept, scores, verdict)
    first = 0
    for batch in table.batches():
        ctx.writer("data").write(batch.filter(pa.array(kept[first : first + batch.num_rows])))
        first += batch.num_rows
    return Summary(metrics=_metrics(config, samples, passages, curated, kept, scores))


def _train(ctx: StageContext, doc_ids: list[str], curated: Bools) -> tuple[dict[str, Sample], dict[str, int]]:
    """Train `model/classifier.bin`. Returns the samples by class and the training passages by class."""
    settings = ctx.config.classifier
    ctx.progress(0, None, "training the quality classifier")
    samples = {}
    for name, rows, most in (
        ("curated", np.flatnonzero(curated), settings.positive_documents),
        ("crawl", np.flatnonzero(~curated), settings.negative_documents),
    ):
        if len(rows) < 2:
            raise RunError(
                f"quality: only one {name} document: at least two are needed, one to train on and one held out"
            )
        samples[name] = draw_sample(rows.tolist(), doc_ids, most, settings.heldout_fraction, ctx.seed)
    texts = read_texts(ctx.input("documents"), samples["curated"].train + samples["crawl"].train)
    lines, passages = training_lines(samples["curated"], samples["crawl"], doc_ids, texts, settings, ctx.seed)
    classifier.train(lines, settings, ctx.seed, ctx.work / "classifier", ctx.path("model/classifier.bin"))
    return samples, passages


def _nothing_survives(config: QualityConfig, scores: Floats) -> str:
    advice = {
        "pareto": f"lower quality.alpha (now {config.alpha:g})",
        "threshold": f"lower quality.threshold (now {config.threshold:g})",
        "top_fraction": f"raise quality.fraction (now {config.fraction:g})",
    }[config.rule]
    return (
        f"quality: nothing survives: the rule {config.rule!r} keeps none of {len(scores)} crawl documents, whose best "
        f"score is {scores.max():.3f}; {advice}, or let quality.positives name text that is nearer to the crawl"
    )


def _write_decisions(
    ctx: StageContext, doc_ids: list[str], curated: Bools, kept: Bools, scores: Floats, verdict: Judgement
) -> None:
    """A decision a document: the reason is `curated` or `quality` (dropped), null for what the rule kept."""
    rows = len(doc_ids)
    threshold, draw = np.zeros(rows), np.zeros(rows)
    threshold[~curated] = verdict.threshold
    draw[~curated] = 0.0 if verdict.draw is None else verdict.draw
    reasons = np.where(curated, "curated", "quality").astype(object)
    reasons[kept & ~curated] = None
    nothing = pa.nulls(rows, pa.string())
    no_draw = np.ones(rows, dtype=np.bool_) if verdict.draw is None else curated
    columns = {
        "doc_id": pa.array(doc_ids, pa.string()),
        "kept": pa.array(kept),
        "failed": pa.array(np.zeros(rows, dtype=np.bool_)),
        "reason": pa.array(reasons, pa.string()),
        "score": pa.array(scores),
        "threshold": pa.array(threshold, mask=curated),
        "draw": pa.array(draw, mask=no_draw),
        "detail": nothing,
        "url": nothing,
    }
    ctx.writer("decisions").write(pa.table(columns, schema=DECISIONS.schema))


def _metrics(
    config: QualityConfig,
    samples: dict[str, Sample],
    passages: dict[str, int],
    curated: Bools,
    kept: Bools,
    scores: Floats,
) -> dict[str, Any]:
    heldout = samples["curated"].heldout + samples["crawl"].heldout
    trained_on = np.zeros(len(scores), dtype=np.bool_)
    trained_on[samples["crawl"].train] = True
    crawl = ~curated
    return {
        "rule": config.rule,
        "classes": {
            name: {
                "documents": int(members.sum()),
                "train_documents": len(samples[name].train),
                "heldout_documents": len(samples[name].heldout),
                "train_passages": passages[name],
                "mean_score": float(scores[members].mean()),
            }
            for name, members in (("curated", curated), ("crawl", crawl))
        },
        # A document that the classifier has seen as a negative scores lower than one it has not.
        "crawl_scores": {
            name: {"documents": int(rows.sum()), "mean": float(scores[rows].mean()) if rows.any() else None}
            for name, rows in (("sampled_for_training", trained_on), ("unseen", crawl & ~trained_on))
        },
        "heldout": heldout_metrics(scores[heldout], curated[heldout]),
        "histogram": {
            "edges": [round(edge / BINS, 4) for edge in range(BINS + 1)],
            "kept": histogram(scores[crawl & kept]),
            "dropped": histogram(scores[crawl & ~kept]),
            "curated": histogram(scores[curated]),
        },
    }


STAGE = Stage(
    name="quality",
    version=1,
    config=QualityConfig,
    reads={"documents": DOCUMENTS},
    writes={"data": DOCUMENTS, "decisions": DECISIONS},
    run=run,
)
