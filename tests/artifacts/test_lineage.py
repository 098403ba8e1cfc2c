"""why and trace against a pipeline in miniature whose figures can be worked out by hand (see chain.py)."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.audit.reads import Read, times_read
from artifacts.errors import RunError, UserError
from artifacts.lineage import graph, mermaid, trace, why
from artifacts.store import Artifact, Store
from tests.artifacts.chain import FILLER, IDS, PAGES, SHA, build


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One chain for the questions that only read it."""
    store = Store(tmp_path_factory.mktemp("built"))
    build(store)
    return store


def fate(store: Store, target: str) -> list[tuple[str, bool, str | None]]:
    documents = why(store, target)["documents"]
    assert len(documents) == 1
    return [(step["stage"], step["kept"], step["reason"]) for step in documents[0]["fate"]]


KEPT = [(stage, True, None) for stage in ("ingest", "dedup", "quality", "tokenize", "mix")]


def test_why_tells_every_pages_fate_to_its_end(store: Store) -> None:
    made = build(store)
    assert fate(store, PAGES[0]) == [("ingest", False, "lang")]
    for number in (1, 3, 4):
        assert fate(store, PAGES[number]) == fate(store, IDS[number]) == KEPT
    assert fate(store, PAGES[2]) == [*KEPT[:2], ("quality", False, "quality")]
    assert fate(store, PAGES[5]) == [*KEPT[:1], ("dedup", False, "near_duplicate")]
    assert fate(store, "e" * 32) == [("ingest", False, "truncated_record")]
    assert why(store, PAGES[5]) == {
        "documents": [
            {
                "doc_id": IDS[5],
                "url": PAGES[5],
                "fate": [
                    {
                        "stage": "ingest",
                        "artifact": made["ingest"].ref,
                        "kept": True,
                        "reason": None,
                        "score": None,
                        "threshold": None,
                        "detail": None,
                    },
                    {
                        "stage": "dedup",
                        "artifact": made["dedup"].ref,
                        "kept": False,
                        "reason": "near_duplicate",
                        "score": 0.93,
                        "threshold": None,
                        "detail": IDS[1],
                    },
                ],
            }
        ]
    }


@pytest.mark.parametrize(
    "spelling",
    [
        "http://example.org/d/3#part",
        "HTTP://Example.ORG:80/d/3",
        "http://example.org/x/../d/%33",
        " http://example.org/d/3 ",
        "example.org/d/3",
        IDS[3].upper(),
    ],
)
def test_a_page_is_found_in_any_spelling(built: Store, spelling: str) -> None:
    assert fate(built, spelling) == KEPT


@pytest.mark.parametrize(
    "target",
    ["http://example.org/d/", "http://example.org/", "http://example.org/d/33", "", "d", IDS[3][:-1], "nothing", "'--"],
)
def test_what_matches_no_page_gives_an_empty_list(built: Store, target: str) -> None:
    assert why(built, target) == {"documents": []}
    assert trace(built, target) == {"documents": [], "sequences": 0, "models": [], "sources": []}


def test_why_follows_the_last_run_and_never_mixes_two(store: Store) -> None:
    first = build(store)
    second = build(store, labels={"quality": "strict"})
    assert second["dedup"] == first["dedup"] and second["mix"] != first["mix"]
    assert fate(store, PAGES[4]) == [*KEPT[:2], ("quality", False, "strict")]

    def artifacts() -> list[str]:
        return [step["artifact"] for step in why(store, PAGES[3])["documents"][0]["fate"]]

    stages = ("ingest", "dedup", "quality", "tokenize", "mix")
    assert artifacts() == [second[stage].ref for stage in stages]
    rows = [{"stage": stage, "artifact": artifact.ref, "path": artifact.path} for stage, artifact in first.items()]
    store.write_text("runs/r.json", json.dumps({"run": "r", "started": "2999-01-01T00:00:00Z", "stages": rows}))
    store.write_text("runs/broken.json", "{")
    assert artifacts() == [first[stage].ref for stage in stages]
    assert fate(store, PAGES[4]) == KEPT


def test_a_rerun_that_gave_the_same_content_has_the_same_way_on(store: Store) -> None:
    first = build(store)
    second = build(store, labels={"quality": "another recipe, equal rows", "tokenize": "x"})
    assert second["quality"] != first["quality"] and second["mix"] == first["mix"]
    told = why(store, PAGES[3])["documents"][0]["fate"]
    assert [step["stage"] for step in told] == [stage for stage, _, _ in KEPT]
    assert told[2]["artifact"] == second["quality"].ref and told[4]["artifact"] == first["mix"].ref
    found = trace(store, PAGES[3])
    assert found["sequences"] == 3 and len(found["models"]) == 3
    assert [m["stage"] for m in trace(store, second["quality"].ref)["models"]] == ["pretrain", "sft", "ppo"]


