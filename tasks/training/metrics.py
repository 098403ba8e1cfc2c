"""The metrics table: one row a step and a name."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from artifacts.tables import METRICS
from artifacts.writer import TableWriter

Metric = tuple[int, str, float]


def write_metrics(writer: TableWriter, metrics: Sequence[Metric]) -> None:
    """Append (step, name, value) rows in the order given."""
    columns = list(zip(*metrics, strict=True)) if metrics else [(), (), ()]
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, METRICS.schema, strict=True)]
    writer.write(pa.Table.from_arrays(arrays, schema=METRICS.schema))
