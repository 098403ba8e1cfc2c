"""Following prompts, and records of instruction and preference files, to the models that were made from them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from artifacts.audit.files import files_read, kind_of_records
from artifacts.audit.reads import Touch, is_model
from artifacts.graph import StoreGraph, inputs_first
from artifacts.query import columns, query
from artifacts.store import Artifact

_PLACE = re.compile(r".+:[0-9]+")


def trace_prompt(whole: StoreGraph, prompt_id: str) -> dict[str, Any] | None:
    """Where a prompt's conversations, rankings and rollouts lie, and the models made from them. None if nowhere.

    The steps are those of PPO's rollouts: other stages read prompts in an order by hash.
    """
    holders: dict[Artifact, list[str]] = {}
    touched: dict[Artifact, Touch] = defaultdict(Touch)
    for artifact in whole.artifacts:
        for table in sorted({name.partition("/")[0] for name in artifact.manifest.files if name.endswith(".parquet")}):
            if "prompt_id" not in columns(artifact, table):
                continue
            step = "step" if "step" in columns(artifact, table) else "null"
            rows = query(artifact, table, f"select {step} as step from t where prompt_id = ?", [prompt_id])
            if rows:
                holders.setdefault(artifact, []).append(table)
                touched[artifact].steps.update(row["step"] for row in rows if row["step"] is not None)
    if not holders:
        return None
    tables = [{"artifact": a.ref, "tables": names} for a, names in holders.items()]
    document = {"doc_id": None, "url": None, "prompt_id": prompt_id, "tables": tables}
    return _answer(whole, [document], holders, touched)


def trace_record(whole: StoreGraph, target: str) -> dict[str, Any] | None:
    """What was decided about a record of an instruction or preference file, and the models that learnt from it or from
    a model that did. None if no artifact has met it.

    `target` is its place, `file:line`, or the key of its decision (`decisions.doc_id`).
    """
    documents, holders = [], []
    for artifact in whole.artifacts:
        if kind_of_records(artifact) is None:
            continue
        wanted, values = "doc_id = ?", [target.lower()]
        if _PLACE.fullmatch(target):
            wanted, values = "detail = ? or starts_with(detail, ? || ':')", [target, target]
        sql = f"select doc_id, kept, reason, score, threshold, detail from t where {wanted} order by row"
        for row in query(artifact, "decisions", sql, values):
            documents.append({"doc_id": row.pop("doc_id"), "url": None, "artifact": artifact.ref, **row})
            holders += [artifact] if row["kept"] and artifact not in holders else []
    if not documents:
        return None
    refs = {document["artifact"] for document in documents}
    found = _answer(whole, documents, holders, defaultdict(Touch))
    readers = inputs_first(whole, {a for a in whole.artifacts if a.ref in refs})
    return found | {"sources": [source for a in readers for source in _files_named(whole, a, documents)]}


def _files_named(whole: StoreGraph, reader: Artifact, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    details = [str(d["detail"]) for d in documents if d["artifact"] == reader.ref]
    return [s for s in files_read(whole, reader) if any(detail.startswith(f"{s['name']}:") for detail in details)]


def _answer(
    whole: StoreGraph, documents: list[dict[str, Any]], holders: Iterable[Artifact], touched: dict[Artifact, Touch]
) -> dict[str, Any]:
    holders = list(holders)
    below = {a for a in {*holders, *whole.descendants(holders)} if is_model(a)}
    return {
        "documents": documents,
        "sequences": 0,
        "models": [touched[model].row(model) for model in inputs_first(whole, below)],
        "sources": [source for a in inputs_first(whole, set(holders)) for source in files_read(whole, a)],
    }
