"""Taking pages down: which artifacts hold them, which models have read them, and the blocklist that keeps them out.

What an artifact was made from is told by contents: where a rebuild without the page has given an input of the very same
content, what follows owes the page nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from artifacts.audit.blocked import MARKS, among, rows_named
from artifacts.audit.blocklist import PATH, Blocklist, Key, block, listed, read_entries, requests
from artifacts.audit.pages import Page, columns, is_documents, query, roots
from artifacts.audit.trace import is_model, trace_pages
from artifacts.errors import UserError
from artifacts.graph import StoreGraph, inputs_first
from artifacts.lock import users
from artifacts.query import side_by_side
from artifacts.store import Artifact, Store
from artifacts.urls import PLAIN, canonical_url


@dataclass
class _Match:
    """A document that the list names. `reason` says why no artifact holds its text, None where one does."""

    doc_id: str | None
    url: str | None
    source: str | None = None
    reason: str | None = None
    entries: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)  # in which it appears for the first time, the last used first
    pages: list[Page] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return self.reason is None

    def row(self) -> dict[str, Any]:
        names = ("doc_id", "url", "source", "reason", "entries", "artifacts", "held")
        return {name: getattr(self, name) for name in names}


def takedown(
    store: Store,
    lines: Iterable[str],
    *,
    reason: str | None = None,
    dry_run: bool = False,
    lift: bool = False,
    ready: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:
    """Put pages into the store's blocklist, and say what they have touched.

    Args:
        lines: URLs, hosts (with all below them) and doc_ids, as in a blocklist file: `#` begins a comment.
        reason: why, for the record.
        dry_run: only say; write nothing.
        lift: take the entries off the blocklist instead.
        ready: called when all is found, and before anything is written. What it raises is raised.

    Returns:
        `documents` (matched pages), `artifacts` (references of all that hold one of them or were made from one that
        does), `models` (as `trace` gives them, and `replaced_by`: the model of the same stage and config that owes the
        pages nothing), `blocklist` (the file), `unmatched` (entries that name no page of this store), `returning`
        (duplicates that were dropped in favour of a page that now goes: the next run takes one of each up again),
        `copies` (similar pages under other URLs, which stay), `running` (runs that may have read the old list),
        `request` (the record, None for a dry run).

    Raises:
        UserError: there is no entry in `lines`.
    """
    entries = read_entries(lines)
    if not entries:
        raise UserError("no URL, host or doc_id in it")
    found = _touched(store, entries)
    ready()
    if not dry_run:
        given = list(entries)
        request, found["blocklist"] = block(store, [] if lift else given, reason, given if lift else [])
        found["request"] = asdict(request)
    present = Blocklist(listed(store))
    if dry_run and not lift:
        present = Blocklist([*present.entries, *entries])
    return found | {"entries": len(present), "dry_run": dry_run, "lifted": lift}


def _touched(store: Store, entries: dict[str, Key]) -> dict[str, Any]:
    """What a takedown of these entries says, before anything is written."""
    whole = StoreGraph(store)
    blocklist = Blocklist(entries)
    matches = _matches(whole, blocklist, entries)
    crawled = _crawled(whole, blocklist)
    pages = [page for match in matches if match.held for page in match.pages]
    touched = touched_by(whole, {page.root for page in pages})
    taken = {match.doc_id for match in matches if match.doc_id}
    matched = {entry for match in matches for entry in match.entries} | {
        e for e, k in entries.items() if k in crawled[1]
    }
    traced, duplicates = side_by_side(
        [
            lambda: trace_pages(whole, pages) if pages else {"models": []},
            lambda: _duplicates(whole, touched, taken),
        ]
    )
    return {
        "documents": [match.row() for match in matches],
        "artifacts": [a.ref for a in inputs_first(whole, {*touched, *crawled[0]})],
        "models": replaced(whole, traced["models"], touched),
        "blocklist": store.join(PATH),
        "unmatched": [entry for entry in entries if entry not in matched],
        **duplicates,
        "running": [user["what"] for user in users(store)],
        "request": None,
    }


# --- which pages

_PLAIN = re.compile(PLAIN)  # what it matches is in normal form: a tenth of the time for the pages of a large host
COLUMNS = {"data": ("doc_id", "url", "source", "warc_file"), "decisions": ("doc_id", "url", "reason")}


def _matches(whole: StoreGraph, blocklist: Blocklist, entries: dict[str, Key]) -> list[_Match]:
    written: dict[Key, list[str]] = defaultdict(list)
    for entry, key in entries.items():
        written[key].append(entry)
    found: dict[str, _Match] = {}
    tables = [(root, table) for root in roots(whole) for table in COLUMNS]
    named = side_by_side(partial(rows_named, root, table, blocklist, COLUMNS[table]) for root, table in tables)
    for (root, table), rows in zip(tables, named, strict=True):
        for row in rows:
            url = row["url"] or ""
            keys = blocklist.keys(url if _PLAIN.fullmatch(url) else canonical_url(url), row["doc_id"] or "")
            if keys:
                place = row["doc_id"] or f"{root.folder} {row['url']}"
                match = found.setdefault(place, _Match(row["doc_id"], row["url"]))
                _note(match, row, root, table, [entry for key in keys for entry in written[key]])
    return sorted(found.values(), key=lambda match: (match.url or "", match.doc_id or ""))


def _note(match: _Match, row: dict[str, Any], root: Artifact, table: str, entries: Sequence[str]) -> None:
    known = bool(match.artifacts)
    match.entries = match.entries or list(entries)
    if table == "data":
        match.source, match.reason = row["source"], None
        match.pages.append(Page(row["doc_id"], row["url"], root, row["warc_file"]))
    elif not known:
        match.reason = row["reason"] or "dropped"
    if root.ref not in match.artifacts:
        match.artifacts.append(root.ref)


def _crawled(whole: StoreGraph, blocklist: Blocklist) -> tuple[list[Artifact], set[Key]]:
    """Artifacts that hold pages as they were fetched, in tables of fetches; and the entries that name any of them."""
    artifacts, keys = [], set()
    for artifact in whole.artifacts:
        if not {"url", "warc_file"} <= columns(artifact) or is_documents(artifact):
            continue
        by_url = [entry for entry, (kind, _) in blocklist.entries.items() if kind != "doc_id"]
        rows = rows_named(artifact, "data", Blocklist(by_url), ("url",))
        named = {key for row in rows for key in blocklist.keys(canonical_url(row["url"]), "")}
        if named:
            artifacts.append(artifact)
            keys |= named
    return artifacts, keys


# --- what they have touched


def touched_by(whole: StoreGraph, holders: Collection[Artifact]) -> set[Artifact]:
    """The holders and all made from them, but for what could be made just so of inputs that are not touched."""
    touched = {*holders, *whole.descendants(holders)}
    twins: dict[tuple[str, str], set[Artifact]] = defaultdict(set)
    for artifact in whole.artifacts:
        twins[artifact.stage, artifact.content].add(artifact)

    def clean(artifact: Artifact) -> bool:
        above = [twins[parent.stage, parent.content] for _, parent in whole.parents(artifact)]
        return bool(above) and all(group - touched for group in above)

    while freed := {artifact for artifact in touched - set(holders) if clean(artifact)}:
        touched -= freed
    return touched


def replaced(whole: StoreGraph, rows: Sequence[dict[str, Any]], touched: Collection[Artifact]) -> list[dict[str, Any]]:
    """Rows of models, as `trace` gives them, each with `replaced_by`: the last used model of the same stage and config
    that is not touched and was made or used later. None: the model is stale, and nothing has been trained in its place.
    """
    models = whole.newest_first(a for a in whole.artifacts if is_model(a) and a not in touched)
    by_ref = {artifact.ref: artifact for artifact in whole.artifacts}
    found = []
    for row in rows:
        old = by_ref[row["artifact"]]
        successors = (
            new.ref
            for new in models
            if new.stage == old.stage
            and new.manifest.config == old.manifest.config
            and whole.last_used(new) >= old.manifest.run.finished
        )
        found.append({**row, "replaced_by": next(successors, None)})
    return found


def _duplicates(whole: StoreGraph, touched: Collection[Artifact], taken: Collection[str]) -> dict[str, list[Any]]:
    """`returning` and `copies`, by the artifacts that compared pages with each other (tables of pairs)."""
    returning: dict[str, dict[str, Any]] = {}
    copies: dict[str, dict[str, Any]] = {}
    ids = sorted(taken)
    for artifact in whole.newest_first(a for a in touched if "doc_a" in columns(a, "pairs")):
        for row in _decided(artifact, ids):
            if row["survivor"] in taken and row["doc_id"] not in taken:
                entry = {"survivor": row["survivor"], "score": row["score"], "artifact": artifact.ref}
                returning.setdefault(row["doc_id"], entry)
            elif row["doc_id"] in taken and row["survivor"] and row["survivor"] not in taken:
                copies.setdefault(row["survivor"], _copy(row["doc_id"], row["score"], artifact))
        for row in _similar(artifact, ids):
            copies.setdefault(row["other"], _copy(row["of"], row["jaccard"], artifact))
    urls = _urls(whole, [*returning, *copies])
    return {
        "returning": [{"doc_id": doc_id, "url": urls.get(doc_id), **entry} for doc_id, entry in returning.items()],
        "copies": [{"doc_id": doc_id, "url": urls.get(doc_id), **entry} for doc_id, entry in copies.items()],
    }


def _decided(artifact: Artifact, ids: Sequence[str]) -> list[dict[str, Any]]:
    """(doc_id, survivor, score) of the pages dropped as duplicates where either is one of these, in table order."""
    conditions = [among("survivor", ids), among("doc_id", ids)] if ids else []
    if len(ids) > MARKS:  # few doc_ids are looked up by themselves, which needs no scan
        (by_survivor, first), (by_id, second) = conditions
        conditions = [(f"({by_survivor} or {by_id})", [*first, *second])]
    found: dict[int, dict[str, Any]] = {}
    # A survivor in an earlier crawl is followed by the artifact that it lives in.
    decided = "select row, doc_id, split_part(detail, ' ', 1) as survivor, score from t where not kept and"
    for condition, given in conditions:
        found |= {row["row"]: row for row in query(artifact, "decisions", f"{decided} {condition}", given)}
    return [found[number] for number in sorted(found)]


def _copy(of: str, jaccard: float | None, artifact: Artifact) -> dict[str, Any]:
    return {"of": of, "jaccard": jaccard, "artifact": artifact.ref}


def _similar(artifact: Artifact, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Pages that an artifact kept and found equal to one of these, the most similar first."""
    pairs = query(
        artifact,
        "pairs",
        """with taken as (select unnest(?::varchar[]) as id)
        select case when doc_a in (from taken) then doc_b else doc_a end as other,
               case when doc_a in (from taken) then doc_a else doc_b end as of, jaccard
        from t where accepted and (doc_a in (from taken)) <> (doc_b in (from taken))
        order by jaccard desc, other, of""",
        [list(ids)],
    )
    others = sorted({row["other"] for row in pairs})
    sql = "select doc_id from t where doc_id in (select unnest(?::varchar[]))"
    kept = {row["doc_id"] for row in query(artifact, "data", sql, [others])} if others else set()
    return [row for row in pairs if row["other"] in kept]


