"""Who is curated, and which documents train and test the classifier: functions of doc_id, source and URL alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artifacts.errors import RunError, UserError
from artifacts.reader import InputTable
from tasks.quality.classifier import CRAWL, CURATED, line_of, passages
from tasks.quality.config import ClassifierConfig, Positives
from tasks.text.hashing import unit_interval


@dataclass(frozen=True)
class Sample:
    """Row numbers of one class, in hash order."""

    train: list[int]
    heldout: list[int]


def curated_rows(positives: Positives, sources: Sequence[str], urls: Sequence[str | None]) -> npt.NDArray[np.bool_]:
    """Which of N documents are of the curated class, shape (N,).

    Raises:
        UserError: the config names none, or no document matches, or all do (then there is nothing to learn from).
        RunError: there are no documents.
    """
    if not len(sources):
        raise RunError("quality: there are no documents to judge; look at the decisions of the stages before")
    if not positives.sources and not positives.urls:
        raise UserError("quality.positives: name the curated class by `sources` or `urls`")
    patterns = [re.compile(pattern) for pattern in positives.urls]
    wanted = set(positives.sources)
    found = np.array(
        [
            source in wanted or any(pattern.search(url or "") for pattern in patterns)
            for source, url in zip(sources, urls, strict=True)
        ],
        dtype=np.bool_,
    )
    if not found.any() or found.all():
        present = ", ".join(sorted(set(sources)))
        problem = (
            "no document matches: the classifier has no positives"
            if not found.any()
            else ("every document matches: the classifier has no negatives")
        )
        raise UserError(f"quality.positives: {problem} ({len(sources)} documents; sources present: {present})")
    return found


def draw_sample(rows: Sequence[int], doc_ids: Sequence[str], most: int, heldout: float, seed: int) -> Sample:
    """At most `most` of the rows by hash of doc_id, the first share of them held out (at least one of two or more)."""
    order = sorted(rows, key=lambda row: (unit_interval(doc_ids[row], seed, "quality-sample"), doc_ids[row]))[:most]
    count = min(max(1, round(heldout * len(order))), len(order) - 1)
    return Sample(order[count:], order[:count])


def training_lines(
    curated: Sample, crawl: Sample, doc_ids: Sequence[str], texts: dict[int, str], config: ClassifierConfig, seed: int
) -> tuple[list[str], dict[str, int]]:
    """The labelled lines in training order, and how many of each class.

    The order is that of a hash of doc_id and passage number, so the classes come mixed; with `balanced` the larger
    class ends where the smaller one does.
    """
    classes: list[list[tuple[float, str]]] = []
    for label, sample in ((CURATED, curated), (CRAWL, crawl)):
        lines = []
        for row in sample.train:
            for number, passage in enumerate(passages(texts[row], config.passage_characters)):
                line = line_of(passage)
                if line:
                    lines.append((unit_interval(f"{doc_ids[row]}:{number}", seed, "quality-order"), f"{label} {line}"))
        classes.append(sorted(lines))
    if not classes[0] or not classes[1]:
        name = "curated" if not classes[0] else "other"
        raise RunError(f"quality: the sampled {name} documents hold no words to train the classifier on")
    if config.balanced:
        size = min(len(classes[0]), len(classes[1]))
        classes = [lines[:size] for lines in classes]
    counts = {"curated": len(classes[0]), "crawl": len(classes[1])}
    return [line for _, line in sorted(classes[0] + classes[1])], counts


def read_texts(table: InputTable, rows: Sequence[int]) -> dict[int, str]:
    """The texts of some rows, by row number: one pass that holds no other text."""
    wanted = np.array(sorted(rows), dtype=np.int64)
    found: dict[int, str] = {}
    first = 0
    for batch in table.batches(["text"]):
        here = wanted[(wanted >= first) & (wanted < first + batch.num_rows)]
        if len(here):
            chosen = batch.column("text").take(pa.array(here - first))
            found.update(zip(here.tolist(), chosen.to_pylist(), strict=True))
        first += batch.num_rows
    return found
