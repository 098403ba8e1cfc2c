"""Who is curated, and which documents train and test the classifier: functions of doc_id, source and URL alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from artifacts.errors import RunError, UserError
from artifacts.reader import InputTable
from tasks.quality.classifier import CRAWL, CURATED, line_of, passages
from tasks.quality.config import ClassifierConfig, Negatives, Positives
from tasks.text.hashing import unit_interval


@dataclass(frozen=True)
class Sample:
    """Row numbers of one class, in hash order."""

    train: list[int]
    heldout: list[int]


def curated_rows(
    positives: Positives, sources: Sequence[str], urls: Sequence[str | None], required: bool = True
) -> npt.NDArray[np.bool_]:
    """Which of N documents are of the curated class, shape (N,).

    Raises:
        UserError: one is required and the config names none, or no document matches, or all do (then there is nothing
            to learn from).
        RunError: there are no documents.
    """
    if not len(sources):
        raise RunError("quality: there are no documents to judge; look at the decisions of the stages before")
    if not positives.sources and not positives.urls:
        if not required:
            return np.zeros(len(sources), dtype=np.bool_)
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
    if required and (not found.any() or found.all()):
        present = ", ".join(sorted(set(sources)))
        problem = (
            "no document matches: the classifier has no positives"
            if not found.any()
            else ("every document matches: the classifier has no negatives")
        )
        raise UserError(f"quality.positives: {problem} ({len(sources)} documents; sources present: {present})")
    return found


def negative_rows(
    negatives: Negatives, candidates: npt.NDArray[np.bool_], curated: npt.NDArray[np.bool_], urls: Sequence[str | None]
) -> npt.NDArray[np.bool_]:
    """Which of the candidates may train the classifier as negatives, shape (N,): those that no pattern excludes.

    Raises:
        UserError: the patterns exclude all of them.
    """
    patterns = [re.compile(pattern) for pattern in negatives.exclude_urls]
    if not patterns and not negatives.exclude_curated_hosts:
        return candidates
    hosts = (
        {host_of(urls[row]) for row in np.flatnonzero(curated).tolist()} if negatives.exclude_curated_hosts else set()
    )
    hosts.discard("")
    found = candidates.copy()
    for row in np.flatnonzero(candidates).tolist():
        url = urls[row] or ""
        found[row] = host_of(url) not in hosts and not any(pattern.search(url) for pattern in patterns)
    if candidates.any() and not found.any():
        raise UserError(
            f"quality.negatives: all {int(candidates.sum())} crawl documents are excluded: the classifier has none left"
        )
    return found


def host_of(url: str | None) -> str:
    """The host of a URL in lower case, without a leading `www.`; empty if it has none."""
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:  # such as a broken IPv6 address
        return ""
    return host.removeprefix("www.")


def draw_sample(
    rows: Sequence[int], doc_ids: Sequence[str], most: int, heldout: float, seed: int, shares: Shares | None = None
) -> Sample:
    """At most `most` of the rows by hash of doc_id, the first share of them held out (at least one of two or more).

    `shares` says how many of each source there may be.
    """
    order = sorted(rows, key=lambda row: (unit_interval(doc_ids[row], seed, "quality-sample"), doc_ids[row]))
    if shares is not None:
        order = shares.limited(order, most)
    order = order[:most]
    count = min(max(1, round(heldout * len(order))), len(order) - 1)
    return Sample(order[count:], order[:count])


@dataclass(frozen=True)
class Shares:
    """How many curated documents of each source may be sampled; `sources` are those of all rows."""

    positives: Positives
    sources: Sequence[str]

    def limited(self, order: Sequence[int], most: int) -> list[int]:
        """The rows in their order, without those that come after their source's last one."""
        room = Counter(self.sources[row] for row in order)
        for source, cap in self.positives.caps.items():
            room[source] = min(room[source], cap)
        if self.positives.balanced:
            room = Counter(evenly(room, most))
        chosen = []
        for row in order:
            if room[self.sources[row]] > 0:
                room[self.sources[row]] -= 1
                chosen.append(row)
        return chosen


def evenly(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Equal shares of `total` for all names, none above its size; what small ones leave is shared by the others.

    What does not divide goes to the first names in alphabetical order.
    """
    shares = dict.fromkeys(sizes, 0)
    open_names = sorted(name for name, size in sizes.items() if size > 0)
    left = min(total, sum(sizes.values()))
    while left:
        each, more = divmod(left, len(open_names))
        for place, name in enumerate(open_names):
            given = min(each + (place < more), sizes[name] - shares[name])
            shares[name] += given
            left -= given
        open_names = [name for name in open_names if shares[name] < sizes[name]]
    return shares


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
