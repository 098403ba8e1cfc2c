"""Documents of which some get another text: their table, and the decisions that tell of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts.tables import DECISIONS


def with_texts(documents: pa.Table, rows: NDArray[np.int64], texts: pa.ChunkedArray) -> pa.Table:
    """The documents with other texts in the given rows (ascending)."""
    if not len(rows):
        return documents
    place = documents.schema.get_field_index("text")
    mask = np.zeros(documents.num_rows, dtype=np.bool_)
    mask[rows] = True
    old = _one(documents.column(place))
    changed = pc.replace_with_mask(old, pa.array(mask), _one(texts).cast(old.type))
    return documents.set_column(place, documents.schema.field(place), changed)


def decisions_on(doc_id: pa.ChunkedArray, rows: NDArray[np.int64], **columns: Any) -> pa.Table:
    """Decisions, one a document: those of `rows` have the values of the columns, the others are kept without a reason.

    A column not given is null, but `kept` is true and `failed` false.
    """
    size = len(doc_id)
    values: dict[str, Any] = {"kept": np.ones(size, dtype=np.bool_), "failed": np.zeros(size, dtype=np.bool_)}
    for name, given in columns.items():
        column = values.setdefault(name, np.full(size, None, dtype=object))
        column[rows] = given
    table = {
        field.name: pa.array(values[field.name], field.type, from_pandas=False)
        if field.name in values
        else pa.nulls(size, field.type)
        for field in DECISIONS.schema
    }
    return pa.table({**table, "doc_id": doc_id}, schema=DECISIONS.schema)


def _one(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
