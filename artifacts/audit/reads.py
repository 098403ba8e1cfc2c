"""How training read tables of sequences: the arithmetic from optimizer steps to rows and back.

A training stage states in its manifest's metrics how it reads the table of sequences (`reads`): optimizer step s, from
0, reads the rows (first_row + s * rows_per_step + i) mod rows for i < rows_per_step. All else is arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from artifacts.errors import RunError
from artifacts.graph import StoreGraph
from artifacts.store import Artifact


@dataclass(frozen=True)
class Read:
    """How one training stage read one artifact's sequences: rows `offset` to `offset + size` of its input's rows."""

    artifact: Artifact
    offset: int
    size: int
    first_row: int
    rows_per_step: int
    steps: int
    rows: int

    @property
    def total(self) -> int:
        """Rows that were read, each time counted; 0 where nothing was."""
        return max(0, self.rows_per_step * self.steps) if self.rows > 0 else 0

    def steps_of(self, row: int) -> list[int]:
        """The optimizer steps that read a row of the artifact, ascending."""
        if not self.total:
            return []
        distance = (row + self.offset - self.first_row) % self.rows
        return [at // self.rows_per_step for at in range(distance, self.total, self.rows)]


def times_read(reads: Sequence[Read]) -> str:
    """SQL for how often a row of an artifact (its number in the column `row`) was read by any of some reads of it."""
    # Row r is read at the places d, d + rows, … below the total, where d = (r + offset - first_row) mod rows: that is
    # ceil((total - d) / rows) times. Nothing here is ever negative, so it does not matter how `//` and `%` round.
    terms = [
        f"({read.total + read.rows - 1} - (row + {(read.offset - read.first_row) % read.rows}) % {read.rows}) "
        f"// {read.rows}"
        for read in reads
        if read.total
    ]
    return " + ".join(terms) or "0"


def reads_of(whole: StoreGraph, model: Artifact) -> list[Read]:
    """What a training stage read of sequences, by its manifest.

    Raises:
        RunError: its `reads` are not of the form described above.
    """
    found = []
    for entry in model.manifest.metrics.get("reads") or []:
        try:
            name = str(entry["input"])
            figures = [int(entry[key]) for key in ("first_row", "rows_per_step", "steps", "rows")]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{model.ref}: metrics.reads is not of the form that trace reads: {entry!r}") from error
        offset = 0
        for artifact in [above for input_name, above in whole.parents(model) if input_name == name]:
            size = rows_of(artifact)
            found.append(Read(artifact, offset, size, *figures))
            offset += size
    return found


def rows_of(artifact: Artifact, table: str = "data") -> int:
    """The rows of one of its tables, by its manifest."""
    return sum(file.rows or 0 for path, file in artifact.manifest.files.items() if path.startswith(f"{table}/"))


def is_model(artifact: Artifact) -> bool:
    """Whether it holds trained weights (a tokenizer or a fastText classifier is none)."""
    return any(name.startswith("model/") and name.endswith(".safetensors") for name in artifact.manifest.files)


@dataclass
class Touch:
    """The steps of one model that read something, and the tokens of it that they read."""

    steps: set[int] = field(default_factory=set)
    tokens: int = 0

    def row(self, model: Artifact) -> dict[str, Any]:
        return {
            "artifact": model.ref,
            "stage": model.stage,
            "first_step": min(self.steps, default=None),
            "last_step": max(self.steps, default=None),
            "tokens": self.tokens,
        }
