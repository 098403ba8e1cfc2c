"""The column names of Parquet files, as read from their footers without a library."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artifacts.footer import BEGINNING, column_names
from artifacts.tables import DECISIONS, DOCUMENTS, RANKINGS, SEQUENCES

NESTED = pa.schema(
    [
        ("a", pa.struct([("b", pa.list_(pa.struct([("c", pa.int8()), ("d", pa.map_(pa.string(), pa.int64()))])))])),
        ("e", pa.decimal128(10, 2)),
        ("f", pa.timestamp("us", tz="UTC")),
        ("größe", pa.list_(pa.float32(), 3)),
        ("h", pa.dictionary(pa.int32(), pa.string())),
    ]
)
WIDE = pa.schema([(f"a column with quite a long name, number {number}", pa.int64()) for number in range(2_000)])


@pytest.mark.parametrize(
    "schema", [*(kind.schema for kind in (DECISIONS, DOCUMENTS, RANKINGS, SEQUENCES)), NESTED, WIDE]
)
def test_names_are_those_of_the_schema(tmp_path: Path, schema: pa.Schema) -> None:
    pq.write_table(schema.empty_table(), tmp_path / "t.parquet")
    assert column_names(tmp_path / "t.parquet") == frozenset(schema.names)


def test_a_wide_footer_is_longer_than_what_is_read_first(tmp_path: Path) -> None:
    pq.write_table(WIDE.empty_table(), tmp_path / "t.parquet")
    assert int.from_bytes((tmp_path / "t.parquet").read_bytes()[-8:-4], "little") > BEGINNING


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no Parquet at all", b"PAR1" + b"\x1c" * 9_000 + b"\x28\x23\0\0PAR1"])
def test_what_is_no_parquet_file_is_said(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"no Parquet|not the whole|damaged"):
        column_names(tmp_path / "t.parquet")


def test_damage_in_the_footer_gives_names_or_an_error_and_nothing_else(tmp_path: Path) -> None:
    chance = random.Random(1)
    pq.write_table(NESTED.empty_table(), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    for _ in range(500):
        data = bytearray(whole)
        data[chance.randrange(4, len(data) - 8)] = chance.randrange(256)
        (tmp_path / "t.parquet").write_bytes(data)
        try:
            assert all(isinstance(name, str) for name in column_names(tmp_path / "t.parquet"))
        except ValueError:
            continue
