"""The index of an artifact's documents, in its folder `index/`: what a later crawl looks duplicates up in.

A lookup reads a few pages a question, never a whole file, so adding a crawl of M documents to N costs O(M log N):

- `band_keys.npy` (bands, documents with words), each band ascending, and `band_rows.npy`, the rows behind the keys;
- `text_keys.npy`, `text_lows.npy`, `text_rows.npy`: the halves of the text hashes, ascending, and their rows;
- `doc_ids.npy`: the doc_id of each row, UTF-8 in a fixed width;
- `texts.bin`: texts for the exact comparison, `TEXTS_A_BLOCK` rows compressed at a time, and `blocks.npy`: where each
  block begins, and the end of the last. Parquet would have 8,192 rows decompressed for one.

Rows number the table `data`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.dedup.corpus import Ids, Ints
from tasks.dedup.signing import ShingleSets
from tasks.text.shingles import shingle_set

FOLDER = "index"
TEXTS_A_BLOCK = 16
LEVEL = 1  # of zstd: three quarters of level 3's time for a twentieth more bytes


class ArrayFile:
    """A NumPy file (`.npy`) whose shape is known and whose rows come in by and by."""

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
        self._dtype, self._missing = np.dtype(dtype), int(np.prod(shape))
        self._file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: NDArray[Any]) -> None:
        """The next values, in C order."""
        data = np.ascontiguousarray(values, dtype=self._dtype)
        self._missing -= data.size
        self._file.write(data.tobytes())

    def close(self) -> None:
        self._file.close()
        assert self._missing == 0, "an array of the index got too few or too many values"


class TextWriter:
    """`texts.bin` and `blocks.npy`: texts come in as Arrow columns, in any portions."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._file = (folder / "texts.bin").open("wb")
        self._blocks = ArrayFile(folder / "blocks.npy", np.int64, (-(-rows // TEXTS_A_BLOCK) + 1,))
        self._codec = pa.Codec("zstd", compression_level=LEVEL)
        self._waiting = pa.array([], pa.large_binary())
        self._end = 0
        self._blocks.append(np.zeros(1, dtype=np.int64))

    def append(self, texts: pa.ChunkedArray) -> None:
        """The next texts."""
        for chunk in texts.chunks:
            self._waiting = pa.concat_arrays([self._waiting, chunk.cast(pa.large_binary())])
            whole = len(self._waiting) - len(self._waiting) % TEXTS_A_BLOCK
            self._write(self._waiting.slice(0, whole))
            self._waiting = self._waiting.slice(whole)

    def _write(self, texts: pa.Array) -> None:
        if len(texts) == 0:
            return
        offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8)
        data = memoryview(texts.buffers()[2] or b"")
        ends = []
        for first in range(0, len(texts), TEXTS_A_BLOCK):
            places = offsets[first : first + TEXTS_A_BLOCK + 1]
            plain = np.diff(places).astype("<u4").tobytes() + bytes(data[places[0] : places[-1]])
            packed = self._codec.compress(plain, asbytes=True)
            self._file.write(len(plain).to_bytes(8, "little") + packed)
            self._end += 8 + len(packed)
            ends.append(self._end)
        self._blocks.append(np.array(ends, dtype=np.int64))

    def __enter__(self) -> TextWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(self._waiting)
            self._blocks.close()
        self._file.close()


@dataclass(frozen=True)
class Index:
    """An index, mapped: see the module's docstring."""

    folder: Path
    band_keys: NDArray[np.uint64]
    band_rows: NDArray[np.integer[Any]]
    text_keys: NDArray[np.uint64]
    text_lows: NDArray[np.uint64]
    text_rows: NDArray[np.integer[Any]]
    doc_ids: Ids

    @property
    def documents(self) -> int:
        return len(self.doc_ids)

    @staticmethod
    def open(folder: Path) -> Index:
        """Map the index of an artifact's folder `index/`. Raises FileNotFoundError if it has none."""
        names = ("band_keys", "band_rows", "text_keys", "text_lows", "text_rows", "doc_ids")
        return Index(folder, *(_mapped(folder / f"{name}.npy") for name in names))

    def find_texts(self, keys: NDArray[np.uint64], lows: NDArray[np.uint64]) -> tuple[Ints, Ints]:
        """(places in `keys`, rows): the documents with these text hashes. `keys` ascend."""
        places, at = _ranges(self.text_keys, keys, most=None)
        same = self.text_lows[at] == lows[places]
        return places[same], self.text_rows[at[same]].astype(np.int64)

    def find_band(self, band: int, keys: NDArray[np.uint64], most: int) -> tuple[Ints, Ints]:
        """(places in `keys`, rows): the documents with these keys in a band, the first `most` of each. `keys` ascend,
        and are distinct."""
        places, at = _ranges(self.band_keys[band], keys, most)
        return places, self.band_rows[band][at].astype(np.int64)


def _mapped(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:  # an array without elements cannot be mapped
        return np.asarray(np.load(path, allow_pickle=False))


def _ranges(ascending: NDArray[np.uint64], wanted: NDArray[np.uint64], most: int | None) -> tuple[Ints, Ints]:
    """(places in `wanted`, places in `ascending`) of equal values."""
    left, right = np.searchsorted(ascending, wanted, "left"), np.searchsorted(ascending, wanted, "right")
    counts = right - left if most is None else np.minimum(right - left, most)
    places = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places, left[places] + within


@dataclass(frozen=True)
class TextTask:
    """The shingle sets of some rows (ascending) of an index."""

    folder: str
    rows: Ints
    shingle: int


def indexed_shingles(task: TextTask) -> ShingleSets:
    """What `signing.shingle_rows` gives for a shard."""
    sets = [shingle_set(text, task.shingle) for text in read_texts(Path(task.folder), task.rows)]
    lengths = np.array([len(found) for found in sets], dtype=np.int64)
    return ShingleSets(lengths, np.concatenate(sets) if sets else np.empty(0, dtype=np.uint64))


def read_texts(folder: Path, rows: Ints) -> Iterator[str]:
    """The texts of some rows, ascending. Only their blocks are read."""
    blocks, total = _mapped(folder / "blocks.npy"), len(_mapped(folder / "doc_ids.npy"))
    codec = pa.Codec("zstd")
    held, texts = -1, [""]
    with (folder / "texts.bin").open("rb") as file:
        for row in rows.tolist():
            block = row // TEXTS_A_BLOCK
            if block != held:
                file.seek(int(blocks[block]))
                data = file.read(int(blocks[block + 1] - blocks[block]))
                plain = codec.decompress(data[8:], int.from_bytes(data[:8], "little"), asbytes=True)
                held, texts = block, _split(plain, min(TEXTS_A_BLOCK, total - block * TEXTS_A_BLOCK))
            yield texts[row % TEXTS_A_BLOCK]


def _split(plain: bytes, count: int) -> list[str]:
    lengths = np.frombuffer(plain, "<u4", count).astype(np.int64)
    ends = 4 * count + np.cumsum(lengths)
    return [plain[end - size : end].decode("utf8") for end, size in zip(ends.tolist(), lengths.tolist(), strict=True)]
