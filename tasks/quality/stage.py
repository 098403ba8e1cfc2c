"""The quality stage: heuristic rules, then train, score every document, keep by the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artifacts.errors import RunError
from artifacts.tables import DECISIONS, DOCUMENTS
from tasks.quality import classifier, scoring
from tasks.quality.config import QualityConfig
from tasks.quality.fates import Fates, write_decisions
from tasks.quality.figures import heuristic_figures, score_figures
from tasks.quality.heuristics import Verdict
from tasks.quality.judging import judge_documents
from tasks.quality.rules import judge
from tasks.quality.samples import Sample, Shares, curated_rows, draw_sample, negative_rows, read_texts, training_lines
from tasks.stage import Stage, StageContext, Summary

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Documents a shard: a whole row group, so that no worker reads one for a part of it.
SHARD = 8_192


def run(ctx: StageContext) -> Summary:
    """Documents that are curated, and those that pass the heuristic rules and that the classifier's rule keeps, in
    input order, with a decision for every document.

    GPT-3's filter (Brown et al. 2020, appendix A) with fastText in place of hashed features and logistic regression.

    Raises:
        UserError: the curated class is empty or everything.
        RunError: there are no documents, or none of those judged survives.
    """
    config: QualityConfig = ctx.config
    table = ctx.input("documents")
    names = table.read(["doc_id", "source", "url"])
    doc_ids: list[str] = names.column("doc_id").to_pylist()
    sources, urls = names.column("source").to_pylist(), names.column("url").to_pylist()
    curated = curated_rows(config.positives, sources, urls, required=config.rule != "none")
    fates = Fates(doc_ids, curated)

    verdict: Verdict | None = None
    if config.heuristics.enabled:
        verdict = judge_documents(ctx, curated, SHARD)
        fates.rule_out(config.heuristics, verdict)
    metrics: dict[str, Any] = {"rule": config.rule, "heuristics": heuristic_figures(config.heuristics, verdict)}
    if config.rule != "none":
        samples, passages = _train(ctx, fates, sources, urls)
        scores = _score(ctx)
        judged = np.flatnonzero(fates.open)
        judgement = judge(config, [doc_ids[row] for row in judged], scores[judged], ctx.seed)
        if not judgement.kept.any():
            raise RunError(_nothing_survives(config, scores[judged]))
        fates.decide(judgement, scores)
        metrics |= score_figures(config, samples, passages, fates, judged, scores, sources)
    elif not fates.kept.any():
        raise RunError(_all_ruled_out(len(doc_ids)))
    write_decisions(ctx.writer("decisions"), fates)
    first = 0
    for batch in table.batches():
        ctx.writer("data").write(batch.filter(pa.array(fates.kept[first : first + batch.num_rows])))
        first += batch.num_rows
    return Summary(metrics=metrics)


def _train(
    ctx: StageContext, fates: Fates, sources: list[str], urls: list[str | None]
) -> tuple[dict[str, Sample], dict[str, int]]:
    """Train `model/classifier.bin`. Returns the samples by class and the training passages by class.

    Negatives are sampled from what the heuristic rules left: the classifier learns what they cannot tell.
    """
    config: QualityConfig = ctx.config
    settings = config.classifier
    ctx.progress(0, None, "training the quality classifier")
    if not fates.open.any():
        raise RunError(_all_ruled_out(len(fates.doc_ids)))
    samples = {}
    for name, members, most, shares in (
        ("curated", fates.curated, settings.positive_documents, Shares(config.positives, sources)),
        ("crawl", negative_rows(config.negatives, fates.open, fates.curated, urls), settings.negative_documents, None),
    ):
        rows = np.flatnonzero(members).tolist()
        if len(rows) >= 2:
            samples[name] = draw_sample(rows, fates.doc_ids, most, settings.heldout_fraction, ctx.seed, shares)
        if len(rows) < 2 or not samples[name].train:
            raise RunError(
                f"quality: only one {name} document: at least two are needed, one to train on and one held out"
            )
    texts = read_texts(ctx.input("documents"), samples["curated"].train + samples["crawl"].train)
    lines, passages = training_lines(samples["curated"], samples["crawl"], fates.doc_ids, texts, settings, ctx.seed)
    classifier.train(lines, settings, ctx.seed, ctx.work / "classifier", ctx.path("model/classifier.bin"))
    return samples, passages


def _score(ctx: StageContext) -> Floats:
    """P(curated) of every document, shape (N,)."""
    model = ctx.path("model/classifier.bin")
    jobs = [scoring.ScoreJob(shard, str(model)) for shard in ctx.input("documents").shards(SHARD)]
    return np.concatenate(list(ctx.map_with_progress(scoring.score_shard, jobs, "scoring documents")))


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


def _all_ruled_out(documents: int) -> str:
    return (
        f"quality: nothing survives: the heuristic rules drop all of {documents} documents that are not curated; make "
        "bounds in quality.heuristics milder, or null"
    )


STAGE = Stage(
    name="quality",
    version=4,  # 4: closing quotes of German, ends of sentences of Armenian and others, no unseen characters
    config=QualityConfig,
    reads={"documents": DOCUMENTS},
    writes={"data": DOCUMENTS, "decisions": DECISIONS},
    run=run,
)
