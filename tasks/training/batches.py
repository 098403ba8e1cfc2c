"""Batches: padding, and the rows of a sequences table by number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from artifacts.errors import UserError
from artifacts.reader import InputTable


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """(ids, mask), both (B, T): ids int64 padded on the right, mask True on real tokens.

    Under causal attention no real token sees a pad behind it, so these need neither attention mask nor position ids.
    """
    width = max(map(len, sequences), default=0)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
        mask[row, : len(sequence)] = True
    return ids, mask


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, mask, position_ids), each (B, T): padded on the left; positions count real tokens from 0, pads have 0."""
    width = max(map(len, sequences), default=0)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    positions = torch.zeros((len(sequences), width), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        start = width - len(sequence)
        ids[row, start:] = torch.as_tensor(sequence, dtype=torch.int64)
        mask[row, start:] = True
        positions[row, start:] = torch.arange(len(sequence))
    return ids, mask, positions


def share(items: Sequence[int], rank: int, world_size: int) -> list[int]:
    """The part of a global batch that one rank computes: consecutive, sizes differing by one at most."""
    low = len(items) * rank // world_size
    high = len(items) * (rank + 1) // world_size
    return list(items[low:high])


def micro_batches(items: Sequence[int], size: int) -> Iterator[list[int]]:
    """`items` in order, at most `size` at a time."""
    for start in range(0, len(items), max(1, size)):
        yield list(items[start : start + size])


def on(device: torch.device, batch: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """(ids, mask) on a device."""
    ids, mask = batch
    return ids.to(device), None if mask is None else mask.to(device)


class TokenRows:
    """Rows of a sequences table by number, memory-mapped: a run of any length holds one batch in memory.

    Parquet pages are compressed, so `build` writes the tokens once as a flat file into the stage's work folder. Where
    rows are padded (mix.packing: best_fit), it writes beside it how many tokens of each row are real: those that its
    spans cover, from the row's start.
    """

    def __init__(self, path: str | Path) -> None:
        shape = json.loads(Path(f"{path}.json").read_text())
        self.length: int = shape["length"]
        self._rows: int = shape["rows"]
        if self._rows:
            shaped = (self._rows, self.length)
            self._tokens: np.ndarray[Any, Any] = np.memmap(path, dtype=shape["dtype"], mode="r", shape=shaped)
        else:
            self._tokens = np.zeros((0, self.length), dtype=shape["dtype"])
        self._real = np.fromfile(f"{path}.real", dtype=np.int32) if shape.get("padded") else None

    @classmethod
    def build(cls, table: InputTable, path: Path) -> TokenRows:
        """Write the `tokens` column of a table to `path` (if it is not there) and open it.

        Raises:
            UserError: rows differ in length.
        """
        if not Path(f"{path}.json").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.partial")
            shape, real = _write_tokens(table, partial)
            real.tofile(f"{path}.real")
            os.replace(partial, path)
            note = path.with_name(f"{path.name}.json.partial")
            note.write_text(json.dumps(shape))
            os.replace(note, f"{path}.json")  # last: says that the file before it is whole
        return cls(path)

    def __len__(self) -> int:
        return self._rows

    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """The rows of these numbers (modulo the number of rows): ids, int64 (B, T), and which are real, bool (B, T).

        None in place of the mask if no row of the table has padding.
        """
        wanted = np.asarray(numbers, dtype=np.int64) % max(1, self._rows)
        ids = torch.from_numpy(self._tokens[wanted].astype(np.int64))
        if self._real is None:
            return ids, None
        return ids, torch.arange(self.length)[None, :] < torch.from_numpy(self._real[wanted].astype(np.int64))[:, None]

    def predicted(self, numbers: Sequence[int]) -> int:
        """How many tokens these rows have to learn: all real ones but the first of each row, at least 1 in all."""
        if self._real is None:
            return len(numbers) * (self.length - 1)
        wanted = np.asarray(numbers, dtype=np.int64) % max(1, self._rows)
        return max(1, int((self._real[wanted] - 1).sum()))

    def row(self, number: int) -> list[int]:
        """One row as a list of ids."""
        found: list[int] = self._tokens[number % self._rows].tolist()
        return found


def _write_tokens(table: InputTable, path: Path) -> tuple[dict[str, int | str | bool], np.ndarray[Any, Any]]:
    """Write the tokens; returns (their shape, the real tokens of each row)."""
    value_type = table.schema.field("tokens").type.value_type
    dtype = np.dtype(value_type.to_pandas_dtype())
    rows, length = 0, 0
    real = [np.zeros(0, dtype=np.int32)]
    with open(path, "wb") as stream:
        for batch in table.batches(["tokens", "spans.list.element.length"]):
            column = batch.column("tokens").combine_chunks()
            if not len(column):
                continue
            if isinstance(column, pa.ChunkedArray):
                column = column.chunk(0)
            if pa.types.is_fixed_size_list(column.type):
                widths = {column.type.list_size}
            else:
                widths = set(column.value_lengths().unique().to_pylist())
            if len(widths) != 1 or (rows and widths != {length}):
                raise UserError(f"{table.files[0]}: sequences must all have one length, found {sorted(widths)}")
            length = int(widths.pop())
            rows += len(column)
            real.append(_real_tokens(batch.column("spans").combine_chunks(), length))
            stream.write(column.flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False).tobytes())
    covered = np.concatenate(real)
    padded = bool((covered < length).any())
    return {"rows": rows, "length": length, "dtype": dtype.str, "padded": padded}, covered


def _real_tokens(spans: pa.ListArray, length: int) -> np.ndarray[Any, Any]:
    """Tokens that each row's spans cover; a row that names no document is taken as full."""
    ends = spans.offsets.to_numpy().astype(np.int64)
    covered = np.concatenate([[0], np.cumsum(spans.values.field("length").to_numpy(), dtype=np.int64)])
    counts = covered[ends[1:]] - covered[ends[:-1]]
    return np.where(np.diff(ends) == 0, length, counts).astype(np.int32)
