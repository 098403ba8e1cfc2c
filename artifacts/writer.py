"""Writing an artifact's tables so that equal rows give equal bytes, however they were batched on the way in."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.tables import SCHEMA_VERSION, TableKind

ROWS_A_GROUP = 8_192
# On 1,441 real pages level 3 took 1.7 times as long for 11% fewer bytes, on their tokens 2.5 times for 3%.
ZSTD_LEVEL = 1
BYTES_A_FILE = 256 * 2**20  # on disk: what is written depends on the rows alone, Arrow's buffers on the batching too

# A table of MinHash signatures repeats nothing: dictionaries made it a sixth larger, and took twice as long to write.
HASH_COLUMNS = frozenset({"signature"})

# Columns that people look single rows up by.
BLOOM_COLUMNS = ("doc_id", "doc_a", "prompt_id", "url")


class TableWriter:
    """One table of a draft: `<folder>/<name>/part-00000.parquet` and so on.

    Row groups hold exactly `ROWS_A_GROUP` rows and files end at the same row whatever the sizes of the tables given to
    `write`, so one shard and many shards give the same bytes. Rows are written in the order given.
    """

    def __init__(self, folder: Path, name: str, kind: TableKind, stage: str) -> None:
        self.name = name
        self.kind = kind
        self.rows = 0
        self._folder = folder / name
        # Not the recipe: two recipes that give the same rows must give the same bytes, or nothing after a changed
        # config field could ever be reused.
        self._footer = {"crawl2chat.stage": stage, "crawl2chat.schema": str(SCHEMA_VERSION)}
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._schema: pa.Schema | None = None
        self._file: pq.ParquetWriter | None = None
        self._sink: pa.NativeFile | None = None
        self._files = 0

    def write(self, table: pa.Table | pa.RecordBatch) -> None:
        """Append rows. The first table fixes the columns and their order.

        Raises:
            RunError: a column of the table's kind is missing or has another type.
        """
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        if self._schema is None:
            self.kind.check(table.schema, f"table {self.name}")
            self._schema = table.schema.remove_metadata()
        table = table.select(self._schema.names).replace_schema_metadata(None).cast(self._schema)
        if table.num_rows == 0:
            return
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        while self._pending_rows >= ROWS_A_GROUP:
            self._flush(ROWS_A_GROUP)

    def _flush(self, rows: int) -> None:
        pending = pa.concat_tables(self._pending)
        group, rest = pending.slice(0, rows).combine_chunks(), pending.slice(rows)
        self._pending, self._pending_rows = [rest], rest.num_rows
        if self._file is None:
            self._open()
        assert self._file is not None and self._sink is not None
        self._file.write_table(group, row_group_size=ROWS_A_GROUP)
        if self._sink.tell() >= BYTES_A_FILE:
            self._close_file()

    def _open(self) -> None:
        assert self._schema is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        bloom = {name: {"ndv": ROWS_A_GROUP, "fpp": 0.01} for name in BLOOM_COLUMNS if name in self._schema.names}
        self._sink = pa.OSFile(str(self._folder / f"part-{self._files:05d}.parquet"), "wb")
        self._file = pq.ParquetWriter(
            self._sink,
            self._schema.with_metadata(self._footer),
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=HASH_COLUMNS.isdisjoint(self._schema.names),
            write_page_index=True,
            bloom_filter_options=bloom or None,
        )
        self._files += 1

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def close(self) -> None:
        """Write what is pending. A table that got no rows still leaves one file, so that its columns are known."""
        if self._pending_rows:
            self._flush(self._pending_rows)
        if self._files == 0:
            if self._schema is None:
                self._schema = self.kind.schema
            self._open()
        self._close_file()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._close_file()
