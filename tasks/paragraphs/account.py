"""What the stage tells of its work beside decisions: the account of each source, and which units are repeated most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.reader import InputTable
from tasks.paragraphs.units import Ints, find_units

COLUMNS = (
    "documents",
    "documents_cut",
    "documents_dropped",
    "units",
    "units_cut",
    "characters",
    "characters_removed",
)


class Account:
    """Sums of `COLUMNS` by source."""

    def __init__(self) -> None:
        self._sums: dict[str, Ints] = {}

    def add(self, sources: pa.ChunkedArray, **columns: NDArray[Any]) -> None:
        """Some more documents: their sources, and a number a document for each of the columns but `documents`."""
        ones = np.ones(len(sources), dtype=np.int64)
        table = np.stack([columns.get(name, ones).astype(np.int64) for name in COLUMNS])
        encoded = pc.fill_null(sources, "").combine_chunks().dictionary_encode()
        places = encoded.indices.to_numpy()
        for number, source in enumerate(encoded.dictionary.to_pylist()):
            zero = np.zeros(len(COLUMNS), dtype=np.int64)
            self._sums[source] = self._sums.get(source, zero) + table[:, places == number].sum(axis=1)

    def sources(self) -> dict[str, dict[str, int]]:
        """The sums of each source, by its name."""
        return {source: dict(zip(COLUMNS, self._sums[source].tolist(), strict=True)) for source in sorted(self._sums)}


def where_they_stand(documents: InputTable, most: Ints, first: Ints, unit: str) -> list[dict[str, Any]]:
    """Where the text of each unit of `Repeats.commonest` is to be found: no text enters a manifest.

    `offset` and `characters` are code points of the text that the stage read.
    """
    rows = np.searchsorted(first, most[:, 3], side="right") - 1
    found: dict[int, dict[str, Any]] = {}
    for shard in documents.shards():
        chosen = np.flatnonzero((rows >= shard.first_row) & (rows < shard.first_row + shard.rows))
        if not len(chosen):
            continue
        table = shard.read(["doc_id", "source", "text"]).take(rows[chosen] - shard.first_row)
        for place, row in zip(chosen.tolist(), table.to_pylist(), strict=True):
            units = find_units(pa.chunked_array([[row["text"]]], pa.string()), unit)
            number = int(most[place, 3] - first[rows[place]])
            begin = units.data[: units.begins[number]].tobytes().decode()
            found[place] = {
                "occurrences": int(most[place, 0]),
                "cut": int(most[place, 1]),
                "doc_id": row["doc_id"],
                "source": row["source"],
                "offset": len(begin),
                "characters": int(units.characters[number]),
            }
    return [found[place] for place in sorted(found)]
