"""The config section `quality`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tasks.quality.heuristics.config import HeuristicsConfig
from tasks.stage import StageConfig


def _compiling(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return patterns


class Positives(StageConfig):
    """The curated class: documents of the named sources, and documents whose URL matches."""

    sources: tuple[str, ...] = Field((), title="Curated sources", description="Values of the column `source`.")
    urls: tuple[str, ...] = Field(
        (), title="Curated URLs", description="Regular expressions, searched for anywhere in the URL."
    )

    balanced: bool = Field(
        False,
        title="Balanced sources",
        description="Sample as many training documents of each source as of any other, as far as it has so many. False "
        "samples them as they come, so that a large source is most of what good text is.",
    )
    caps: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {},
        title="Caps",
        description="By source: at most so many of its documents train and test the classifier, by hash of doc_id. All "
        "of them are kept.",
    )

    _urls_compile = field_validator("urls")(_compiling)


class Negatives(StageConfig):
    """Which crawl documents must not stand for poor text: the classifier does not see them, and judges them after."""

    exclude_urls: tuple[str, ...] = Field(
        (),
        title="Excluded URLs",
        description="Regular expressions, searched for anywhere in the URL: mirrors and copies of curated text.",
    )
    exclude_curated_hosts: bool = Field(
        False, title="Exclude curated hosts", description="Exclude pages of every host that a curated document is from."
    )

    _urls_compile = field_validator("exclude_urls")(_compiling)


class ClassifierConfig(StageConfig):
    """fastText's supervised classifier (Joulin et al. 2017) and what it is trained on.

    The input matrix has (words + buckets) * dim * 4 bytes, and `model/classifier.bin` is as large.
    """

    dim: int = Field(16, ge=1, title="Width of word vectors", description="Two classes need few dimensions.")
    word_ngrams: int = Field(2, ge=1, le=5, title="Longest word n-gram", description="2 adds pairs of words.")
    buckets: int = Field(2**18, ge=1, title="Buckets", description="Hash buckets of the word n-grams.")
    epochs: int = Field(
        10,
        ge=1,
        title="Epochs",
        description="Passes over the training passages. With lr .5 and some hundred passages, 5 leave every score near "
        "one half and 25 push most to 0 or 1, at the same AUC; with a hundred thousand passages 3 to 5 are enough.",
    )
    lr: float = Field(0.5, gt=0, title="Learning rate", description="At the start; it falls to 0 in a line.")
    min_count: int = Field(1, ge=1, title="Least count of a word", description="Rarer words are not features.")
    positive_documents: int = Field(
        20_000, ge=2, title="Curated sample", description="At most so many curated documents, by hash of doc_id."
    )
    negative_documents: int = Field(
        20_000, ge=2, title="Crawl sample", description="At most so many other documents, by hash of doc_id."
    )
    passage_characters: int = Field(
        2_000,
        ge=100,
        title="Passage length",
        description="Training documents are cut at white space into passages of about so many characters, so that a "
        "class of few long documents is learnt from as much text as it has.",
    )
    balanced: bool = Field(
        True,
        title="Balanced classes",
        description="Train on as many passages of one class as of the other (the larger is sampled by hash), so that "
        "a score is P(curated) at even odds. False takes all passages, and the score has their odds as its prior.",
    )
    heldout_fraction: float = Field(
        0.1,
        gt=0,
        le=0.5,
        title="Held-out share",
        description="Of each class's sampled documents, at least one, for precision, recall and AUC.",
    )


class QualityConfig(StageConfig):
    """Heuristic rules, which documents are curated, how the classifier is trained, and the rule of its scores."""

    positives: Positives = Field(
        Positives(), title="Curated class", description="What good text is; kept without a draw."
    )
    negatives: Negatives = Field(
        Negatives(), title="Negatives", description="Which other documents the classifier is not trained on."
    )
    heuristics: HeuristicsConfig = Field(
        HeuristicsConfig(), title="Heuristic rules", description="Gopher's, C4's and FineWeb's; all off by default."
    )
    rule: Literal["pareto", "threshold", "top_fraction", "none"] = Field(
        "pareto",
        title="Rule",
        description="pareto: keep if a Pareto draw exceeds 1 - score (GPT-3, appendix A). threshold: keep if score >= "
        "threshold. top_fraction: keep the best-scored share. none: no classifier, the heuristic rules alone.",
    )
    alpha: float = Field(
        9.0,
        gt=0,
        title="Pareto alpha",
        description="The keep probability is (2 - score)^-alpha: 9 keeps 0.2% at score 0, 2.6% at .5, 64% at .95.",
    )
    threshold: float = Field(0.5, ge=0, le=1, title="Threshold", description="For the rule `threshold`.")
    fraction: float = Field(0.25, gt=0, le=1, title="Fraction", description="For the rule `top_fraction`.")
    classifier: ClassifierConfig = Field(
        ClassifierConfig(), title="Classifier", description="Features, training and samples."
    )
