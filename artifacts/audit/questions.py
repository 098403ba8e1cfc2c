"""Two questions about pages: why one was kept or dropped, and which optimizer steps and models saw it.

They are told from manifests and Parquet files alone; nothing here knows a stage by its name.
"""

from __future__ import annotations

from typing import Any

from artifacts.audit.pages import Page, find_pages, is_documents
from artifacts.audit.records import trace_prompt, trace_record
from artifacts.audit.takedown import mark
from artifacts.audit.trace import trace_artifact, trace_pages
from artifacts.errors import UserError
from artifacts.graph import StoreGraph
from artifacts.query import columns, query
from artifacts.store import Artifact, Store


def why(store: Store, target: str) -> dict[str, Any]:
    """The fate of each page that a URL or doc_id names, stage by stage, to where it was dropped.

    Where several chains of artifacts have seen the page, that of the last run is told. URLs match in any spelling of
    the same page; a prefix of one matches nothing.
    """
    whole = StoreGraph(store)
    pages = find_pages(whole, target)
    fates = [{"doc_id": page.doc_id, "url": page.url, "fate": _fate(whole, page)} for page in pages]
    return mark(whole, {"documents": fates})


def _fate(whole: StoreGraph, page: Page) -> list[dict[str, Any]]:
    chain: list[Artifact] = []
    fate: list[dict[str, Any]] = []
    following: Artifact | None = page.root
    while following is not None:
        steps = _decisions(following, page)
        fate += steps
        chain.append(following)
        following = _next(whole, chain) if any(step["kept"] for step in steps) else None
    return fate


def _decisions(artifact: Artifact, page: Page) -> list[dict[str, Any]]:
    """What a stage decided about the page: one entry a row, as ingest may have met the same record twice."""
    wanted, value = ("doc_id = ?", page.doc_id) if page.doc_id else ("doc_id is null and url = ?", page.url)
    names = ("kept", "reason", "score", "threshold", "detail")
    rows = query(artifact, "decisions", f"select {', '.join(names)} from t where {wanted}", [value])
    if not columns(artifact, "decisions") and is_documents(artifact):
        held = query(artifact, "data", f"select 1 from t where {wanted} limit 1", [value])
        rows = [dict.fromkeys(names) | {"kept": True} for _ in held]
    return [{"stage": artifact.stage, "artifact": artifact.ref, **row} for row in rows]


def _next(whole: StoreGraph, chain: list[Artifact]) -> Artifact | None:
    """The artifact in which the page's way goes on: the last used one that was made from the end of the chain.

    A stage whose table holds no texts (token lists) is a side branch: what follows may read the documents before it.
    All inputs that go back to this chain's root must lie in the chain, so that runs of different configs never mix.
    """
    seen = {artifact.stage for artifact in chain}
    below_root = {_content(a) for a in (chain[0], *whole.descendants(chain[:1]))}
    in_chain = {_content(artifact) for artifact in chain}
    candidates = []
    for artifact in {child for member in chain for _, child in whole.children(member)}:
        above = {_content(parent) for _, parent in whole.parents(artifact)}
        if artifact.stage in seen or "kept" not in columns(artifact, "decisions"):
            continue
        if (above & below_root) - in_chain:
            continue
        if _content(chain[-1]) in above or not is_documents(chain[-1]):
            candidates.append(artifact)
    return next(iter(whole.newest_first(candidates)), None) if candidates else None


def _content(artifact: Artifact) -> tuple[str, str]:
    return artifact.stage, artifact.content


def trace(store: Store, target: str) -> dict[str, Any]:
    """Down from a page (URL or doc_id), a prompt_id or a record of an instruction or preference file (`file:line`, or
    its decision's key) to sequences, optimizer steps and models; or up from an artifact.

    Returns `documents`, `sequences` (training rows that hold the page), `models` (every model that descends from it:
    the first and last of its own optimizer steps that read the page, counted from 0, and the tokens of it that those
    steps read, null and 0 where it only inherited the page) and `sources`. For an artifact, `sources` are the external
    files above it with the documents and tokens of each that training read, or the prompts and records that were kept.

    Raises:
        UserError: `target` is written as an artifact (stage@recipe) and the store has none of that name.
    """
    whole = StoreGraph(store)
    if "@" in target and "/" not in target:
        return trace_artifact(whole, store.resolve(target))
    pages = find_pages(whole, target, all_roots=True)
    if pages:
        return mark(whole, trace_pages(whole, pages))
    found = trace_prompt(whole, target.strip().lower()) or trace_record(whole, target.strip())
    if found is not None:
        return found
    try:
        return trace_artifact(whole, store.resolve(target))
    except UserError:
        return {"documents": [], "sequences": 0, "models": [], "sources": []}
