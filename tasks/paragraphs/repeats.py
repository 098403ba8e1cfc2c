"""Which units are repeated, out of core: hashes go to one of many files by their first bits, and each file is sorted
by itself. Memory holds one file's hashes, one bit of a byte a unit on disk aside, and 16 bytes a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.paragraphs.units import NOTHING, Hashes, Ints

# Rows of documents a file: some million units, so some ten megabytes that are sorted at once.
DOCUMENTS_A_FILE, MOST_FILES = 50_000, 256
COMMONEST = 20  # of the repeated units are shown in a report
RECORD = np.dtype([("hash", "<u8"), ("unit", "<i8")])


class Partitions:
    """The hashes of all units, by their first bits, in files of a folder. Units are numbered as they come."""

    def __init__(self, folder: Path, documents: int) -> None:
        wanted = min(MOST_FILES, -(-documents // DOCUMENTS_A_FILE) or 1)
        self._bits = (wanted - 1).bit_length()
        self.units = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = [folder / f"hashes-{number:03d}" for number in range(1 << self._bits)]
        self._files = [path.open("wb") for path in self.paths]

    def append(self, hashes: Hashes) -> None:
        """The hashes of the next units; those that are `NOTHING` are numbered and left out."""
        chosen = np.flatnonzero(hashes != NOTHING)
        records = np.empty(len(chosen), dtype=RECORD)
        records["hash"], records["unit"] = hashes[chosen], chosen + self.units
        self.units += len(hashes)
        if self._bits:
            place = records["hash"] >> np.uint64(64 - self._bits)
            records = records[np.argsort(place, kind="stable")]
            ends = np.cumsum(np.bincount(place.astype(np.int64), minlength=len(self._files)))
        else:
            ends = np.array([len(records)])
        for file, begin, end in zip(self._files, [0, *ends[:-1]], ends, strict=True):
            if begin < end:
                file.write(records[begin:end].data)

    def flush(self) -> None:
        for file in self._files:
            file.flush()

    def __enter__(self) -> Partitions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file, path in zip(self._files, self.paths, strict=True):
            file.close()
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RepeatTask:
    """`place` is a file of each document's place in the order of survivors (below 0 for those that are never cut),
    `first` of each document's first unit."""

    path: str
    place: str
    first: str
    min_occurrences: int
    within: str


@dataclass(frozen=True)
class Repeats:
    """What one file's hashes, or all files', say.

    Attributes:
        cut: the units to cut, ascending.
        distinct, repeated: how many different units there are, and are repeated often enough.
        most: occurrences of the commonest unit.
        exempt: occurrences that stay for no other reason than that their documents are never cut.
        commonest: (at most COMMONEST, 4) the units repeated most: occurrences that count, how many are cut, the place
            of the document that keeps the first, and the number of that occurrence.
    """

    cut: Ints
    distinct: int
    repeated: int
    most: int
    exempt: int
    commonest: Ints


def find_repeats(task: RepeatTask) -> Repeats:
    """The repeated units of one file, less those that stay: the first in the best document, or all of the exempt; of a
    document that may keep its own repeats, all."""
    records = np.fromfile(task.path, dtype=RECORD)
    if not len(records):
        return Repeats(np.empty(0, np.int64), 0, 0, 0, 0, np.empty((0, 4), np.int64))
    records = records[np.argsort(records["hash"], kind="stable")]  # so that units ascend within a group
    firsts = np.load(task.first, mmap_mode="r", allow_pickle=False)
    documents = np.searchsorted(firsts, records["unit"], side="right") - 1
    new = _changes(records["hash"])
    counted = new | _changes(documents) if task.within == "keep" else np.ones(len(new), np.bool_)
    members = np.diff(np.append(np.flatnonzero(new), len(new)))
    sizes = np.add.reduceat(counted, np.flatnonzero(new), dtype=np.int64)
    often = sizes >= task.min_occurrences
    chosen = np.repeat(often, members)
    units, documents = records["unit"][chosen], documents[chosen]
    group = np.repeat(np.arange(int(often.sum())), members[often])
    places = np.load(task.place, mmap_mode="r", allow_pickle=False)[documents]
    order = np.lexsort((units, places, group))
    units, places, group, documents = units[order], places[order], group[order], documents[order]
    best = _changes(group)
    own = documents == documents[best][group] if task.within == "keep" else best
    stays = own | (places < 0)
    cut: Ints = np.sort(units[~stays])
    gone = np.bincount(group[~stays], minlength=int(often.sum()))
    table = np.stack([sizes[often], gone, places[best], units[best]], axis=1).astype(np.int64)
    exempt = int((stays & ~own).sum())
    return Repeats(cut, len(sizes), int(often.sum()), int(sizes.max()), exempt, commonest(table))


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each differs from the one before; the first does."""
    found = np.ones(len(values), dtype=np.bool_)
    found[1:] = values[1:] != values[:-1]
    return found


def commonest(table: Ints) -> Ints:
    """The first COMMONEST rows of such a table (`Repeats`): most occurrences first, then the better document."""
    order = np.lexsort((table[:, 3], table[:, 2], -table[:, 0]))
    return table[order[:COMMONEST]]


class Marks:
    """One byte a unit on disk: whether it is cut."""

    def __init__(self, path: Path, units: int) -> None:
        self._path = path
        with path.open("wb") as file:
            file.truncate(max(units, 1))
        self._array: NDArray[np.bool_] = np.memmap(path, dtype=np.bool_, mode="r+", shape=(max(units, 1),))

    def set(self, units: Ints) -> None:
        self._array[units] = True

    def between(self, first: int, last: int) -> NDArray[np.bool_]:
        """Of the units `first` to `last` (exclusive)."""
        return np.array(self._array[first:last])

    def __enter__(self) -> Marks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
