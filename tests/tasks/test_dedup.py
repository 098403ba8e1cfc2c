"""The dedup stage: closed forms, agreement with datasketch and brute force, who survives, and independence of order."""

from __future__ import annotations

import os
import random
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts.errors import RunError, UserError
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.dedup import STAGE, DedupConfig
from tasks.dedup import corpus as dedup_corpus
from tasks.dedup.clusters import FULL_BUCKET
from tasks.dedup.minhash import band_keys, candidate_probability, shingle_hash32, signature
from tasks.text.shingles import jaccard, shingle_set
from tests.support import make_documents, put_table, read_rows, run_stage

# Single rows a band: two sets that share anything like .5 are compared for certain, so that tests see the rule alone.
SURE = {"bands": 64, "rows": 1}


def words(first: int, last: int) -> str:
    return " ".join(f"word{number:04d}" for number in range(first, last))


def dedup(store: Store, table: pa.Table, inputs: dict[str, Artifact] | None = None, **config: Any) -> Artifact:
    documents = put_table(store, DOCUMENTS, table, label=repr(table.to_pylist()))
    keywords = {"mapper": config.pop("mapper")} if "mapper" in config else {}
    given = {"documents": documents, **(inputs or {})}
    return run_stage(STAGE, DedupConfig(**config), store, given, **keywords).artifact


def survivors(artifact: Artifact) -> list[str]:
    return [row["text"] for row in read_rows(artifact)]


def decisions(artifact: Artifact) -> dict[str, dict[str, Any]]:
    return {row["doc_id"].lstrip("d0") or "0": row for row in read_rows(artifact, "decisions")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize(("s", "p"), [(0.5, 0.053), (0.6, 0.211), (0.7, 0.565), (0.8, 0.924), (0.9, 1.0)])
def test_candidate_probability_of_fineweb(s: float, p: float) -> None:
    assert candidate_probability(s, 14, 8) == pytest.approx(p, abs=5e-4)


def test_candidate_probability_in_closed_form() -> None:
    assert candidate_probability(0.5, 1, 3) == 0.125
    assert candidate_probability(0.5, 2, 1) == 0.75
    assert candidate_probability(0.0, 14, 8) == 0.0
    assert candidate_probability(1.0, 14, 8) == 1.0


@pytest.mark.parametrize("text", [words(0, 300), words(0, 3), "一二三四五六七八九十" * 3, ""])
@pytest.mark.parametrize("count", [112, 128, 5])
def test_signatures_are_datasketchs_bit_for_bit(text: str, count: int) -> None:
    shingles = shingle_set(text, 5)
    theirs = MinHash(num_perm=count, hashfunc=int)
    theirs.update_batch(shingle_hash32(shingles).tolist())
    ours = signature(shingles, count)
    assert ours.dtype == theirs.hashvalues.dtype == np.uint32
    assert ours.tolist() == theirs.hashvalues.tolist()


def test_signatures_estimate_jaccard() -> None:
    a, b = shingle_set(words(0, 400), 5), shingle_set(words(60, 460), 5)
    exact = jaccard(a, b)
    assert exact == 336 / 456
    estimate = float((signature(a, 4096) == signature(b, 4096)).mean())
    assert abs(estimate - exact) < 4 * (exact * (1 - exact) / 4096) ** 0.5


def test_band_keys_agree_where_bands_do() -> None:
    one = np.arange(12, dtype=np.uint32)
    other = one.copy()
    other[5] = 99
    keys = band_keys(np.stack([one, other]), bands=3, rows=4)
    assert (keys[0] == keys[1]).tolist() == [True, False, True]


def test_planted_duplicates(store: Store) -> None:
    base, near = words(0, 200), words(0, 195) + " a few other last words"
    texts = [base, base.upper() + " !!!", "Something else entirely, of no great length.", near, words(1000, 1200)]
    artifact = dedup(store, make_documents(texts), **SURE)
    found = decisions(artifact)
    exact = jaccard(shingle_set(base, 5), shingle_set(near, 5))
    assert exact == 191 / 201  # 196 and 196 shingles, 191 in common
    survivor = found["0"]["doc_id"], found["1"]["doc_id"], found["3"]["doc_id"]
    # Longest text first: 3 has 1,778 characters, 1 has 1,803, 0 has 1,799.
    assert [found[key]["kept"] for key in "01234"] == [False, True, True, False, True]
    assert (found["0"]["reason"], found["0"]["score"], found["0"]["detail"]) == ("exact_duplicate", 1.0, survivor[1])
    assert (found["3"]["reason"], found["3"]["score"], found["3"]["threshold"], found["3"]["detail"]) == (
        "near_duplicate", exact, 0.8, survivor[1],
    )  # fmt: skip
    assert survivors(artifact) == [texts[1], texts[2], texts[4]]
    assert read_rows(artifact, "pairs") == [
        {"doc_a": survivor[1], "doc_b": survivor[2], "jaccard": exact, "accepted": True}
    ]
    assert [row["doc_id"] for row in read_rows(artifact, "signatures")] == [r["doc_id"] for r in read_rows(artifact)]
    assert read_rows(artifact, "signatures")[0]["signature"] == signature(shingle_set(texts[1], 5), 64).tolist()
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.reasons) == (5, 3, {"exact_duplicate": 1, "near_duplicate": 1})
    metrics = artifact.manifest.metrics
    assert (metrics["clusters"], metrics["largest_cluster"], metrics["accepted_pairs"]) == (1, 3, 1)
    assert metrics["candidate_probability_at_threshold"] == 1 - (1 - 0.8) ** 64