def test_trace_names_rows_steps_and_models(store: Store) -> None:
    made = build(store, first_row=6, steps=2, rows_per_step=2)
    found = trace(store, PAGES[3])
    # Page 3's ten tokens lie in rows 2 (from its 3rd place on), 3 and 4 of 8. pretrain: 3 steps of 2 rows from row 0.
    # ppo: 2 steps of 2 rows from row 6, so rows 6, 7, 0, 1.
    assert found["sequences"] == 3
    document = found["documents"][0]
    assert [row["row"] for row in document["sequences"]] == [2, 3, 4]
    assert [row["spans"] for row in document["sequences"]] == [
        [{"start": 2, "length": 2, "offset": 0}],
        [{"start": 0, "length": 4, "offset": 2}],
        [{"start": 0, "length": 4, "offset": 6}],
    ]
    pretrain = made["pretrain"].ref
    assert [row["steps"] for row in document["sequences"]] == [
        [{"artifact": pretrain, "steps": [1]}],
        [{"artifact": pretrain, "steps": [1]}],
        [{"artifact": pretrain, "steps": [2]}],
    ]
    assert found["models"] == [
        {"artifact": pretrain, "stage": "pretrain", "first_step": 1, "last_step": 2, "tokens": 10},
        {"artifact": made["sft"].ref, "stage": "sft", "first_step": None, "last_step": None, "tokens": 0},
        {"artifact": made["ppo"].ref, "stage": "ppo", "first_step": None, "last_step": None, "tokens": 0},
    ]
    assert [(s["name"], s["documents"], s["tokens"]) for s in found["sources"]] == [("made.warc.gz", 1, 10)]
    # Page 1's ten tokens: rows 0, 1 and half of 2. pretrain reads them in steps 0 and 1, ppo rows 0 and 1 in step 1.
    assert [(m["stage"], m["first_step"], m["last_step"], m["tokens"]) for m in trace(store, IDS[1])["models"]] == [
        ("pretrain", 0, 1, 10),
        ("sft", None, None, 0),
        ("ppo", 1, 1, 8),
    ]


def test_several_epochs_count_every_reading(store: Store) -> None:
    made = build(store, steps=9, rows_per_step=2, first_row=0)  # 18 of 8 rows: rows 0 and 1 three times
    models = {row["artifact"]: row for row in trace(store, IDS[1])["models"]}
    assert models[made["ppo"].ref] | {"artifact": ""} == {
        "artifact": "",
        "stage": "ppo",
        "first_step": 0,
        "last_step": 8,
        "tokens": 3 * 8 + 2 * 2,
    }


def test_trace_of_a_dropped_page_reaches_no_model(built: Store) -> None:
    store = built
    for number in (0, 2, 5):
        found = trace(store, PAGES[number])
        assert [d["doc_id"] for d in found["documents"]] == [IDS[number]]
        assert found["sequences"] == 0 and found["models"] == []


def test_trace_lists_the_models_of_every_rerun(store: Store) -> None:
    first = build(store)
    second = build(store, labels={"mix": "again"})
    found = trace(store, IDS[4])
    assert found["sequences"] == 2 * 3
    expected = {chain[stage].ref for chain in (first, second) for stage in ("pretrain", "sft", "ppo")}
    assert {row["artifact"] for row in found["models"]} == expected and len(expected) == 6


def test_trace_of_a_model_gives_its_sources_with_counts(store: Store) -> None:
    made = build(store, first_row=6, steps=2, rows_per_step=2)
    found = trace(store, made["pretrain"].ref)
    # 6 of 8 rows read: page 1 and page 3 whole, 4 of page 4's 10 tokens (row 5 holds its first 4).
    assert found["documents"] == [] and found["sequences"] == 6
    assert found["models"][0] == {
        "artifact": made["pretrain"].ref,
        "stage": "pretrain",
        "first_step": 0,
        "last_step": 2,
        "tokens": 24,
    }
    assert [(m["stage"], m["first_step"]) for m in found["models"]] == [("pretrain", 0), ("sft", None), ("ppo", None)]
    assert found["sources"] == [
        {
            "artifact": made["ingest"].ref,
            "name": "made.warc.gz",
            "manifest": "made",
            "role": "crawl",
            "source": "crawl",
            "licence": "CC0-1.0",
            "url": "https://example.org/made.warc.gz",
            "sha256": SHA,
            "bytes": 12,
            "documents": 3,
            "tokens": 24,
        }
    ]
    # ppo has read what pretrain read, and rows 6, 7, 0, 1 besides (2 of row 7's tokens are filler, of no document).
    assert trace(store, "ppo@latest")["sources"][0]["tokens"] == 24 + 14
    assert trace(store, "ppo@latest")["sequences"] == 8
    with pytest.raises(UserError, match="no such artifact"):
        trace(store, "ppo@ffff")


