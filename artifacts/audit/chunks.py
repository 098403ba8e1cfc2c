"""Which columns of two tables hold the same bytes, a row group at a time, without decoding any.

The writer cuts row groups at fixed rows and gives equal rows equal bytes (`artifacts.writer`): equal bytes of one type
and codec are equal values. Unequal bytes say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from artifacts.query import connect, text

END = 2**62  # behind any row
BELOW = ", "  # between the names of a leaf's path, as DuckDB writes it


@dataclass(frozen=True)
class _Chunk:
    """A column's leaf in a row group: what its bytes mean (type, codec, encodings, number of values), and where they
    lie in an open file."""

    about: tuple[Any, ...]
    size: int
    file: int
    start: int

    def equals(self, other: _Chunk) -> bool:
        return self.about == other.about and self.size == other.size and self.read() == other.read()

    def read(self) -> bytes:
        return os.pread(self.file, self.size, self.start)


@dataclass(frozen=True)
class _Group:
    first: int
    rows: int
    leaves: dict[str, _Chunk]


def varying(
    a: Sequence[Path], b: Sequence[Path], columns: Sequence[str], key: Collection[str] = ()
) -> dict[str, tuple[int, int]] | None:
    """Columns whose bytes differ, with the rows (first, behind the last) outside which they are equal row by row.

    Args:
        a: the files of a table, in order.
        b: those of another.
        columns: names that both have.
        key: those of them that name a row.

    Returns:
        None if the bytes of a key differ: rows do not face each other.
    """
    found: dict[str, tuple[int, int]] = {}
    left, right = _groups(a), _groups(b)
    while True:
        one, other = next(left, None), next(right, None)
        if one is None and other is None:
            return found
        if one is None or other is None or (one.first, one.rows) != (other.first, other.rows):
            start = min(group.first for group in (one, other) if group is not None)
            return None if key else {name: (found.get(name, (start, END))[0], END) for name in columns}
        for name in sorted(columns, key=lambda name: name not in key):
            if not _equal(one.leaves, other.leaves, name):
                if name in key:
                    return None
                found[name] = found.get(name, (one.first, 0))[0], one.first + one.rows


def _equal(a: dict[str, _Chunk], b: dict[str, _Chunk], column: str) -> bool:
    """Whether a column's leaves are equal. Names may hold commas: more leaves than the column's own do no harm."""
    leaves = [path for path in {*a, *b} if path == column or path.startswith(f"{column}{BELOW}")]
    return bool(leaves) and all(path in a and path in b and a[path].equals(b[path]) for path in leaves)


def rows_of_files(files: Sequence[Path]) -> list[int]:
    """The rows of each file, by its footer."""
    if not files:
        return []
    sql = f"select file_name, num_rows from parquet_file_metadata([{', '.join(map(text, files))}])"
    with connect() as connection:
        found = dict(connection.execute(sql).fetchall())
    return [found[str(path)] for path in files]


ELEMENTS = """select coalesce(num_children, 0), type, type_length, repetition_type, converted_type, scale, precision,
    logical_type from parquet_schema({file}) order by column_id"""
CHUNKS = """select row_group_id, row_group_num_rows, column_id, path_in_schema, compression, encodings, num_values,
    total_compressed_size, data_page_offset, dictionary_page_offset
    from parquet_metadata({file}) order by row_group_id, column_id"""


def _groups(files: Sequence[Path]) -> Iterator[_Group]:
    """The row groups of a table. Their chunks can be read until the next one is asked for."""
    first = 0
    for path in files:
        with connect() as connection:
            kinds = list(_kinds(iter(connection.execute(ELEMENTS.format(file=text(path))).fetchall())))
            chunks = connection.execute(CHUNKS.format(file=text(path))).fetchall()
        with path.open("rb") as file:
            for (_, rows), columns in groupby(chunks, key=lambda chunk: chunk[:2]):
                leaves = {}
                for _, _, leaf, name, compression, encodings, values, size, data, dictionary in columns:
                    start = min(data, dictionary) if dictionary else data
                    about = (kinds[leaf], compression, encodings, values)
                    leaves[name] = _Chunk(about, size, file.fileno(), start)
                yield _Group(first, rows, leaves)
                first += rows


def _kinds(elements: Iterator[tuple[Any, ...]], above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """What the values of each leaf are: its type, and what it and the groups around it may lack or repeat.

    Args:
        elements: those of a schema, depth first: the number of children, and all else that is said of one.
    """
    children, *about = next(elements)
    if not children:
        yield (*above, *about)
    for _ in range(children):
        yield from _kinds(elements, (*above, *about))
