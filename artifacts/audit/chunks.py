"""Which columns of two tables hold the same bytes, a row group at a time, without decoding any.

The writer cuts row groups at fixed rows and gives equal rows equal bytes (`artifacts.writer`): equal bytes of one type
and codec are equal values. Unequal bytes say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

END = 2**62  # behind any row


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
    """Whether a column's leaves are equal. Names may hold dots: more leaves than the column's own do no harm."""
    leaves = [path for path in {*a, *b} if path == column or path.startswith(f"{column}.")]
    return bool(leaves) and all(path in a and path in b and a[path].equals(b[path]) for path in leaves)


def _groups(files: Sequence[Path]) -> Iterator[_Group]:
    """The row groups of a table. Their chunks can be read until the next one is asked for."""
    first = 0
    for path in files:
        metadata = pq.read_metadata(path)
        kinds = [str(metadata.schema.column(number)) for number in range(metadata.num_columns)]
        with path.open("rb") as file:
            for number in range(metadata.num_row_groups):
                group, leaves = metadata.row_group(number), {}
                for leaf, kind in enumerate(kinds):
                    chunk = group.column(leaf)
                    start = chunk.data_page_offset
                    if chunk.dictionary_page_offset:
                        start = min(start, chunk.dictionary_page_offset)
                    about = (kind, chunk.compression, chunk.encodings, chunk.num_values)
                    size = chunk.total_compressed_size
                    leaves[chunk.path_in_schema] = _Chunk(about, size, file.fileno(), start)
                yield _Group(first, group.num_rows, leaves)
                first += group.num_rows