def test_trace_of_a_data_artifact_counts_documents(store: Store) -> None:
    made = build(store)
    assert trace(store, made["dedup"].ref)["sources"][0]["documents"] == 5  # what ingest took from the file
    below = trace(store, made["dedup"].ref)["models"]
    assert [(m["stage"], m["first_step"], m["tokens"]) for m in below] == [
        ("pretrain", None, 0),
        ("sft", None, 0),
        ("ppo", None, 0),
    ]


def test_trace_of_a_prompt(store: Store) -> None:
    made = build(store)
    found = trace(store, f"{1:032x}")
    assert found["documents"][0]["prompt_id"] == f"{1:032x}"
    assert found["documents"][0]["tables"] == [{"artifact": made["demonstrations"].ref, "tables": ["data"]}]
    assert [m["stage"] for m in found["models"]] == ["sft", "ppo"]


def test_the_filler_is_no_page(built: Store) -> None:
    store = built
    assert trace(store, FILLER)["documents"] == []


@given(
    rows=st.integers(1, 30),
    first_row=st.integers(0, 60),
    rows_per_step=st.integers(1, 7),
    steps=st.integers(0, 20),
)
def test_steps_and_counts_are_those_of_the_reading_order(
    rows: int, first_row: int, rows_per_step: int, steps: int
) -> None:
    expected: dict[int, list[int]] = {row: [] for row in range(rows)}
    for step in range(steps):
        for place in range(rows_per_step):
            expected[(first_row + step * rows_per_step + place) % rows].append(step)
    # Two artifacts may follow one another in one input: the second one's rows are counted from its own first.
    cut = rows // 2
    for offset, size in ((0, cut), (cut, rows - cut)):
        read = Read(Artifact(Store("/"), "mix", "", ""), offset, size, first_row, rows_per_step, steps, rows)
        assert [read.steps_of(row) for row in range(size)] == [expected[offset + row] for row in range(size)]
        sql = f"select ({times_read([read])})::int from range({size}) as numbers (row) order by row"
        assert [row[0] for row in duckdb.execute(sql).fetchall()] == [
            len(expected[offset + row]) for row in range(size)
        ]


def test_a_reading_order_that_is_none_is_told(store: Store) -> None:
    artifact = build(store)["pretrain"]
    manifest = artifact.manifest.model_copy(update={"metrics": {"reads": [{"input": "sequences"}]}}).sealed()
    (Path(artifact.path) / "manifest.json").write_text(manifest.dumps())
    with pytest.raises(RunError, match=r"pretrain@.*metrics\.reads"):
        trace(store, PAGES[1])


def test_damage_is_an_error_with_advice_and_no_crash(store: Store) -> None:
    artifact = build(store)["dedup"]
    path = Path(artifact.path) / "decisions/part-00000.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match="crawl2chat verify"):
        why(store, PAGES[1])
    (Path(artifact.path) / "manifest.json").write_text("{")
    assert fate(store, PAGES[1]) == KEPT[:1]


def test_graph_and_mermaid(store: Store) -> None:
    made = build(store)
    found = graph(store, made["mix"].ref)
    names = [node.label.split("\n")[0] for node in found.nodes]
    assert names == ["made", "ingest", "dedup", "quality", "tokenize", "mix", "pretrain", "sft", "ppo"]
    assert [node.stage for node in found.nodes if node.focus] == ["mix"]
    edges = {(edge.start.split("/")[0], edge.end.split("/")[0], edge.label) for edge in found.edges}
    assert ("quality", "tokenize", "documents") in edges and ("tokenize", "mix", "tokenizer") in edges
    assert ("source:made", "ingest", "crawl") in edges and ("mix", "ppo", "sequences") in edges
    assert len(edges) == 10
    text = mermaid(found)
    assert text.startswith("flowchart TD\n") and 'n0[("made")]' in text and 'n0 -->|"crawl"| n1' in text
    assert f'n5["mix<br/>{made["mix"].recipe[:8]}"]' in text


def test_mermaid_labels_are_quoted() -> None:
    from artifacts.graph import Graph, Node

    text = mermaid(Graph([Node("a", 'end ["x"] <script>', "source")], []))
    assert text.splitlines()[1] == '    n0[("end [#quot;x#quot;] #lt;script#gt;")]'
