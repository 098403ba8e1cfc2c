"""Tables on disk: equal rows give equal bytes, files can be searched, and other programs open them."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts import writer
from artifacts.errors import RunError
from artifacts.reader import InputTable
from artifacts.tables import DECISIONS, DOCUMENTS, PAIRS, SEQUENCES
from artifacts.writer import ROWS_A_GROUP, TableWriter
from tests.support import make_documents

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "doc_a": st.text(alphabet="abc", min_size=1, max_size=3) | st.none(),
            "doc_b": st.text(max_size=3),
            "jaccard": st.floats(0, 1) | st.none(),
            "accepted": st.booleans() | st.none(),
        }
    ),
    max_size=40,
)


def write(folder: Path, table: pa.Table, cuts: list[int]) -> dict[str, str]:
    """Write a table in pieces; returns file name to hash."""
    edges = [0, *sorted(min(cut, table.num_rows) for cut in cuts), table.num_rows]
    with TableWriter(folder, "data", PAIRS, "test") as out:
        for start, stop in itertools.pairwise(edges):
            out.write(table.slice(start, stop - start))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "data").iterdir())}


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_equal_rows_give_equal_bytes_whatever_the_batching(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], cuts: list[int]
) -> None:
    table = pa.Table.from_pylist(rows, schema=PAIRS.schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "ROWS_A_GROUP", 7)  # several row groups and files in a small table
        patch.setattr(writer, "BYTES_A_FILE", 1500)
        whole = write(tmp_path_factory.mktemp("whole"), table, [])
        folder = tmp_path_factory.mktemp("pieces")
        assert write(folder, table, cuts) == whole
        # The same rows out of another table's middle, and as many chunks of one row.
        padded = pa.concat_tables([table.slice(0, 3), table]).slice(min(3, table.num_rows))
        assert write(tmp_path_factory.mktemp("slice"), padded, []) == whole
    assert InputTable(sorted((folder / "data").iterdir())).read().to_pylist() == rows


def test_groups_and_files_end_at_fixed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BYTES_A_FILE", 1)
    table = make_documents(f"text {number}" for number in range(2 * ROWS_A_GROUP + 10))
    with TableWriter(tmp_path, "data", DOCUMENTS, "test") as out:
        for start in range(0, table.num_rows, 1000):
            out.write(table.slice(start, 1000))
    files = sorted((tmp_path / "data").iterdir())
    assert [path.name for path in files] == [f"part-0000{number}.parquet" for number in range(3)]
    assert [pq.read_metadata(path).num_rows for path in files] == [ROWS_A_GROUP, ROWS_A_GROUP, 10]
    assert InputTable(files).read().column("text").to_pylist() == table.column("text").to_pylist()


def test_footer_names_stage_and_schema_version_and_nothing_of_the_run(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "data", DOCUMENTS, "ingest") as out:
        out.write(make_documents(["one"]))
    metadata = pq.read_schema(tmp_path / "data/part-00000.parquet").metadata
    assert metadata == {b"crawl2chat.stage": b"ingest", b"crawl2chat.schema": b"1"}


def test_bloom_filter_and_page_index_are_there(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "data", DOCUMENTS, "ingest") as out:
        out.write(make_documents(["one", "two"]))
    path = tmp_path / "data/part-00000.parquet"
    found = duckdb.sql(f"select path_in_schema, bloom_filter_length from parquet_metadata('{path}')").fetchall()
    assert {name for name, length in found if length} == {"doc_id", "url"}
    probe = f"select bloom_filter_excludes from parquet_bloom_probe('{path}', 'doc_id', ?)"
    assert duckdb.execute(probe, ["d" + "9" * 31]).fetchall() == [(True,)]
    assert duckdb.execute(probe, ["d" + "0" * 31]).fetchall() == [(False,)]
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.has_column_index and column.has_offset_index
    assert column.compression == "ZSTD"


def test_an_empty_table_still_tells_its_columns(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "decisions", DECISIONS, "test"):
        pass
    path = tmp_path / "decisions/part-00000.parquet"
    assert pq.read_metadata(path).num_rows == 0
    assert pq.read_schema(path).remove_metadata() == DECISIONS.schema


def test_columns_of_ones_own_stay_and_missing_ones_are_named(tmp_path: Path) -> None:
    table = make_documents(["one"])
    with TableWriter(tmp_path, "data", DOCUMENTS, "test") as out:
        out.write(table.append_column("title", pa.array(["T"])))
    assert pq.read_table(tmp_path / "data/part-00000.parquet").column("title").to_pylist() == ["T"]
    out = TableWriter(tmp_path, "other", DOCUMENTS, "test")
    with pytest.raises(RunError, match="needs the column 'text'"):
        out.write(table.drop_columns(["text"]))
    with pytest.raises(RunError, match="column 'lang_score' is string"):
        out.write(table.set_column(5, "lang_score", pa.array(["1"])))


def test_token_ids_may_be_as_small_as_the_vocabulary_allows(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("tokens", pa.list_(pa.uint16(), 4)),
            *((name, SEQUENCES.schema.field(name).type) for name in ("spans", "source", "epoch")),
        ]
    )
    row = {
        "tokens": [1, 2, 3, 4],
        "spans": [{"doc_id": "d", "start": 0, "length": 4, "offset": 0}],
        "source": "crawl",
        "epoch": 0,
    }
    with TableWriter(tmp_path, "data", SEQUENCES, "mix") as out:
        out.write(pa.Table.from_pylist([row], schema=schema))
    assert pq.read_table(tmp_path / "data/part-00000.parquet").to_pylist() == [row]


def test_shards_cover_every_row_once_whatever_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROWS_A_GROUP", 10)
    monkeypatch.setattr(writer, "BYTES_A_FILE", 2000)
    with TableWriter(tmp_path, "data", DOCUMENTS, "test") as out:
        out.write(make_documents(str(number) for number in range(57)))
    table = InputTable(sorted((tmp_path / "data").iterdir()))
    assert len(table.files) > 1 and table.rows == 57
    for size in (1, 3, 10, 100):
        shards = table.shards(size)
        texts = [text for shard in shards for text in shard.read(["text"]).column("text").to_pylist()]
        assert texts == [str(number) for number in range(57)]
        assert [shard.first_row for shard in shards] == [
            sum(s.rows for s in shards[:number]) for number in range(len(shards))
        ]
    assert [t for b in table.batches(["text"], 4) for t in b.column("text").to_pylist()] == texts
