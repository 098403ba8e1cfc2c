"""Dedup beyond memory and beyond one crawl: parts and batches, the index, chains of earlier crawls, alarms."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts.audit.takedown import takedown
from artifacts.errors import RunError, UserError
from artifacts.store import Artifact, Store
from tasks.dedup import DedupConfig, batches, clusters, corpus
from tasks.dedup.config import Limits
from tasks.dedup.corpus import fixed_width, halves_hex, hex_halves, strings
from tasks.dedup.index import TEXTS_A_BLOCK, Index, TextWriter, read_texts
from tasks.dedup.minhash import band_keys
from tasks.dedup.spill import Scratch, sorted_parts
from tests.support import make_documents, read_rows
from tests.tasks.test_dedup import SURE, decisions, dedup, survivors, words
from tests.tasks.test_dedup import corpus as generated


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def tiny_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts and batches where there would be one of each."""
    monkeypatch.setattr(DedupConfig, "limits", property(lambda self: Limits(entries=9, bytes=20_000)))
    monkeypatch.setattr(corpus, "ROWS_A_SHARD", 5)
    monkeypatch.setattr(corpus, "SHARDS_AT_ONCE", 3)
    monkeypatch.setattr("tasks.dedup.shingle_sets.ROWS_A_SHARD", 5)
    monkeypatch.setattr("tasks.dedup.earlier.ROWS_A_TASK", 2)
    for module in ("outcome", "writing"):
        monkeypatch.setattr(f"tasks.dedup.{module}.ROWS_A_CHUNK", 11)


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(2**63, 2**63 + 3), max_size=60), st.integers(1, 70))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_are_one_stable_sort_of_all_records(tmp_path_factory: Any, keys: list[int], limit: int) -> None:
    records = np.empty(len(keys), dtype=[("key", "<u8"), ("row", "<i8")])
    records["key"], records["row"] = np.array(keys, dtype=np.uint64), np.arange(len(keys))
    chunks = [records[start : start + 7] for start in range(0, len(keys), 7)]
    with Scratch(tmp_path_factory.mktemp("parts") / "scratch") as scratch:
        parts = list(sorted_parts(chunks, len(keys), limit, scratch))
    expected = sorted(range(len(keys)), key=keys.__getitem__)
    assert [row for part in parts for row in part["row"].tolist()] == expected
    assert len(parts) <= 1 or limit < len(keys)
    for one, next_one in pairwise(parts):
        assert one["key"][-1] < next_one["key"][0]


def test_scratch_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "left by a killed attempt").touch()
    with Scratch(tmp_path / "work") as scratch:
        spill = scratch.spill(np.uint32, 2)
        spill.append(np.arange(6, dtype=np.uint32))
        assert spill.read(1, 3).tolist() == [[2, 3], [4, 5]]
        assert scratch.column(np.int64, 3, fill=-1).tolist() == [-1, -1, -1]
        assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["1.spill", "2.column"]
    assert not (tmp_path / "work").exists()


def contents(store: Store, mapper: Any = map) -> list[str]:
    """A crawl with everything in it, and one after it."""
    earlier = dedup(store, make_documents(generated(1, 60), prefix="a"), mapper=mapper)
    texts = [*generated(2, 40), *generated(1, 60)[20:50], "...", "..."]
    later = dedup(store, make_documents(texts, prefix="b"), {"against": earlier}, mapper=mapper)
    return [earlier.manifest.content, later.manifest.content]


