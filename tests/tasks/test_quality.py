"""quality: the keep rule in closed form, measures by hand, the same model in every run, and what can go wrong."""

from __future__ import annotations

import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from artifacts.errors import RunError, UserError
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.quality import STAGE, QualityConfig
from tasks.quality.classifier import line_of, passages
from tasks.quality.measures import auc, heldout_metrics, histogram
from tasks.quality.rules import judge, keep_probability, pareto_draws
from tasks.text.hashing import unit_interval
from tests.support import make_documents, put_table, read_rows, run_stage

SMALL = {"buckets": 2_000, "dim": 8, "epochs": 100, "heldout_fraction": 0.25}


def corpus(crawl: int = 60, curated: int = 30) -> pa.Table:
    """Texts of two vocabularies that overlap in a third of their words."""
    draw = random.Random(4)
    words = [f"w{number}" for number in range(300)]

    def texts(vocabulary: list[str], count: int) -> list[str]:
        return [" ".join(draw.choices(vocabulary, k=60)) for _ in range(count)]

    return pa.concat_tables(
        [
            make_documents(texts(words[100:], crawl), prefix="c"),
            make_documents(texts(words[:200], curated), source="books", prefix="b"),
        ]
    )


def config(**settings: Any) -> QualityConfig:
    return QualityConfig.model_validate(
        {"positives": {"sources": ["books"]}, "alpha": 1, "classifier": SMALL, **settings}
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def documents(store: Store) -> Artifact:
    return put_table(store, DOCUMENTS, corpus())


def test_the_keep_probability_is_that_of_gpt3() -> None:
    """SOURCES: .5 keeps 2.6%, .9 keeps 42%, .95 keeps 64%."""
    assert keep_probability(0.5) == pytest.approx(1.5**-9) == pytest.approx(0.026, abs=0.0005)
    assert keep_probability(0.9) == pytest.approx(0.424, abs=0.0005)
    assert keep_probability(0.95) == pytest.approx(0.645, abs=0.0005)
    assert keep_probability(1.0) == 1.0


@pytest.mark.parametrize("score", [0.5, 0.9, 0.95])
def test_the_drawn_share_agrees_with_the_closed_form(score: float) -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    kept = judge(config(alpha=9), ids, np.full(len(ids), score), seed=3).kept.mean()
    expected = float(keep_probability(score))
    assert kept == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(ids)) ** 0.5)


def test_a_draw_is_a_function_of_document_and_seed() -> None:
    first = pareto_draws(["a", "b"], 7, 9.0)
    assert first.tolist() == pareto_draws(["b", "a"], 7, 9.0)[::-1].tolist()
    assert first[0] == (1 - unit_interval("a", 7, "quality")) ** (-1 / 9.0) - 1
    assert first[0] != pareto_draws(["a"], 8, 9.0)[0]
    # The same distribution as numpy's, by its median: 2^(1/9) - 1.
    many = pareto_draws([str(number) for number in range(20_000)], 0, 9.0)
    assert float(np.median(many)) == pytest.approx(2 ** (1 / 9) - 1, rel=0.03)
    assert float(np.median(np.random.default_rng(0).pareto(9, 20_000))) == pytest.approx(2 ** (1 / 9) - 1, rel=0.03)


def test_threshold_and_top_fraction() -> None:
    scores = np.array([0.2, 0.5, 0.9, 0.5])
    verdict = judge(config(rule="threshold", threshold=0.5), ["a", "d", "b", "c"], scores, 0)
    assert verdict.kept.tolist() == [False, True, True, True] and verdict.draw is None
    verdict = judge(config(rule="top_fraction", fraction=0.5), ["a", "d", "b", "c"], scores, 0)
    assert verdict.kept.tolist() == [False, False, True, True]  # of the two at .5, doc_id c comes before d
    assert verdict.threshold.tolist() == [0.5] * 4


def test_auc_and_counts_by_hand() -> None:
    positive = np.array([True, False, True, False])
    assert auc(np.array([0.9, 0.1, 0.8, 0.2]), positive) == 1.0
    assert auc(np.array([0.1, 0.9, 0.2, 0.8]), positive) == 0.0
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), positive) == 0.5
    # Pairs (positive, negative): .9>.6, .9>.3, .6=.6 (one half), .6>.3 -> 3.5 of 4.
    scores = np.array([0.9, 0.6, 0.6, 0.3])
    assert auc(scores, positive) == 0.875
    found = heldout_metrics(scores, positive)
    assert (found["true_positives"], found["false_positives"]) == (2, 1)
    assert (found["precision"], found["recall"], found["accuracy"]) == (2 / 3, 1.0, 0.75)
    assert histogram(np.array([0.0, 0.049, 0.05, 1.0])) == [2, 1, *[0] * 17, 1]


def test_lines_have_words_in_every_script_and_no_labels() -> None:
    assert line_of("One\ntwo, THREE") == "one two three"
    assert line_of("网页 text") == "网 页 text"
    assert "__label__" not in line_of("__label__curated good __label__crawl")
    text = "ab " * 1_000
    cut = passages(text, 1_000)
    assert len(cut) == 3 and "".join(cut) == text
    assert [len(piece) for piece in passages("页" * 900, 300)] == [300, 300, 300]


