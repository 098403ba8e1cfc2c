"""What many tests share: running a stage through the contract, and making small documents tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifacts.digest import digest_json
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS, TableKind
from tasks.execution import Outcome, as_inputs, execute
from tasks.stage import Stage, StageConfig, StageContext, Summary


def run_stage(
    stage: Stage,
    config: StageConfig,
    store: Store,
    inputs: Mapping[str, Artifact | Iterable[Artifact]] | None = None,
    **keywords: Any,
) -> Outcome:
    """Run one stage on a store, as a flow would, but without a scheduler."""
    return execute(stage, config, as_inputs(inputs or {}), store, **keywords)


class _NoConfig(StageConfig):
    label: str = ""
    rows: str = ""


def put_table(
    store: Store, kind: TableKind, table: pa.Table, stage: str = "given", label: str = "", run_id: str | None = None
) -> Artifact:
    """Commit a ready table as an artifact of a stage that only writes it."""

    def run(context: StageContext) -> Summary:
        context.writer("data").write(table)
        return Summary(rows_in=table.num_rows, kept=table.num_rows, dropped=0, failed=0)

    given = Stage(stage, 1, _NoConfig, {}, {"data": kind}, run)
    rows = digest_json([table.schema.to_string(), table.to_pylist()])  # another table is another recipe
    return execute(given, _NoConfig(label=label, rows=rows), {}, store, run_id=run_id).artifact


def make_documents(texts: Iterable[str], source: str = "crawl", lang: str = "en", prefix: str = "d") -> pa.Table:
    """A documents table of the given texts, with doc_ids `<prefix>` + a number, 32 characters wide."""
    rows = [
        {
            "doc_id": f"{prefix}{number:0{32 - len(prefix)}d}",
            "url": f"http://example.org/{prefix}/{number}",
            "date": "2026-01-01T00:00:00Z",
            "source": source,
            "lang": lang,
            "lang_score": 1.0,
            "text": text,
            "warc_file": "made.warc.gz",
            "warc_offset": number,
            "content_type": "text/html",
            "charset": "utf-8",
        }
        for number, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=DOCUMENTS.schema)


def read_rows(artifact: Artifact, table: str = "data") -> list[dict[str, Any]]:
    """The rows of one table of an artifact."""
    import pyarrow.parquet as pq

    return [row for path in artifact.files(table) for row in pq.read_table(Path(path)).to_pylist()]