def test_a_chain_does_not_drop_what_is_unlike_its_survivor(store: Store) -> None:
    # Sets of words: J(0,1) = J(1,2) = 92/108, J(0,2) = 84/116.
    chain = [words(0, 100), words(8, 108), words(16, 116)]
    found = decisions(dedup(store, make_documents(chain), shingle=1, **SURE))
    assert [found[key]["kept"] for key in "012"] == [True, False, True]
    assert found["1"]["score"] == 92 / 108
    assert (found["2"]["score"], found["2"]["reason"]) == (84 / 116, None)
    # With the middle one the best of the three, both ends fall to it.
    artifact = dedup(store, make_documents([chain[0], chain[1] + "  ", chain[2]]), shingle=1, **SURE)
    found = decisions(artifact)
    assert [found[key]["kept"] for key in "012"] == [False, True, False]
    assert artifact.manifest.metrics["largest_cluster"] == 3
    pairs = [(row["jaccard"], row["accepted"]) for row in read_rows(artifact, "pairs")]
    assert pairs == [(92 / 108, True), (84 / 116, False), (92 / 108, True)]


def test_a_twin_of_a_dropped_document_falls_to_the_survivor(store: Store) -> None:
    chain = [words(0, 101), words(8, 108), words(8, 108).upper()]
    found = decisions(dedup(store, make_documents(chain), shingle=1, **SURE))
    assert [found[key]["kept"] for key in "012"] == [True, False, False]
    assert found["1"]["detail"] == found["2"]["detail"] == found["0"]["doc_id"]
    assert found["2"]["reason"] == "near_duplicate"
    assert found["2"]["score"] == 93 / 108


def test_the_threshold_is_inclusive(store: Store) -> None:
    texts = [words(0, 90), words(10, 100)]  # 80 of 100
    assert len(survivors(dedup(store, make_documents(texts), shingle=1, **SURE))) == 1
    assert len(survivors(dedup(store, make_documents(texts), shingle=1, threshold=0.801, **SURE))) == 2


def test_cjk_text_is_compared_by_characters(store: Store) -> None:
    alphabet = [chr(0x4E00 + number) for number in range(600)]
    draw = random.Random(5)
    base = "".join(draw.choices(alphabet, k=300))
    near = base[:290] + "。" + "".join(draw.choices(alphabet, k=11))
    other = "".join(draw.choices(alphabet, k=300))
    artifact = dedup(store, make_documents([base, near, other, base[:3] + "，" + base[3:]]))
    found = decisions(artifact)
    # Row 3 is row 0 with a comma more: the same normalised text, the longer of the two. Row 1 is the longest of all.
    assert [found[key]["kept"] for key in "0123"] == [False, True, True, False]
    assert [found[key]["reason"] for key in "03"] == ["near_duplicate", "near_duplicate"]
    assert found["0"]["score"] == 286 / 307


