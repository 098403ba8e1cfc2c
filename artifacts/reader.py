"""Reading tables of artifacts, whole or in shards that other processes read for themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.manifest import Counts


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of one Parquet row group. Small and picklable: a worker opens the file itself."""

    path: str
    row_group: int
    start: int  # first row, within the row group
    rows: int
    first_row: int  # the number of that row within the whole table

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The shard's rows, with all columns or those named."""
        with pq.ParquetFile(self.path) as file:
            group = file.read_row_group(self.row_group, columns=list(columns) if columns is not None else None)
        return group.slice(self.start, self.rows).replace_schema_metadata(None)


class InputTable:
    """A table spread over Parquet files, in order (several artifacts given for one input follow one another)."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    @property
    def rows(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.files)

    @property
    def schema(self) -> pa.Schema:
        return pq.read_schema(self.files[0]).remove_metadata()

    def shards(self, rows: int = 2_048) -> list[Shard]:
        """Pieces of at most `rows` rows. Results must not depend on `rows`; it only sets the grain of the work."""
        found, total = [], 0
        for path in self.files:
            metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                size = metadata.row_group(group).num_rows
                for start in range(0, size, rows):
                    found.append(Shard(str(path), group, start, min(rows, size - start), total + start))
                total += size
        return found

    def batches(self, columns: Sequence[str] | None = None, rows: int = 2_048) -> Iterator[pa.Table]:
        """The rows in order, some at a time: memory stays bounded."""
        for path in self.files:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=list(columns) if columns is not None else None):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(None)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The whole table in memory."""
        names = list(columns) if columns is not None else None
        tables = [pq.read_table(path, columns=names).replace_schema_metadata(None) for path in self.files]
        return pa.concat_tables(tables)


def count_decisions(decisions: InputTable) -> Counts:
    """Rows in, kept, dropped and failed, and the reasons of the last two, from a decisions table."""
    counts = Counts(rows_in=0, kept=0, dropped=0, failed=0)
    totals = {"rows_in": 0, "kept": 0, "dropped": 0, "failed": 0}
    for batch in decisions.batches(["kept", "failed", "reason"], rows=65_536):
        for row in batch.group_by(["kept", "failed", "reason"]).aggregate([([], "count_all")]).to_pylist():
            fate = "kept" if row["kept"] else "failed" if row["failed"] else "dropped"
            totals[fate] += row["count_all"]
            totals["rows_in"] += row["count_all"]
            if fate != "kept":
                reason = row["reason"] or ""
                counts.reasons[reason] = counts.reasons.get(reason, 0) + row["count_all"]
    return counts.model_copy(update={**totals, "reasons": dict(sorted(counts.reasons.items()))})
