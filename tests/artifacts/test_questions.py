"""The audit questions against readers that take every row into Python, on tables full of odd cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.audit.pages import find_each, find_pages
from artifacts.audit.questions import trace
from artifacts.audit.reads import Read, times_read
from artifacts.audit.trace import _figures_by_file, _rows_read, _tokens_read
from artifacts.audit.verify import verify
from artifacts.errors import RunError
from artifacts.graph import StoreGraph
from artifacts.query import query
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS, SEQUENCES
from artifacts.urls import PLAIN, canonical_url
from benchmarks.million import build
from benchmarks.million.training import prompt_of
from tests.support import make_documents, put_table, read_rows

# --- URLs


@given(st.from_regex(PLAIN, fullmatch=True))
def test_what_the_pattern_takes_for_plain_is_in_normal_form(url: str) -> None:
    assert canonical_url(url) == url


SPELLINGS = [
    "http://example.org/a/page-1.html",
    "HTTP://EXAMPLE.org/a/page-1.html",
    "http://example.org:80/a/page-1.html#top",
    "http://example.org/a/./b/../page-1.html",
    "http://example.org/a/%70age-1.html",
    "http://example.org/a/pa\tge-1.html",
    " <http://example.org/a/page-1.html> ",
    "http://example.org./a/page-1.html",
    "http://user@example.org/a/page-1.html",
    "https://example.org/a/page-1.html",
    "http://example.org/a/page-1.html?",
    "http://example.org/A/page-1.html",
    "http://example.org:8080/a/page-1.html",
    "http://example.org:08080/a/page-1.html",
    "http://example.org/?q=%e4%bd%a0",
    "http://example.org/?q=你",
    "http://example.org",
    "http://example.org/",
    "http://bücher.example/",
    "http://xn--bcher-kva.example/",
    "file:book.txt#7",
    "file:book.txt#70",
    "http://[::1]/a",
    "http://[broken/a",
    "dns:example.org",
]


@pytest.fixture(scope="module")
def spelt(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("spelt"))
    table = make_documents(SPELLINGS)
    put_table(store, DOCUMENTS, table.set_column(1, "url", pa.array(SPELLINGS)))
    return store


def test_every_spelling_finds_all_that_are_the_same_page(spelt: Store) -> None:
    whole = StoreGraph(spelt)
    expected: dict[str, set[str]] = {}
    for target in SPELLINGS:
        # A row must hold the target's host as given or in ASCII: one in other letters is not found by its ASCII form.
        same = {url for url in SPELLINGS if canonical_url(url) == canonical_url(target)}
        named = {url for url in SPELLINGS if url == target.strip()}
        expected[target] = same if "://" in target and "[broken" not in target else named
    expected["http://xn--bcher-kva.example/"] = {"http://xn--bcher-kva.example/"}
    found = {target: {page.url or "" for page in pages} for target, pages in find_each(whole, SPELLINGS).items()}
    assert found == expected
    assert {target: {page.url or "" for page in find_pages(whole, target)} for target in SPELLINGS} == expected
    assert len(expected[SPELLINGS[0]]) == 8


# --- steps and rows

ROWS, DOCS = 11, 5


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, list[list[tuple[str, int]]]]:
    """Documents, a table of sequences, and the (doc_id, length) of each of its rows: two of one document, and none."""
    store = Store(tmp_path_factory.mktemp("packed"))
    documents = make_documents(map(str, range(DOCS)))
    files = pa.array([f"file-{number % 2}" for number in range(DOCS)])
    documents = documents.set_column(documents.schema.get_field_index("warc_file"), "warc_file", files)
    ids = [*documents["doc_id"].to_pylist(), "f" * 32]
    lengths = [[(ids[(row * 3 + n) % 6], 1 + (row + n) % 4) for n in range(row % 4)] for row in range(ROWS)]
    lengths[3].append(lengths[3][0])
    rows: list[dict[str, Any]] = []
    for spans in lengths:
        entries = [{"doc_id": d, "start": n, "length": size, "offset": 0} for n, (d, size) in enumerate(spans)]
        rows.append({"tokens": [1, 2], "spans": entries, "source": "crawl", "epoch": 0})
    table = pa.Table.from_pylist(rows, schema=SEQUENCES.schema)
    return put_table(store, DOCUMENTS, documents), put_table(store, SEQUENCES, table, stage="mix"), lengths


@settings(max_examples=40, deadline=None)
@given(
    plans=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=3
    )
)
def test_tokens_by_file_are_those_of_reading_row_by_row(
    packed: tuple[Artifact, Artifact, list[list[tuple[str, int]]]], plans: list[tuple[int, int, int, int]]
) -> None:
    documents, mix, lengths = packed
    reads = [Read(mix, offset, ROWS, first, per_step, steps, ROWS + offset) for first, per_step, steps, offset in plans]
    often: list[Counter[int]] = []
    for read in reads:
        places = [
            (read.first_row + step * read.rows_per_step + n) % read.rows - read.offset
            for step in range(read.steps)
            for n in range(read.rows_per_step)
        ]
        often.append(Counter(place for place in places if place >= 0))
    tokens: Counter[str] = Counter()
    for row, times in sum(often, Counter[int]()).items():
        for doc_id, length in lengths[row]:
            tokens[doc_id] += times * length
    file_of = {row["doc_id"]: row["warc_file"] for row in read_rows(documents)}
    expected: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for doc_id in tokens.keys() & file_of.keys():
        count, amount = expected[file_of[doc_id], "crawl"]
        expected[file_of[doc_id], "crawl"] = (count + 1, amount + tokens[doc_id])
    times = times_read(reads)
    assert _figures_by_file(documents, {mix: times}) == expected
    assert _rows_read(mix, times) == len(sum(often, Counter[int]()))
    for read, counts in zip(reads, often, strict=True):
        assert _tokens_read(read) == sum(n * size for row, n in counts.items() for _, size in lengths[row])


# --- prompts, records and models, on the benchmarks' store in small


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Artifact]]:
    folder = tmp_path_factory.mktemp("million")
    return Store(folder), build(folder, 4_000)


def _models(found: dict[str, Any]) -> list[tuple[str, int | None, int | None]]:
    return [(row["stage"], row["first_step"], row["last_step"]) for row in found["models"]]


def test_the_generated_store_adds_up(million: tuple[Store, dict[str, Artifact]]) -> None:
    report = verify(million[0])
    assert report.ok and report.checked == 16


def test_a_prompt_leads_to_the_iterations_that_asked_it(million: tuple[Store, dict[str, Artifact]]) -> None:
    store, made = million
    prompt = read_rows(made["ppo"], "rollouts")[0]["prompt_id"]
    steps = {stage: [] for stage in ("ppo", "ppo_without_ptx")}
    for stage, found in steps.items():
        found += [row["step"] for row in read_rows(made[stage], "rollouts") if row["prompt_id"] == prompt]
    assert sorted(_models(trace(store, prompt))) == sorted(
        [("sft", None, None), ("reward", None, None)]
        + [(stage, min(found), max(found)) for stage, found in steps.items()]
    )


def test_a_ranking_leads_to_the_reward_model_and_what_learnt_from_it(
    million: tuple[Store, dict[str, Artifact]],
) -> None:
    store, made = million
    decisions = read_rows(made["label"], "decisions")
    for number, kept in ((4, True), (99, False)):
        row = decisions[number]
        place = f"preferences.jsonl:{number + 1}"
        assert row["kept"] is kept and row["detail"].startswith(place)
        found = trace(store, place)
        assert found == trace(store, row["doc_id"]) == trace(store, row["doc_id"].upper())
        assert found["documents"] == [
            {
                "doc_id": row["doc_id"],
                "url": None,
                "artifact": made["label"].ref,
                **{name: row[name] for name in ("kept", "reason", "score", "threshold", "detail")},
            }
        ]
        below = [("reward", None, None), ("ppo", None, None), ("ppo_without_ptx", None, None)]
        assert _models(found) == (below if kept else [])
        assert [source["name"] for source in found["sources"]] == ["preferences.jsonl"]
    assert trace(store, "preferences.jsonl:1")["documents"][0]["doc_id"] == decisions[0]["doc_id"]  # not line 10 or 11
    assert trace(store, "preferences.jsonl:100000") == {"documents": [], "sequences": 0, "models": [], "sources": []}


def test_a_dropped_demonstration_is_told_and_taught_nobody(million: tuple[Store, dict[str, Artifact]]) -> None:
    store = million[0]
    found = trace(store, "answers-a.jsonl:18")
    assert found["documents"][0]["doc_id"] == prompt_of(17)
    assert (found["documents"][0]["reason"], found["models"]) == ("duplicate", [])
    assert found["documents"] == trace(store, prompt_of(17))["documents"]


def test_a_model_is_traced_up_to_files_of_conversations_and_rankings(
    million: tuple[Store, dict[str, Artifact]],
) -> None:
    store, made = million
    found = {source["name"]: source for source in trace(store, made["ppo"].ref)["sources"]}
    decisions = read_rows(made["demonstrations"], "decisions")
    for name in ("answers-a.jsonl", "answers-b.jsonl"):
        kept = [row["doc_id"] for row in decisions if row["kept"] and row["detail"].startswith(f"{name}:")]
        assert (found[name]["conversations"], found[name]["prompts"]) == (len(kept), len(set(kept)))
    rankings = [row for row in read_rows(made["label"]) if row["source"] == "preferences"]
    assert found["preferences.jsonl"]["rankings"] == len(rankings) == 159
    assert found["preferences.jsonl"]["prompts"] == len({row["prompt_id"] for row in rankings}) == 80
    assert "rankings" not in found["crawl-00.warc.gz"]


def test_the_tokens_of_a_model_are_those_of_its_rows(million: tuple[Store, dict[str, Artifact]]) -> None:
    store, made = million
    reads = made["pretrain"].manifest.metrics["reads"][0]
    found = trace(store, made["pretrain"].ref)
    assert found["models"][0]["tokens"] == reads["rows_per_step"] * reads["steps"] * 512
    # Every token of this table is of a page, and every page of a file.
    assert sum(source["tokens"] or 0 for source in found["sources"]) == found["models"][0]["tokens"]
    assert found["sequences"] == min(reads["rows"], reads["rows_per_step"] * reads["steps"])


def test_damage_to_a_table_names_the_artifact(tmp_path: Path) -> None:
    artifact = put_table(Store(tmp_path), DOCUMENTS, make_documents(["a"]))
    artifact.files("data")[0].write_bytes(b"PAR1")
    with pytest.raises(
        RunError, match=rf"{artifact.ref}: its table data cannot be read \(.*too small.*\); see `crawl2chat verify`"
    ):
        query(artifact, "data", "select 1 from t")
    assert query(artifact, "decisions", "select 1 from t") == []