def test_preferred_sources_survive(store: Store) -> None:
    text = words(0, 100)
    table = pa.concat_tables(
        [make_documents([text + " tail"], "crawl", prefix="a"), make_documents([text], "wiki", prefix="b")]
    )
    assert [row["source"] for row in read_rows(dedup(store, table, **SURE))] == ["crawl"]
    assert [row["source"] for row in read_rows(dedup(store, table, prefer=["wiki"], **SURE))] == ["wiki"]


def test_texts_without_words_are_equal_only_to_themselves(store: Store) -> None:
    artifact = dedup(store, make_documents(["...", "!!!", " ...\n", "", "😀"]))
    assert survivors(artifact) == ["!!!", " ...\n", "", "😀"]
    assert artifact.manifest.metrics["documents_without_words"] == 5
    assert artifact.manifest.metrics["candidate_pairs"] == 0


def test_many_copies_make_a_star_not_a_square(store: Store) -> None:
    copies = FULL_BUCKET * 3
    texts = [words(0, 300) + f" ending{number:04d}" for number in range(copies)]
    artifact = dedup(store, make_documents(texts))
    assert survivors(artifact) == [texts[0]]
    pairs = read_rows(artifact, "pairs")
    assert len(pairs) == artifact.manifest.metrics["candidate_pairs"] < copies * FULL_BUCKET
    assert all(row["jaccard"] == 296 / 298 for row in pairs)


def test_one_huge_cluster_is_an_alarm(store: Store) -> None:
    table = make_documents(["the same page"] * 30 + [words(100 * i, 100 * i + 50) for i in range(20)])
    with pytest.raises(RunError, match=r"would lose 29 of 50 documents.*max_cluster_share"):
        dedup(store, table, max_cluster_documents=10)
    assert store.artifacts("dedup") == []
    assert len(survivors(dedup(store, table, max_cluster_documents=10, max_cluster_share=1.0))) == 21
    assert len(survivors(dedup(store, table))) == 21  # no alarm below 1,000 documents


def test_earlier_crawls_win(store: Store) -> None:
    earlier = dedup(store, make_documents([words(0, 200), words(1000, 1200)], prefix="a"), **SURE)
    # Even a longer, preferred text falls to what was there before.
    new = make_documents([words(0, 210), words(1000, 1200).title(), words(2000, 2200)], prefix="d")
    artifact = dedup(store, new, {"against": earlier}, against=[earlier.ref], **SURE)
    found = decisions(artifact)
    old = [row["doc_id"] for row in read_rows(earlier)]
    where = f"dedup@.{earlier.content}"
    assert (found["0"]["reason"], found["0"]["score"]) == ("near_duplicate", 196 / 206)
    assert (found["1"]["reason"], found["1"]["score"]) == ("exact_duplicate", 1.0)
    assert [found[key]["detail"] for key in "01"] == [f"{old[0]} {where}", f"{old[1]} {where}"]
    assert survivors(artifact) == [words(2000, 2200)]
    assert len(read_rows(artifact, "signatures")) == 1
    assert artifact.manifest.metrics["earlier_documents"] == 2
    pairs = read_rows(artifact, "pairs")
    assert [(row["doc_a"], row["doc_b"]) for row in pairs] == [(old[0], found["0"]["doc_id"])]


def test_earlier_artifacts_must_fit(store: Store) -> None:
    earlier = dedup(store, make_documents([words(0, 200)], prefix="a"), **SURE)
    table = make_documents([words(0, 200)])
    with pytest.raises(UserError, match="use the same bands, rows and shingle"):
        dedup(store, table, {"against": earlier})
    with pytest.raises(UserError, match="no dedup artifact"):
        dedup(store, table, {"against": put_table(store, DOCUMENTS, table)}, **SURE)
    with pytest.raises(UserError, match="no input `against`"):
        dedup(store, table, against=["dedup@1234"], **SURE)


def test_an_empty_corpus_gives_empty_tables(store: Store) -> None:
    artifact = dedup(store, make_documents([]))
    assert [len(read_rows(artifact, name)) for name in ("data", "decisions", "pairs", "signatures")] == [0, 0, 0, 0]
    assert artifact.manifest.counts.rows_in == 0
    assert artifact.manifest.metrics["clusters"] == 0


