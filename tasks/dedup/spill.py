"""Arrays too large for memory, as files of the stage's work folder: appended to, mapped, or sorted in parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]  # structured, with a field `key` (uint64)

ROWS_A_CHUNK = 1 << 18
MOST_PARTS = 512  # files that are written at once: 1,024 may be open


class Spill:
    """A file of equal rows. Rows come in by `append`; they are read in order (`chunks`) or mapped (`array`)."""

    def __init__(self, path: Path, dtype: Any, width: int = 1) -> None:
        self.rows = 0
        self._path, self._dtype, self._width = path, np.dtype(dtype), width
        self._file = path.open("wb")

    def append(self, values: NDArray[Any]) -> None:
        """Append an array of rows (one- or two-dimensional)."""
        data = np.ascontiguousarray(values, dtype=self._dtype)
        self.rows += data.size // self._width
        self._file.write(data.data if self._dtype.names is None else data.tobytes())

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop, copied: the file is not mapped, so they leave memory with the array."""
        self._file.flush()
        size = self._width * self._dtype.itemsize
        values = np.fromfile(self._path, self._dtype, max(stop - start, 0) * self._width, offset=start * size)
        return values if self._width == 1 else values.reshape(-1, self._width)

    def chunks(self, rows: int = ROWS_A_CHUNK) -> Iterator[NDArray[Any]]:
        """All rows in order, some at a time."""
        for start in range(0, self.rows, rows):
            yield self.read(start, min(start + rows, self.rows))

    def array(self) -> NDArray[Any]:
        """All rows, (rows, width), or one-dimensional for a width of 1. Pages are read when touched."""
        self._file.flush()
        shape = (self.rows,) if self._width == 1 else (self.rows, self._width)
        if self.rows == 0:
            return np.empty(shape, dtype=self._dtype)
        return np.asarray(np.memmap(self._path, dtype=self._dtype, mode="r", shape=shape))

    def close(self) -> None:
        """Close and remove the file. Arrays that were mapped stay valid."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Scratch:
    """A folder of spills, removed at the end; what an attempt that was killed left there is removed first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spills: list[Spill] = []
        self._count = 0

    def spill(self, dtype: Any, width: int = 1) -> Spill:
        """A new spill."""
        self._count += 1
        self._spills.append(Spill(self.folder / f"{self._count}.spill", dtype, width))
        return self._spills[-1]

    def drop(self, spill: Spill) -> None:
        """Remove a spill that is no longer needed."""
        spill.close()
        self._spills.remove(spill)

    def column(self, dtype: Any, rows: int, fill: Any = 0) -> NDArray[Any]:
        """A mapped array of `rows` values that can be written anywhere."""
        if rows == 0:
            return np.empty(0, dtype=dtype)
        self._count += 1
        column = np.asarray(np.memmap(self.folder / f"{self._count}.column", dtype=dtype, mode="w+", shape=(rows,)))
        if fill:  # new pages are zero, and take no room on the disk until they are touched
            for start in range(0, rows, ROWS_A_CHUNK):
                column[start : start + ROWS_A_CHUNK] = fill
        return column

    def __enter__(self) -> Scratch:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spill in self._spills:
            spill.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def sorted_parts(chunks: Iterable[Records], total: int, limit: int, scratch: Scratch) -> Iterator[Records]:
    """Records in ascending order of their field `key`, those of one key in the order given and in one part.

    Args:
        total: how many there are at most. Up to `limit` they are sorted in memory; beyond it they are spread by the
            upper bits of their keys over as many files as give parts of about that size.

    A part is larger than `limit` only where one key (or the keys of one range) has more records than that.
    """
    bits = 0
    while total > limit << bits and 1 << bits < MOST_PARTS:
        bits += 1
    if bits == 0:
        held = list(chunks)
        if held:
            yield _by_key(np.concatenate(held))
        return
    files: list[Spill | None] = [None] * (1 << bits)
    for chunk in chunks:
        part = (chunk["key"] >> np.uint64(64 - bits)).astype(np.int64)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(len(files) + 1))
        for number in np.flatnonzero(np.diff(ends)):
            file = files[number] or scratch.spill(chunk.dtype)
            files[number] = file
            file.append(chunk[order[ends[number] : ends[number + 1]]])
    for part_file in files:
        if part_file is not None:
            records = _by_key(part_file.read(0, part_file.rows))
            scratch.drop(part_file)
            yield records


def _by_key(records: Records) -> Records:
    return records[np.argsort(np.ascontiguousarray(records["key"]), kind="stable")]


def first_of_runs(keys: NDArray[Any]) -> NDArray[np.bool_]:
    """For each of some values in order, whether it differs from the one before it."""
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return first
