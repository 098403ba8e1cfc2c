"""PII: e-mail addresses, IP addresses and telephone numbers give way to placeholders; every document is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from artifacts.errors import UserError
from artifacts.tables import DECISIONS, DOCUMENTS
from tasks.pii.config import PiiConfig
from tasks.pii.replace import KINDS, PiiTask, Rules, replace_shard
from tasks.stage import Stage, StageContext, Summary
from tasks.text.changed import decisions_on, with_texts

REPLACED = "pii_replaced"
ROWS_A_BATCH = 2_048


def run(context: StageContext) -> Summary:
    """Write the documents with placeholders, in input order, and a decision a document.

    Raises:
        UserError: `phone_regions` names a country that has no numbering plan.
    """
    config: PiiConfig = context.config
    rules = rules_of(config)
    documents = context.input("documents")
    context.writer("data").write(documents.schema.empty_table())
    totals = np.zeros((2, len(KINDS)), dtype=np.int64)
    changed_documents = 0
    shards = documents.shards(ROWS_A_BATCH)
    tasks = [PiiTask(shard, rules) for shard in shards]
    results = context.map_with_progress(replace_shard, tasks, "replacing personal data")
    for shard, changed in zip(shards, results, strict=True):
        counts = np.stack([changed.column(name).to_numpy() for name in KINDS], axis=1).astype(np.int64)
        totals += np.stack([counts.sum(axis=0), (counts > 0).sum(axis=0)])
        changed_documents += changed.num_rows
        table = shard.read()
        rows = changed.column("row").to_numpy() - shard.first_row
        context.writer("data").write(with_texts(table, rows, changed.column("text")))
        context.writer("decisions").write(_decisions(table.column("doc_id"), rows, counts))
    metrics: dict[str, Any] = {
        "documents": documents.rows,
        "documents_changed": changed_documents,
        "replaced": dict(zip(KINDS, totals[0].tolist(), strict=True)),
        "documents_with": dict(zip(KINDS, totals[1].tolist(), strict=True)),
    }
    return Summary(metrics=metrics)


def rules_of(config: PiiConfig) -> Rules:
    """The rules of a config. Raises `UserError` for a region that is none."""
    import phonenumbers

    unknown = [region for region in config.phone_regions if region not in phonenumbers.SUPPORTED_REGIONS]
    if unknown:
        raise UserError(f"pii.phone_regions: no country with a numbering plan: {', '.join(unknown)} (such as DE, US)")
    names = {"email": ("email",), "ip": ("ipv4", "ipv6"), "phone": ("phone",)}
    wanted = [name for kind, group in names.items() if kind in config.kinds for name in group]
    return Rules(
        {name: str(getattr(config, name)) for name in wanted}, config.private_ip, tuple(sorted(config.phone_regions))
    )


def _decisions(doc_id: pa.ChunkedArray, rows: NDArray[np.int64], counts: NDArray[np.int64]) -> pa.Table:
    """Score: how many were replaced; detail: of which kinds."""
    found = (zip(KINDS, row, strict=True) for row in counts.tolist())
    return decisions_on(
        doc_id,
        rows,
        reason=REPLACED,
        score=counts.sum(axis=1).astype(np.float64),
        detail=[", ".join(f"{name}: {count}" for name, count in kinds if count) for kinds in found],
    )


STAGE = Stage(
    name="pii",
    version=2,  # 2: behind a word for one, a second number beside the first, and international ones without +
    config=PiiConfig,
    reads={"documents": DOCUMENTS},
    writes={"data": DOCUMENTS, "decisions": DECISIONS},
    run=run,
    seeded=False,
)