def corpus(seed: int, documents: int) -> list[str]:
    """Texts among which there are twins, near-duplicates of many degrees and chains."""
    draw = random.Random(seed)
    starts = [draw.randrange(400) for _ in range(max(documents // 4, 1))]
    texts = [words(start, start + draw.randrange(40, 80)) for start in starts]
    while len(texts) < documents:
        text = draw.choice(texts).split()
        for _ in range(draw.choice([0, 1, 2, 5])):
            text[draw.randrange(len(text))] = f"new{draw.randrange(50)}"
        start = draw.choice([0, 0, len(text) // 12])
        texts.append(" ".join(text[start:]))
    return texts


@given(st.integers(0, 10_000), st.integers(1, 40), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_survivors_do_not_depend_on_order(
    tmp_path_factory: Any, seed: int, documents: int, shuffle: random.Random
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    table = make_documents(corpus(seed, documents))
    order = list(range(documents))
    shuffle.shuffle(order)
    first, second = dedup(store, table), dedup(store, table.take(order))

    def by_id(artifact: Artifact, name: str) -> list[dict[str, Any]]:
        return sorted(read_rows(artifact, name), key=lambda row: row["doc_id"])

    for name in ("data", "decisions", "signatures"):
        assert by_id(first, name) == by_id(second, name)
    assert read_rows(first, "pairs") == read_rows(second, "pairs")
    assert first.manifest.metrics == second.manifest.metrics
    # Rows come out in the order in which they went in.
    kept = {row["doc_id"] for row in read_rows(second)}
    assert [r["doc_id"] for r in read_rows(second)] == [i for i in table.take(order)["doc_id"].to_pylist() if i in kept]


def test_the_rule_against_brute_force(store: Store) -> None:
    """With bands of one row nothing similar escapes: the outcome is that of comparing all pairs."""
    texts = sorted(set(corpus(11, 60)), key=lambda text: (-len(text), text))
    artifact = dedup(store, make_documents(texts), threshold=0.6, bands=128, rows=1)
    sets = [shingle_set(text, 5) for text in texts]
    kept: list[int] = []
    for number in range(len(texts)):
        if all(jaccard(sets[number], sets[other]) < 0.6 for other in kept):
            kept.append(number)
    assert survivors(artifact) == [texts[number] for number in kept]
    assert 15 < len(kept) < len(texts) - 15
    similar = {(a, b): jaccard(sets[a], sets[b]) for a, b in combinations(range(len(texts)), 2)}
    accepted = {
        (int(row["doc_a"].lstrip("d0") or 0), int(row["doc_b"].lstrip("d0") or 0)): row["jaccard"]
        for row in read_rows(artifact, "pairs")
        if row["accepted"]
    }
    assert accepted == {pair: value for pair, value in similar.items() if value >= 0.6}


def test_processes_and_grain_do_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_documents(corpus(3, 120))
    contents = [dedup(Store(tmp_path / "one"), table).manifest.content]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        monkeypatch.setattr(dedup_corpus, "ROWS_A_SHARD", 7)
        contents.append(dedup(Store(tmp_path / "seven"), table).manifest.content)
        contents.append(dedup(Store(tmp_path / "two"), table, mapper=pool.map).manifest.content)
    assert len(set(contents)) == 1


def news(size: int) -> tuple[pa.Table, set[tuple[str, str]]]:
    name = f"neardup/minhash_articles/articles_{size}"
    for folder in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep)):
        if (Path(folder) / f"{name}.train").exists():
            lines = (Path(folder) / f"{name}.train").read_text().splitlines()
            truth = (Path(folder) / f"{name}.truth").read_text().splitlines()
            ids, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
            table = make_documents(texts).set_column(0, "doc_id", pa.array(ids))
            return table, {(min(pair), max(pair)) for pair in (tuple(line.split()) for line in truth if line)}
    pytest.skip("CRAWL2CHAT_MIRROR holds no neardup/minhash_articles")


@pytest.mark.real
@pytest.mark.parametrize("size", [100, 1000])
def test_labelled_pairs_of_the_news_articles(store: Store, size: int) -> None:
    table, truth = news(size)
    artifact = dedup(store, table)
    assert {(row["doc_a"], row["doc_b"]) for row in read_rows(artifact, "pairs") if row["accepted"]} == truth
    assert artifact.manifest.counts.dropped == len(truth)
