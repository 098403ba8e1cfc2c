"""Normal forms and unit hashes of a column of texts, straight from Arrow's UTF-8 buffers: no object a word or a text.

One compiled pass reads a text's bytes, writes its normal form and hashes its units. ASCII takes a path without
branches, other characters a table (`folding`); texts with a character whose normal form depends on its neighbours are
left to Python (`Block.ok`). The results are those of `normalise`, `segment.spaced` and `shingles.unit_hashes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.text.folding import LARGEST_GROWTH, Bytes, folding
from tasks.text.normalise import normalise
from tasks.text.reading import Bounds, read_block
from tasks.text.segment import spaced
from tasks.text.shingles import Hashes, ngram_hashes, unit_hashes

# Texts of a block stay in the second-level cache from one pass to the next.
BYTES_A_BLOCK = 1 << 17


@dataclass(frozen=True)
class Block:
    """Some consecutive texts. The arrays are overwritten when the next block is made.

    `units` holds one hash a unit, row after row; rows that are not `ok` have none, and no normal form either.
    """

    first: int
    ok: NDArray[np.bool_]
    characters: NDArray[np.int64]
    normal: Bytes
    normal_bounds: Bounds
    units: Hashes
    unit_bounds: Bounds


def text_blocks(column: pa.ChunkedArray) -> Iterator[Block]:
    """The texts of a column of strings, some at a time, in order. A null is an empty text."""
    table = folding()
    normal, units = np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.uint64)
    row = 0
    for chunk in column.chunks:
        data, offsets = text_buffers(chunk)
        for first, last in _cut(offsets):
            room = LARGEST_GROWTH * int(offsets[last] - offsets[first]) + 8 * (last - first)
            if len(normal) < room:
                normal, units = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.uint64)
            block = Block(
                row, np.empty(last - first, dtype=np.bool_), np.empty(last - first, dtype=np.int64),
                normal, np.empty((last - first, 2), dtype=np.uint64),
                units, np.empty((last - first, 2), dtype=np.uint64),
            )  # fmt: skip
            read_block(
                data, offsets[first : last + 1], table.ascii, table.entries, table.places, table.spellings,
                normal, block.normal_bounds, units, block.unit_bounds, block.ok, block.characters,
            )  # fmt: skip
            yield block
            row += last - first


def slow_ngrams(text: str, n: int) -> tuple[str, Hashes]:
    """(normal form, n-gram hashes) of a text that is not `ok`."""
    normal = normalise(text)
    return normal, ngram_hashes(unit_hashes(spaced(normal)), n)


def text_buffers(chunk: pa.Array) -> tuple[Bytes, NDArray[np.uint64]]:
    """UTF-8 of all texts, and where each begins in it (rows + 1)."""
    if not (pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
        chunk = chunk.cast(pa.large_string())
    if chunk.null_count:
        chunk = pc.fill_null(chunk, "")
    kind = np.int32 if pa.types.is_string(chunk.type) else np.int64
    _, places, content = chunk.buffers()
    offsets = np.zeros(1, dtype=np.uint64)
    if len(chunk):
        width = np.dtype(kind).itemsize
        offsets = np.frombuffer(places, dtype=kind, count=len(chunk) + 1, offset=chunk.offset * width).astype(np.uint64)
    return np.frombuffer(content or b"", dtype=np.uint8), offsets


def _cut(offsets: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most BYTES_A_BLOCK, or of one row."""
    first, rows = 0, len(offsets) - 1
    while first < rows:
        end = np.searchsorted(offsets, offsets[first] + np.uint64(BYTES_A_BLOCK), side="right") - 1
        last = min(max(int(end), first + 1), first + 4_096)
        yield first, last
        first = last