def test_the_stage_separates_keeps_and_accounts(store: Store, documents: Artifact) -> None:
    artifact = run_stage(STAGE, config(), store, {"documents": documents}, seed=5).artifact
    decisions = read_rows(artifact, "decisions")
    curated = [row for row in decisions if row["reason"] == "curated"]
    judged = [row for row in decisions if row["reason"] != "curated"]
    assert len(curated) == 30 and all(row["kept"] and row["draw"] is None for row in curated)
    for row in judged:
        assert row["threshold"] == 1 - row["score"] and row["kept"] == (row["draw"] > row["threshold"])
        assert row["reason"] == (None if row["kept"] else "quality")
    assert np.mean([row["score"] for row in curated]) > np.mean([row["score"] for row in judged]) + 0.3
    kept = [row["doc_id"] for row in decisions if row["kept"]]
    assert [row["doc_id"] for row in read_rows(artifact)] == kept
    manifest = artifact.manifest
    assert manifest.counts.rows_in == 90 and manifest.counts.reasons == {"quality": 90 - len(kept)}
    heldout = manifest.metrics["heldout"]
    # A quarter of 30 and of 60 documents, rounded to the even number.
    assert (heldout["positives"], heldout["negatives"]) == (8, 15) and heldout["auc"] > 0.95
    classes = manifest.metrics["classes"]
    assert classes["curated"]["train_passages"] == classes["crawl"]["train_passages"] == 22
    bars = manifest.metrics["histogram"]
    assert (sum(bars["kept"]), sum(bars["dropped"]), sum(bars["curated"])) == (len(kept) - 30, 90 - len(kept), 30)


@pytest.mark.parametrize("buckets", [1, 2_000, 1_200_000])
def test_two_runs_one_model_whatever_the_allocator(store: Store, documents: Artifact, buckets: int) -> None:
    """Blocks from freed memory, from fresh pages, above glibc's largest mmap threshold (1.2e6 x 8 x 4 B = 38 MB); and
    an environment that fills fresh blocks with a pattern, which makes a matrix that nobody initialised show."""
    wanted = config(classifier={**SMALL, "buckets": buckets})
    digests = set()
    for perturb in ("0", "85", "170"):
        os.environ["MALLOC_PERTURB_"] = perturb
        try:
            artifact = run_stage(STAGE, wanted, store, {"documents": documents}, force=True).artifact
        finally:
            del os.environ["MALLOC_PERTURB_"]
        digests.add((artifact.manifest.files["model/classifier.bin"].sha256, artifact.manifest.content))
    assert len(digests) == 1


def test_two_processes_small_shards_and_another_order_give_the_same(
    store: Store, documents: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artifacts.reader import InputTable

    whole = run_stage(STAGE, config(), store, {"documents": documents}).artifact
    shards = InputTable.shards
    monkeypatch.setattr(InputTable, "shards", lambda self, rows=7: shards(self, 7))
    with ProcessPoolExecutor(2) as pool:
        again = run_stage(STAGE, config(), store, {"documents": documents}, mapper=pool.map, force=True).artifact
    assert again.manifest.content == whole.manifest.content
    table = corpus()
    turned = put_table(store, DOCUMENTS, table.take(list(range(table.num_rows))[::-1]), label="turned")
    other = run_stage(STAGE, config(), store, {"documents": turned}).artifact
    model = "model/classifier.bin"
    assert other.manifest.files[model] == whole.manifest.files[model]
    assert read_rows(other, "decisions") == read_rows(whole, "decisions")[::-1]


def test_urls_name_the_curated_class_too(store: Store, documents: Artifact) -> None:
    chosen = config(positives={"urls": [r"example\.org/b/"]})
    artifact = run_stage(STAGE, chosen, store, {"documents": documents}).artifact
    assert sum(row["reason"] == "curated" for row in read_rows(artifact, "decisions")) == 30
    with pytest.raises(ValueError, match="not a regular expression"):
        config(positives={"urls": ["("]})


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"positives": {}}, UserError, "name the curated class"),
        ({"positives": {"sources": ["wiki"]}}, UserError, "no positives.*sources present: books, crawl"),
        ({"positives": {"sources": ["books", "crawl"]}}, UserError, "no negatives"),
        ({"rule": "threshold", "threshold": 1.0}, RunError, "nothing survives.*none of 60 crawl documents"),
    ],
)
def test_what_cannot_work_ends_in_one_message(
    store: Store, documents: Artifact, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_stage(STAGE, config(**settings), store, {"documents": documents})
    assert store.artifacts("quality") == [] and not list((Path(store.url) / ".tmp").glob("quality*"))


def test_an_empty_crawl_ends_in_one_message(store: Store) -> None:
    empty = put_table(store, DOCUMENTS, DOCUMENTS.schema.empty_table())
    with pytest.raises(RunError, match="no documents to judge"):
        run_stage(STAGE, config(), store, {"documents": empty})


def mirror_file(name: str) -> Path:
    for folder in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(":")):
        for path in Path(folder).rglob(name):
            return path
    pytest.skip(f"{name} is not in a folder of CRAWL2CHAT_MIRROR")


@pytest.mark.real
def test_encyclopedia_articles_against_a_real_crawl(store: Store) -> None:
    crawl = mirror_file("llamafactory_c4_demo.jsonl").read_text(encoding="utf8").splitlines()
    articles = mirror_file("llamafactory_wiki_demo.txt").read_text(encoding="utf8").splitlines()
    table = pa.concat_tables(
        [
            make_documents([json.loads(line)["text"] for line in crawl]),
            make_documents(articles, source="books", prefix="b"),
        ]
    )
    given = put_table(store, DOCUMENTS, table)
    chosen = config(alpha=9, classifier={"heldout_fraction": 0.3})
    artifact = run_stage(STAGE, chosen, store, {"documents": given}).artifact
    heldout = artifact.manifest.metrics["heldout"]
    assert (heldout["positives"], heldout["negatives"]) == (9, 90)
    assert heldout["auc"] > 0.9 and heldout["recall"] == 1.0