def _urls(whole: StoreGraph, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for root in roots(whole) if ids else []:
        missing = [doc_id for doc_id in ids if doc_id not in found]
        if missing:
            sql = "select doc_id, url from t where doc_id in (select unnest(?::varchar[]))"
            found |= {row["doc_id"]: row["url"] for row in query(root, "data", sql, [missing])}
    return found


# --- what the other questions say of it


def mark(whole: StoreGraph, found: dict[str, Any]) -> dict[str, Any]:
    """An answer of `why` or `trace` with what the store's blocklist says of it.

    Documents that it names have `taken_down`, the time of the request; the models that have read them `replaced_by`.
    """
    past = [(request.at, Blocklist(request.entries)) for request in requests(whole.store)]
    present = Blocklist(listed(whole.store))
    if not len(present):
        return found
    for document in found["documents"]:
        place = canonical_url(document["url"] or ""), document["doc_id"] or ""
        if present.match(*place):
            times = [at for at, entries in past if entries.match(*place)]
            document["taken_down"] = times[-1] if times else "by hand"
    taken = [document["doc_id"] for document in found["documents"] if document.get("taken_down")]
    if taken and found.get("models"):
        holders = {
            root
            for root in roots(whole)
            if query(root, "data", "select 1 from t where doc_id in (select unnest(?::varchar[])) limit 1", [taken])
        }
        found["models"] = replaced(whole, found["models"], touched_by(whole, holders))
    return found