@pytest.fixture(scope="module")
def in_one_piece(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return contents(Store(tmp_path_factory.mktemp("one") / "store"))


@pytest.mark.usefixtures("tiny_limits")
def test_parts_batches_and_workers_do_not_change_a_byte(store: Store, in_one_piece: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert contents(store, pool.map) == in_one_piece


@pytest.mark.usefixtures("tiny_limits")
def test_a_component_is_never_torn_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    whole = batches.batches

    def watched(*given: Any) -> Iterator[Any]:
        for members in whole(*given):
            seen.append(sorted(set(members["node"].tolist())))
            yield members

    monkeypatch.setattr("tasks.dedup.stage.batches", watched)
    # Three families of four, each text sharing most of its shingles with its family and none with another.
    texts = [words(1000 * family, 1000 * family + 300 + n) for n in range(4) for family in range(3)]
    artifact = dedup(store, make_documents(texts), **SURE)
    assert seen == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert survivors(artifact) == texts[9:]


def test_a_band_that_unlike_pages_share_is_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages begin with the same menu: half of each text. None is dropped, and not all pairs are compared."""
    monkeypatch.setattr(clusters, "FULL_BUCKET", 4)
    monkeypatch.setattr(clusters, "MOST_CENTRES", 6)
    texts = [words(0, 40) + " " + words(1000 * n, 1000 * n + 40) for n in range(1, 21)]
    artifact = dedup(store, make_documents(texts), bands=4, rows=1)
    assert len(survivors(artifact)) == 20
    metrics = artifact.manifest.metrics
    assert 0 < metrics["cut_buckets"] <= 4
    # Up to six a bucket, and each node is in at most four of them.
    assert 15 < metrics["candidate_pairs"] == len(read_rows(artifact, "pairs")) < 20 * 19 / 2
    assert dedup(store, make_documents(texts), bands=4, rows=1, memory=65).ref == artifact.ref  # outside the recipe


def test_a_crawled_copy_of_a_curated_document_is_removed(store: Store) -> None:
    """As GPT-3 took the curated sets' pages out of Common Crawl (Brown et al. 2020, appendix A)."""
    page = words(0, 200)
    crawl = make_documents([page + " share this page", words(500, 700)], "crawl", prefix="a")
    curated = make_documents([page, words(900, 1100)], "webtext", prefix="b")
    artifact = dedup(store, pa.concat_tables([crawl, curated]), prefer=["webtext"], **SURE)
    assert [(row["source"], row["text"]) for row in read_rows(artifact)] == [
        ("crawl", words(500, 700)), ("webtext", page), ("webtext", words(900, 1100)),
    ]  # fmt: skip
    (copy,) = [row for row in read_rows(artifact, "decisions") if not row["kept"]]
    assert (copy["doc_id"], copy["reason"]) == (crawl["doc_id"][0].as_py(), "near_duplicate")
    assert copy["detail"] == curated["doc_id"][0].as_py()
    assert artifact.manifest.metrics["sources"] == {
        "crawl": {"documents": 2, "dropped": 1}, "webtext": {"documents": 2, "dropped": 0},
    }  # fmt: skip


def test_a_source_that_loses_almost_all_is_an_alarm(store: Store) -> None:
    mirror = [words(50 * n, 50 * n + 40) for n in range(20)]
    table = pa.concat_tables(
        [make_documents(mirror, "wiki", prefix="a"), make_documents([*mirror, words(5000, 5100)], "mirror", prefix="b")]
    )
    found = r"the source 'mirror' would lose 20 of its 21 documents.*max_source_share = 0.9"
    with pytest.raises(RunError, match=found):
        dedup(store, table, prefer=["wiki"], max_source_documents=19)
    assert store.artifacts("dedup") == []
    artifact = dedup(store, table, prefer=["wiki"], max_source_documents=19, alarm="report")
    (said,) = artifact.manifest.metrics["alarms"]
    assert re.match(found, said)
    for lifted in ({"max_source_documents": 20}, {"max_source_documents": 0, "max_source_share": 0.96}):
        artifact = dedup(store, table, prefer=["wiki"], **lifted)
        assert (artifact.manifest.metrics["alarms"], artifact.manifest.counts.dropped) == ([], 20)


def test_both_alarms_are_told_at_once(store: Store) -> None:
    table = make_documents(["one and the same page"] * 30)
    with pytest.raises(RunError, match=r"lose 29 of 30.*max_cluster_share.*; the source 'crawl' would lose 29 of"):
        dedup(store, table, max_cluster_documents=10, max_source_documents=10)


def chain(store: Store) -> list[Artifact]:
    """Three crawls, each deduplicated against those before it."""
    made: list[Artifact] = []
    for number in range(3):
        own = [words(1000 * number + 100 * n, 1000 * number + 100 * n + 90) for n in range(10)]
        again = [words(1000 * number - 1000, 1000 * number - 910)] if number else []
        table = make_documents([*own, *again], prefix="abc"[number])
        made.append(dedup(store, table, {"against": list(made)} if made else None, **SURE))
    return made


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_chain_of_earlier_crawls(store: Store, order: tuple[int, ...]) -> None:
    made = chain(store)
    assert [artifact.manifest.counts.dropped for artifact in made] == [0, 1, 1]
    new = [words(100, 190), words(1200, 1291), words(2300, 2389), words(7000, 7100)]
    artifact = dedup(store, make_documents(new, prefix="d"), {"against": [made[n] for n in order]}, **SURE)
    assert artifact.manifest.metrics["earlier_documents"] == 30
    found = decisions(artifact)
    assert [found[key]["reason"] for key in "0123"] == ["exact_duplicate", "near_duplicate", "near_duplicate", None]
    for key, crawl, row in (("0", 0, 1), ("1", 1, 2), ("2", 2, 3)):
        doc_id, name = found[key]["detail"].split(" ")
        assert doc_id == read_rows(made[crawl])[row]["doc_id"]
        assert name == f"dedup@.{made[crawl].content}"
        assert store.resolve(name).ref == made[crawl].ref
    assert (found["1"]["score"], found["2"]["score"]) == (86 / 87, 85 / 86)


def test_of_two_earlier_copies_the_smaller_doc_id_is_named(store: Store) -> None:
    text = words(0, 100)
    one = dedup(store, make_documents([words(500, 600), text], prefix="b"), **SURE)
    other = dedup(store, make_documents([text], prefix="a"), **SURE)
    for against in ([one, other], [other, one]):
        for new in (text, text + " tail"):
            artifact = dedup(store, make_documents([new], prefix="d"), {"against": against}, **SURE)
            (row,) = read_rows(artifact, "decisions")
            assert row["detail"] == f"{'a' + '0' * 31} dedup@.{other.content}"


def test_takedown_reads_the_survivor_out_of_the_detail(store: Store) -> None:
    earlier = dedup(store, make_documents([words(0, 200)], prefix="a"), **SURE)
    later = dedup(store, make_documents([words(0, 199)], prefix="d"), {"against": earlier}, **SURE)
    found = takedown(store, ["example.org/a/0"], reason="asked", dry_run=True)
    (back,) = found["returning"]
    assert (back["doc_id"], back["survivor"], back["artifact"]) == ("d" + "0" * 31, "a" + "0" * 31, later.ref)


def test_without_an_index_nothing_can_be_compared_with_it(store: Store) -> None:
    bare = dedup(store, make_documents([words(0, 200)], prefix="a"), index=False)
    assert not [name for name in bare.manifest.files if name.startswith("index/")]
    with pytest.raises(UserError, match=r"dedup.index = false"):
        dedup(store, make_documents([words(0, 200)]), {"against": bare})


def test_the_index_holds_every_survivor(store: Store) -> None:
    texts = [*generated(4, 70), "!!!", *["第一章 " + "山水" * n for n in range(9, 12)]]
    artifact = dedup(store, make_documents(texts))
    rows, signed = read_rows(artifact), read_rows(artifact, "signatures")
    index = Index.open(artifact.local() / "index")
    assert [doc_id.decode() for doc_id in index.doc_ids] == [row["doc_id"] for row in rows]
    hashes = halves_hex(index.text_keys, index.text_lows).to_pylist()
    assert hashes == sorted(hashes)
    assert dict(zip(hashes, index.text_rows.tolist(), strict=True)) == {
        row["text_hash"]: place for place, row in enumerate(signed)
    }
    keys = band_keys(np.array([row["signature"] for row in signed], dtype=np.uint32), 14, 8)
    with_words = [place for place, row in enumerate(signed) if row["shingles"]]
    assert len(with_words) == len(rows) - 1
    for band in range(14):
        expected = sorted((int(keys[place, band]), place) for place in with_words)
        assert list(zip(index.band_keys[band].tolist(), index.band_rows[band].tolist(), strict=True)) == expected
        wanted = np.unique(keys[:, band])
        places, at = index.find_band(band, wanted, most=1)
        assert places.tolist() == [p for p, key in enumerate(wanted) if int(key) in {pair[0] for pair in expected}]
        assert (keys[at, band] == wanted[places]).all()
    some = np.array([0, 1, TEXTS_A_BLOCK - 1, TEXTS_A_BLOCK, len(rows) - 1])
    assert list(read_texts(index.folder, some)) == [rows[place]["text"] for place in some]


def test_an_index_of_nothing_is_found_empty(store: Store) -> None:
    empty = dedup(store, make_documents([]))
    artifact = dedup(store, make_documents([words(0, 50)]), {"against": empty})
    assert (artifact.manifest.counts.kept, artifact.manifest.metrics["earlier_documents"]) == (1, 0)


@given(st.lists(st.text(max_size=8), max_size=40), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_texts_come_back_however_they_were_portioned(tmp_path_factory: Any, texts: list[str], portion: int) -> None:
    texts = [text.encode("utf8", "replace").decode() for text in texts]
    folder = tmp_path_factory.mktemp("texts")
    np.save(folder / "doc_ids.npy", np.zeros(len(texts), dtype="S1"))
    with TextWriter(folder, len(texts)) as writer:
        for start in range(0, len(texts), portion):
            writer.append(pa.chunked_array([pa.array(texts[start : start + portion], pa.string())]))
    assert list(read_texts(folder, np.arange(len(texts)))) == texts
    assert list(read_texts(folder, np.arange(0, len(texts), 3))) == texts[::3]


@given(st.lists(st.none() | st.text("abcé中", max_size=6), max_size=20))
def test_strings_in_a_fixed_width_come_back(texts: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(texts[:3], pa.string()), pa.array(["x", *texts[3:]], pa.string()).slice(1)])
    assert strings(fixed_width(column, 18)).to_pylist() == [text or "" for text in texts]


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=10))
def test_hashes_in_halves_come_back(hashes: list[bytes]) -> None:
    digits = [value.hex() for value in hashes]
    key, low = hex_halves(np.array([digit.encode() for digit in digits], dtype="S32"))
    assert [(int(k) << 64) | int(n) for k, n in zip(key, low, strict=True)] == [int(digit, 16) for digit in digits]
    assert halves_hex(key, low).to_pylist() == digits


def test_long_and_odd_doc_ids(store: Store) -> None:
    """Curated texts may bring names of their own."""
    draw = random.Random(1)
    texts = [words(0, 100), words(0, 101), words(300, 400)]
    table = make_documents(texts)
    ids = ["ω" * 40, "short", "a/b#" + "".join(draw.choices("xyz", k=90))]
    artifact = dedup(store, table.set_column(0, "doc_id", pa.array(ids)), **SURE)
    assert [row["doc_id"] for row in read_rows(artifact)] == ids[1:]
    assert read_rows(artifact, "decisions")[0]["detail"] == "short"
