"""diff: every figure against what was put in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from artifacts.audit.diff import diff
from artifacts.errors import UserError
from artifacts.lineage import diff as from_python
from artifacts.sources import Source
from artifacts.store import Artifact, Store
from artifacts.tables import DECISIONS, DOCUMENTS, METRICS, PAIRS, TableKind
from tasks.stage import Stage, StageConfig, StageContext, Summary, outside_recipe
from tests.support import make_documents, put_table, run_stage

GIVEN: dict[str, dict[str, pa.Table]] = {}


class Config(StageConfig):
    label: str
    weights: dict[str, float] = Field(default_factory=dict)
    workers: int = outside_recipe(1)


def write(context: StageContext) -> Summary:
    for name, table in GIVEN[context.config.label].items():
        context.writer(name).write(table)
    return Summary(metrics={"size": len(context.config.label), "by": {context.config.label: 1.5}, "scheme": "x"})


def sources(config: Config) -> list[Source]:
    sha = {"a": "aa", "b": "bb"}[config.label] * 32
    shared = Source("shared.gz", Path("/nowhere"), "cc" * 32, 3, "crawl")
    return [
        shared,
        Source("file.gz", Path("/nowhere"), sha, 10, "crawl"),
        Source(f"{config.label}.gz", Path("/x"), sha, 10, ""),
    ]


def make(store: Store, writes: dict[str, TableKind], a: dict[str, pa.Table], b: dict[str, pa.Table]) -> list[Artifact]:
    GIVEN.update(a=a, b=b)
    above = [put_table(store, DOCUMENTS, make_documents([label])) for label in "ab"]
    stage = Stage("made", 1, Config, {"documents": DOCUMENTS}, writes, write, sources=sources)
    configs = [
        Config(label="a", weights={"x": 1.0}, workers=1),
        Config(label="b", weights={"x": 1.0, "y": 2.0}, workers=4),
    ]
    return [
        run_stage(stage, config, store, {"documents": artifact}).artifact
        for config, artifact in zip(configs, above, strict=True)
    ]


def decisions(*rows: tuple[str, bool, str | None, float | None]) -> pa.Table:
    defaults = dict.fromkeys(DECISIONS.schema.names) | {"failed": False}
    values = [
        defaults | {"doc_id": doc_id, "kept": kept, "reason": reason, "score": score}
        for doc_id, kept, reason, score in rows
    ]
    return pa.Table.from_pylist(values, schema=DECISIONS.schema)


BEFORE = decisions(
    ("1", True, None, 0.5), ("2", True, None, 0.5), ("3", False, "quality", 0.1), ("4", True, None, None)
)
AFTER = decisions(
    ("5", True, None, 0.5), ("2", False, "quality", 0.5), ("3", False, "quality", 0.2), ("4", True, None, None)
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = Store(tmp_path_factory.mktemp("store"))
    documents = make_documents(["one", "two", "three"])
    changed = documents.set_column(6, "text", pa.array(["one", "2", "three"])).slice(1)
    one, other = make(
        store,
        {"data": DOCUMENTS, "decisions": DECISIONS},
        {"data": documents, "decisions": BEFORE},
        {"data": changed, "decisions": AFTER},
    )
    result = diff(store, one.ref, other.ref)
    assert result == from_python(store, one.ref, other.ref)
    assert (result["a"]["artifact"], result["b"]["artifact"], result["same"]) == (one.ref, other.ref, False)
    return result


def table(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in found["tables"] if entry["table"] == name)


def test_config_inside_and_outside_the_recipe(found: dict[str, Any]) -> None:
    assert found["config"] == [
        {"field": "label", "a": "a", "b": "b"},
        {"field": "weights.y", "a": None, "b": 2.0},
    ]
    assert found["outside_recipe"] == [{"field": "workers", "a": 1, "b": 4}]


def test_inputs_and_sources(found: dict[str, Any]) -> None:
    (given,) = found["inputs"]
    assert given["name"] == "documents" and given["a"] != given["b"]
    assert {kind: [row["name"] for row in rows] for kind, rows in found["sources"].items()} == {
        "added": ["b.gz"],
        "removed": ["a.gz"],
        "changed": ["file.gz"],
    }
    (changed,) = found["sources"]["changed"]
    assert (changed["a"]["sha256"], changed["b"]["sha256"]) == ("aa" * 32, "bb" * 32)


def test_counts_reasons_and_metrics(found: dict[str, Any]) -> None:
    assert found["counts"] == [
        {"name": "dropped", "a": 1, "b": 2, "delta": 1},
        {"name": "kept", "a": 3, "b": 2, "delta": -1},
    ]
    assert found["reasons"] == [{"name": "quality", "a": 1, "b": 2, "delta": 1}]
    assert found["metrics"] == [
        {"name": "by.a", "a": 1.5, "b": None, "delta": None},
        {"name": "by.b", "a": None, "b": 1.5, "delta": None},
    ]
    assert (found["code"], found["environment"]) == ([], [])
    assert [row["file"] for row in found["files"]] == ["data/part-00000.parquet", "decisions/part-00000.parquet"]


def test_rows_of_documents(found: dict[str, Any]) -> None:
    rows = table(found, "data")
    assert (rows["key"], rows["rows"], rows["same"]) == (["doc_id"], {"a": 3, "b": 2}, False)
    assert (rows["only_a"], rows["only_b"], rows["changed"], rows["columns"]) == (1, 0, 1, {"text": 1})
    (gone,), (changed,) = rows["examples"]["only_a"], rows["examples"]["changed"]
    assert gone["row"]["text"] == "one" and gone["key"] == {"doc_id": f"d{0:031d}"}
    assert changed == {"key": {"doc_id": f"d{1:031d}"}, "columns": {"text": {"a": "two", "b": "2"}}}


def test_fates_of_decisions(found: dict[str, Any]) -> None:
    rows = table(found, "decisions")
    assert (rows["only_a"], rows["only_b"], rows["changed"]) == (1, 1, 2)
    assert rows["columns"] == {"kept": 1, "reason": 1, "score": 1}
    assert rows["fates"] == [{"a": "kept", "b": "dropped: quality", "rows": 1}]
    assert [row["key"]["doc_id"] for row in rows["examples"]["only_b"]] == ["5"]


def test_equal_tables_are_not_read_and_stages_not_mixed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = make(store, {"data": DOCUMENTS}, {"data": make_documents(["x"])}, {"data": make_documents(["x"])})
    for path in one.files("data"):
        path.write_bytes(b"not Parquet")
    result = diff(store, one.ref, other.ref)
    assert result["same"] and result["tables"][0]["same"] and result["tables"][0]["changed"] == 0
    with pytest.raises(UserError, match="different stages"):
        diff(store, one.ref, "given@latest")


def test_keys_that_are_not_unique_and_tables_without_one(tmp_path: Path) -> None:
    twice = decisions(("1", True, None, None), ("1", False, "duplicate_record", None), ("2", True, None, None))
    thrice = decisions(("1", True, None, None), ("1", False, "other", None), ("1", False, "other", None))
    curve = [{"step": step, "name": "loss", "value": float(step)} for step in range(4)]
    other = [row | {"value": 9.0} if row["step"] == 2 else row for row in curve]
    one, second = make(
        Store(tmp_path),
        {"data": METRICS, "decisions": DECISIONS},
        {"data": pa.Table.from_pylist(curve, schema=METRICS.schema), "decisions": twice},
        {"data": pa.Table.from_pylist(other, schema=METRICS.schema), "decisions": thrice},
    )
    result = diff(Store(tmp_path), one.ref, second.ref, limit=0)
    rows = table(result, "decisions")
    assert (rows["only_a"], rows["only_b"], rows["changed"], rows["columns"]) == (1, 1, 1, {"reason": 1})
    assert rows["fates"] == [{"a": "dropped: duplicate_record", "b": "dropped: other", "rows": 1}]
    rows = table(result, "data")
    assert (rows["key"], rows["changed"], rows["columns"], rows["examples"]["changed"]) == (
        ["step", "name"],
        1,
        {"value": 1},
        [],
    )


PAIR_ROWS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")),
    st.tuples(st.sampled_from([0.5, 0.9]), st.booleans()),
    max_size=9,
)


@settings(max_examples=20, deadline=None)
@given(PAIR_ROWS, PAIR_ROWS)
def test_random_tables_against_dictionaries(a: dict[Any, Any], b: dict[Any, Any]) -> None:
    def rows(given: dict[Any, Any]) -> pa.Table:
        values = [{"doc_a": k[0], "doc_b": k[1], "jaccard": v[0], "accepted": v[1]} for k, v in given.items()]
        return pa.Table.from_pylist(values, schema=PAIRS.schema)

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        one, other = make(store, {"data": PAIRS}, {"data": rows(a)}, {"data": rows(b)})
        found = table(diff(store, one.ref, other.ref), "data")
    both = a.keys() & b.keys()
    assert (found["only_a"], found["only_b"]) == (len(a.keys() - b.keys()), len(b.keys() - a.keys()))
    assert found["changed"] == sum(a[key] != b[key] for key in both)
    columns = {name: sum(a[key][at] != b[key][at] for key in both) for at, name in enumerate(("jaccard", "accepted"))}
    assert found["columns"] == {name: count for name, count in columns.items() if count}


FEW_ROWS = 4  # a row group
ROW = st.tuples(
    st.sampled_from("abcdefgh"), st.booleans(), st.sampled_from([None, "x", "y"]), st.sampled_from([0.5, 1])
)


@st.composite
def two_tables(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Decisions of some row groups, and the same with rows changed, removed and added at any place, or others."""
    old = draw(st.lists(ROW, max_size=14))
    new = list(old)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(new)))
        new[place : place + draw(st.integers(0, 1))] = draw(st.lists(ROW, max_size=1))
    if draw(st.booleans()):  # another verdict on the same documents in the same order
        new = [(row[0], *draw(ROW)[1:]) for row in old]
    return old, new


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(two_tables())
def test_tables_of_several_row_groups_against_a_loop(monkeypatch: pytest.MonkeyPatch, tables: Any) -> None:
    monkeypatch.setattr("artifacts.writer.ROWS_A_GROUP", FEW_ROWS)
    monkeypatch.setattr("artifacts.audit.diff_rows.GROUP", FEW_ROWS + 1)  # blocks of rows that cut row groups
    monkeypatch.setattr("artifacts.audit.diff_rows.BLOCK", 1)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        one, other = make(store, {"data": DECISIONS}, *({"data": decisions(*rows)} for rows in tables))
        assert len(tables[0]) <= FEW_ROWS or pq.read_metadata(one.files("data")[0]).num_row_groups > 1
        found = table(diff(store, one.ref, other.ref, limit=99), "data")
    # A key that comes again is told apart by how often it came before.
    a, b = ({(row[0], [r[0] for r in rows[:n]].count(row[0])): row for n, row in enumerate(rows)} for rows in tables)
    both = [key for key in a if key in b]
    assert (found["only_a"], found["only_b"]) == (len(a) - len(both), len(b) - len(both))
    columns = {name: sum(a[k][at] != b[k][at] for k in both) for at, name in enumerate(("kept", "reason", "score"), 1)}
    assert found["columns"] == {name: count for name, count in columns.items() if count}
    changed = [key for key in both if a[key] != b[key]]
    assert [row["key"]["doc_id"] for row in found["examples"]["changed"]] == [key[0] for key in changed]
    assert found["changed"] == len(changed)
    assert [row["row"]["doc_id"] for row in found["examples"]["only_a"]] == [key[0] for key in a if key not in b]
    fates = sum(a[key][1:3] != b[key][1:3] for key in both)
    assert sum(fate["rows"] for fate in found["fates"]) == fates


