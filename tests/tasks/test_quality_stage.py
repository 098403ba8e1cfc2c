"""quality: heuristic rules in the stage, the rule `none`, choice of positives and negatives, thresholds, keep rate."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from artifacts.errors import RunError, UserError
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from flows.report import write_report
from tasks.quality import STAGE, QualityConfig
from tasks.quality.config import Negatives, Positives
from tasks.quality.measures import keep_rate, threshold_table
from tasks.quality.rules import keep_probability
from tasks.quality.samples import Shares, draw_sample, evenly, host_of, negative_rows
from tests.support import make_documents, put_table, read_rows, run_stage

SMALL = {"buckets": 500, "dim": 4, "epochs": 30, "heldout_fraction": 0.25}
# Lines of 21 words with two of Gopher's stop words, ending in a full stop; every word twice in a text at most.
RULES = {"gopher": {"enabled": True}, "fineweb": {"enabled": True}}


def prose(draw: random.Random, first: int) -> str:
    words = [f"word{number}" for number in range(first, first + 200)]
    lines = (f"The {' '.join(draw.sample(words, 18))} of it." for _ in range(3))
    return "\n".join(lines)


def corpus() -> pa.Table:
    draw = random.Random(2)
    good = make_documents([prose(draw, 100) for _ in range(40)], prefix="c")
    short = make_documents(["The end of it."] * 2, prefix="s")
    menu = make_documents([" \n".join(f"The item{n} of list{n} and more" for n in range(20))] * 3, prefix="m")
    books = make_documents([prose(draw, 0) for _ in range(12)] + ["Too short."], source="books", prefix="b")
    return pa.concat_tables([good, short, menu, books])


def config(**settings: Any) -> QualityConfig:
    given = {"positives": {"sources": ["books"]}, "heuristics": RULES, "alpha": 1, "classifier": SMALL}
    return QualityConfig.model_validate(given | settings)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def documents(store: Store) -> Artifact:
    return put_table(store, DOCUMENTS, corpus())


def test_rules_drop_before_the_classifier_sees_and_spare_what_is_curated(store: Store, documents: Artifact) -> None:
    artifact = run_stage(STAGE, config(), store, {"documents": documents}, seed=3).artifact
    rows = {row["doc_id"]: row for row in read_rows(artifact, "decisions")}
    by_first = {first: [row for doc_id, row in rows.items() if doc_id[0] == first] for first in "csmb"}
    for row in by_first["s"]:
        found = (row["kept"], row["reason"], row["score"], row["threshold"], row["draw"])
        assert found == (False, "gopher_min_words", 4.0, 50.0, None)
    for row in by_first["m"]:
        assert (row["reason"], row["score"], row["threshold"]) == ("fineweb_punctuated_lines", 0.0, 0.12)
    assert {row["reason"] for row in by_first["c"]} <= {None, "quality"}
    assert all(row["kept"] and row["reason"] == "curated" and row["threshold"] is None for row in by_first["b"])
    metrics = artifact.manifest.metrics
    found = {row["reason"]: (row["failing"], row["dropped"]) for row in metrics["heuristics"]["rules"]}
    assert found["gopher_min_words"] == (2, 2) and found["fineweb_punctuated_lines"] == (3, 3)
    # The two short documents are one short line each; they had failed before.
    assert found["fineweb_short_lines"] == (5, 0)
    assert (metrics["heuristics"]["dropped"], metrics["heuristics"]["curated_failing"]) == (5, 1)
    assert metrics["classes"]["crawl"]["documents"] == 40 and sum(metrics["histogram"]["curated"]) == 13
    # The keep rate is judged over what was drawn for, with the closed form's expectation.
    scores = [row["score"] for row in by_first["c"]]
    keep = metrics["keep"]
    assert keep["expected"] == pytest.approx(sum(keep_probability(score, 1.0) for score in scores))
    assert (keep["documents"], keep["kept"]) == (40, sum(row["kept"] for row in by_first["c"]))


def test_the_same_bytes_from_small_shards(store: Store, documents: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    from artifacts.reader import InputTable

    whole = run_stage(STAGE, config(), store, {"documents": documents}).artifact
    shards = InputTable.shards
    monkeypatch.setattr(InputTable, "shards", lambda self, rows=5: shards(self, 5))
    again = run_stage(STAGE, config(), store, {"documents": documents}, force=True).artifact
    assert again.manifest.content == whole.manifest.content


def test_without_a_classifier_the_rules_alone_decide(store: Store, documents: Artifact) -> None:
    artifact = run_stage(STAGE, config(rule="none", positives={}), store, {"documents": documents}).artifact
    rows = read_rows(artifact, "decisions")
    assert sorted(row["doc_id"][0] for row in rows if not row["kept"]) == ["b", "m", "m", "m", "s", "s"]
    assert all(row["score"] is None and row["reason"] is None for row in rows if row["kept"])
    assert "model/classifier.bin" not in artifact.manifest.files and artifact.manifest.metrics["rule"] == "none"
    strict = {"gopher": {"enabled": True, "min_words": 1_000}}
    for rule in ("none", "pareto"):
        chosen = config(rule=rule, positives={"sources": ["books"]} if rule == "pareto" else {}, heuristics=strict)
        with pytest.raises(RunError, match="nothing survives: the heuristic rules drop all"):
            run_stage(STAGE, chosen, store, {"documents": documents})


def test_the_report_shows_rules_thresholds_and_texts(store: Store, documents: Artifact, tmp_path: Path) -> None:
    artifact = run_stage(STAGE, config(), store, {"documents": documents}, seed=3).artifact
    page = write_report(store, artifact, tmp_path / "report.html").read_text("utf8")
    assert "Could not be shown" not in page and "gopher_min_words" in page and "words &lt; 50" in page
    assert page.count("<details") >= 10 and "Tenth 10 of 10: 4 documents" in page
    # Two texts of each tenth, none of what the rules dropped.
    assert page.count("http://example.org/c/") == 20 and "http://example.org/m/" not in page


def test_equal_shares_of_unequal_sources() -> None:
    assert evenly({"a": 100, "b": 100}, 10) == {"a": 5, "b": 5}
    assert evenly({"a": 2, "b": 100, "c": 100}, 11) == {"a": 2, "b": 5, "c": 4}
    assert evenly({"a": 2, "b": 3}, 100) == {"a": 2, "b": 3} and evenly({"a": 0, "b": 3}, 2) == {"a": 0, "b": 2}
    ids = [f"{number:032x}" for number in range(100)]
    sources = ["large"] * 90 + ["small"] * 10
    for settings, counts in (
        ({}, None),
        ({"balanced": True}, (10, 10)),
        ({"caps": {"large": 3}}, (3, 10)),
        ({"balanced": True, "caps": {"small": 4}}, (16, 4)),
    ):
        shares = Shares(Positives.model_validate(settings), sources)
        sample = draw_sample(range(100), ids, 20, 0.5, 0, shares)
        chosen = [sources[row] for row in (*sample.train, *sample.heldout)]
        found = (chosen.count("large"), chosen.count("small"))
        assert found == counts if counts else sum(found) == 20 and found[0] > 12
    plain = draw_sample(range(100), ids, 20, 0.5, 0)
    assert draw_sample(range(100), ids, 20, 0.5, 0, Shares(Positives(), sources)) == plain


def test_negatives_leave_out_copies_of_what_is_curated() -> None:
    urls = [
        "https://www.Wiki.org/a",
        "http://wiki.org:80/b",
        "http://mirror.net/wiki/a",
        "http://shop.com/",
        None,
        "http://[x",
    ]
    curated = np.array([True, False, False, False, False, False])
    assert [host_of(url) for url in urls] == ["wiki.org", "wiki.org", "mirror.net", "shop.com", "", ""]
    for settings, expected in (
        ({}, [False, True, True, True, True, True]),
        ({"exclude_curated_hosts": True}, [False, False, True, True, True, True]),
        ({"exclude_urls": ["/wiki/", r"^http://shop\."]}, [False, True, False, False, True, True]),
    ):
        found = negative_rows(Negatives.model_validate(settings), ~curated, curated, urls)
        assert found.tolist() == expected
    with pytest.raises(UserError, match="all 5 crawl documents are excluded"):
        negative_rows(Negatives(exclude_urls=("",)), ~curated, curated, urls)


def test_threshold_table_and_keep_rate_by_hand() -> None:
    scores, positive = np.array([0.9, 0.6, 0.6, 0.3]), np.array([True, False, True, False])
    table = threshold_table(scores, positive, np.array([0.1, 0.5, 0.5, 1.0]))
    assert [row["threshold"] for row in table] == [round(n / 20, 2) for n in range(1, 20)]
    at = {row["threshold"]: row for row in table}
    assert at[0.5] == {
        "threshold": 0.5, "precision": 2 / 3, "recall": 1.0, "false_positive_rate": 0.5,
        "even_precision": 1 / 1.5, "crawl_kept": 0.75,
    }  # fmt: skip
    assert (at[0.65]["precision"], at[0.65]["recall"], at[0.65]["false_positive_rate"]) == (1.0, 0.5, 0.0)
    assert (at[0.95]["precision"], at[0.95]["recall"], at[0.95]["even_precision"]) == (None, 0.0, None)
    assert keep_rate(1, np.array([0.5, 0.5, 1.0, 0.0])) == {
        "documents": 4, "kept": 1, "share": 0.25, "expected": 2.0, "expected_share": 0.5, "standard_error": 0.5**0.5,
    }  # fmt: skip