# Values that a hash may take for one another, and the types that hold them.
LISTS = st.sampled_from([None, [], [0], [0, 0], [None], [0, 5], [5, 0], [5]])
NESTED: st.SearchStrategy[Any] = st.sampled_from([None, [], [[]], [[0]], [[0], [0]], [[0, 0]], [[], [0]], [None]])
TALK = st.sampled_from([None, [], [None], [{"role": None, "content": None}], [{"role": "a", "content": ""}]])
WORD = st.sampled_from([None, "", "1", "a"])
TYPES = [
    ("ranks", pa.list_(pa.int32())),
    ("nested", pa.list_(pa.list_(pa.int32()))),
    ("talk", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ("word", pa.string()),
    ("number", pa.int32()),
]
ODD_ROW = st.tuples(st.sampled_from("abcd"), LISTS, NESTED, TALK, WORD, st.sampled_from([None, 0, 1]))
ODD_ROWS = st.lists(ODD_ROW, max_size=6, unique_by=lambda row: row[0])


@settings(max_examples=25, deadline=None)
@given(ODD_ROWS, ODD_ROWS, st.booleans(), st.sampled_from([pa.int32(), pa.int64(), pa.string()]))
def test_values_that_hash_alike_and_columns_of_another_type(
    old: Any, new: Any, facing: bool, kind: pa.DataType
) -> None:
    """`facing`: the same keys in the same order, so that rows are compared by number; `kind`: of `number` in b."""
    if facing:
        new = [(row[0], *other[1:]) for row, other in zip(old, [*new, *old], strict=False)]

    def rows(given: list[Any], number: pa.DataType) -> pa.Table:
        made = decisions(*((row[0], True, None, None) for row in given))
        for at, (name, type_) in enumerate(TYPES, 1):
            made = made.append_column(name, pa.array([row[at] for row in given], type_))
        return made.set_column(made.num_columns - 1, "number", made["number"].cast(number))

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        tables = rows(old, pa.int32()), rows(new, kind)
        one, other = make(store, {"data": DECISIONS}, *({"data": made} for made in tables))
        found = table(diff(store, one.ref, other.ref, limit=99), "data")
    before, after = ({row[0]: row[1:] for row in given} for given in (old, new))
    wanted = dict.fromkeys((name for name, _ in TYPES), 0)
    for key in before.keys() & after.keys():
        for (name, _), value, now in zip(TYPES, before[key], after[key], strict=True):
            wanted[name] += value != now or (name == "number" and kind == pa.string() and value is not None)
    assert found["columns"] == {name: count for name, count in wanted.items() if count}
    assert (found["only_a"], found["only_b"]) == (len(before.keys() - after.keys()), len(after.keys() - before.keys()))
