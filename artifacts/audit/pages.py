"""Finding pages in a store: by URL in any spelling, or by doc_id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from artifacts.audit.reads import rows_of
from artifacts.graph import StoreGraph
from artifacts.query import columns, query, sift
from artifacts.store import Artifact
from artifacts.urls import PLAIN, canonical_url

__all__ = ["Page", "columns", "find_each", "find_pages", "is_documents", "query", "roots"]


@dataclass(frozen=True)
class Page:
    """One fetch of a page: the same URL fetched twice is two. `warc_file` is None for what was never a document."""

    doc_id: str | None
    url: str | None
    root: Artifact
    warc_file: str | None = None


def is_documents(artifact: Artifact) -> bool:
    return {"doc_id", "url", "text"} <= columns(artifact)


def roots(graph: StoreGraph) -> list[Artifact]:
    """Artifacts in which pages appear for the first time (ingest's), the last used first.

    Those whose own inputs are gone from the store come last.
    """
    documents = [a for a in graph.artifacts if is_documents(a)]
    first = [a for a in documents if not any(is_documents(above) for _, above in graph.parents(a))]
    newest = graph.newest_first(first)
    return sorted(newest, key=lambda a: len(graph.parents(a)) < len(a.manifest.inputs))


def find_pages(graph: StoreGraph, target: str, all_roots: bool = False) -> list[Page]:
    """The pages that a URL or a doc_id names, dropped and failed ones included.

    They come from the last used artifact that has seen any of them; with `all_roots` from every one, each doc_id once.
    """
    return find_each(graph, [target], all_roots)[target]


def find_each(graph: StoreGraph, targets: Sequence[str], all_roots: bool = False) -> dict[str, list[Page]]:
    """`find_pages` of each target, in one pass over the tables for all of them."""
    wanted = {target: _Wanted.of(target) for target in targets}
    found: dict[str, dict[str, Page]] = {target: {} for target in targets}
    for root in roots(graph):
        left = {target: wanted[target] for target in found if all_roots or not found[target]}
        if not left:
            break
        for target, pages in _pages_of(root, left).items():
            for page in pages:
                known = found[target].setdefault(page.doc_id or f"{root.folder} {page.url}", page)
                # A page that was blocked since is shown where it was a document.
                if known.warc_file is None and page.warc_file is not None:
                    found[target][page.doc_id or ""] = page
    return {
        target: sorted(pages.values(), key=lambda page: (page.url or "", page.doc_id or ""))
        for target, pages in found.items()
    }


@dataclass(frozen=True)
class _Wanted:
    """What a target may be: a doc_id, and a URL.

    Attributes:
        urls: the page's URLs in normal form (two where no scheme is given); for a name without a host, as it stands.
        hosts: the spellings of the host of which a row's URL must hold one; empty for a name without a host.
    """

    doc_id: str
    urls: frozenset[str]
    hosts: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, target: str) -> _Wanted:
        # Bytes of a command line that are not UTF-8 arrive as lone surrogates, which no table holds.
        target = target.strip().encode("utf8", "replace").decode("utf8")
        spellings = [target] if ":" in target else [f"http://{target}", f"https://{target}"]
        urls = frozenset(canonical_url(spelling) for spelling in spellings)
        host = _host(canonical_url(spellings[0]))
        if not host:
            return cls(target.lower(), frozenset([target]))
        return cls(target.lower(), urls, frozenset([host, _host(spellings[0]) or host]))

    def is_url(self, url: str, canonical: str) -> bool:
        if not self.hosts:
            return url in self.urls
        return canonical in self.urls and any(host in url.lower() for host in self.hosts)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:  # brackets that hold no IPv6 address
        return ""


def _pages_of(root: Artifact, wanted: dict[str, _Wanted]) -> dict[str, list[Page]]:
    """Target to pages: those with this doc_id or, if there are none, with this URL."""
    ids = [each.doc_id for each in wanted.values()]
    by_id: dict[str, list[_Row]] = {}
    for row in _rows(root, f"doc_id in ({_marks(ids)})", ids):
        by_id.setdefault(row.doc_id or "", []).append(row)
    found = {target: _pages(root, by_id.get(each.doc_id, [])) for target, each in wanted.items()}
    rest = {target: each for target, each in wanted.items() if not found[target]}
    return found | (_by_url(root, rest) if rest else {})


@dataclass(frozen=True, order=True)
class _Row:
    """A row of the documents, or (`decided`) of the decisions about them."""

    decided: bool
    row: int
    doc_id: str | None = field(compare=False)
    url: str | None = field(compare=False)
    warc_file: str | None = field(compare=False)


def _rows(root: Artifact, condition: str, values: list[Any]) -> list[_Row]:
    """The rows of the two tables that meet a condition, documents first."""
    known = query(root, "data", f"select row, doc_id, url, warc_file from t where {condition}", values)
    decided = query(root, "decisions", f"select row, doc_id, url, null as warc_file from t where {condition}", values)
    return [_Row(decided=False, **row) for row in known] + [_Row(decided=True, **row) for row in decided]


def _scanned(root: Artifact, condition: str, values: list[Any]) -> list[_Row]:
    """`_rows` for a condition on `url` that no index answers: of every row only its URL is read, and the rest of those
    that meet it. Without `doc_id` a scan of a million rows takes two thirds of the time."""
    found = []
    for table, decided, file in (("data", False, "warc_file"), ("decisions", True, "null")):
        chosen = f"select row from t where {condition}"
        if decided and _kept_are_documents(root):
            hits = sift(root, table, ("row, url", "not kept"), chosen, values)
        else:
            hits = query(root, table, chosen, values)
        numbers = [row["row"] for row in hits]
        if numbers:
            sql = f"select row, doc_id, url, {file} as warc_file from t where row in (select unnest(?))"
            found += [_Row(decided=decided, **row) for row in query(root, table, sql, [numbers])]
    return found


def _kept_are_documents(root: Artifact) -> bool:
    """Whether what the decisions say was kept are the documents: their rows say nothing that those do not."""
    return "kept" in columns(root, "decisions") and root.manifest.counts.kept == rows_of(root)


def _pages(root: Artifact, rows: Iterable[_Row]) -> list[Page]:
    """In table order, documents first and without what the decisions say again of them."""
    rows = sorted(rows)
    known = {row.doc_id for row in rows if not row.decided}
    return [Page(row.doc_id, row.url, root, row.warc_file) for row in rows if not (row.decided and row.doc_id in known)]


def _by_url(root: Artifact, wanted: dict[str, _Wanted]) -> dict[str, list[Page]]:
    """Target to the pages whose URL is the same page: equal in normal form (artifacts.urls).

    Rows that are spelt as the normal form are looked up; of the others those are read that may be the page.
    """
    urls = sorted({url for each in wanted.values() for url in each.urls})
    rows = set(_rows(root, f"url in ({_marks(urls)})", urls))
    hosted = [each for each in wanted.values() if each.hosts]
    if hosted:
        rows.update(_scanned(root, *_oddly_spelt(hosted)))
    by_url: dict[str, list[tuple[str, _Row]]] = {}
    for row in rows:
        for key in {row.url or "", canonical := canonical_url(row.url or "")}:
            by_url.setdefault(key, []).append((canonical, row))
    return {
        target: _pages(
            root,
            {
                row
                for url in each.urls
                for canonical, row in by_url.get(url, [])
                if each.is_url(row.url or "", canonical)
            },
        )
        for target, each in wanted.items()
    }


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


# Conditions for one URL each make the scan three times as fast; for many, the text of the query would grow.
FEW = 4
# What urlsplit passes over inside a URL, and percent-encoded characters: anything may be spelt with them.
HIDING = " or ".join(f"contains(url, {text})" for text in ("'%'", "chr(9)", "chr(10)", "chr(13)"))


def _oddly_spelt(wanted: Sequence[_Wanted]) -> tuple[str, list[Any]]:
    """A condition, and its values, that every row with one of these URLs meets whose URL is not in normal form."""
    plain, values = "url is not null and not regexp_full_match(url, ?)", [PLAIN]
    if len(wanted) > FEW:
        return plain, values
    parts, found = [], []
    for each in wanted:
        hosts, run = sorted(each.hosts), longest_run(next(iter(each.urls)))
        parts.append("(" + " or ".join(["contains(lower(url), ?)"] * len(hosts)) + ")")
        found += hosts
        if run:
            parts[-1] += f" and (contains(url, ?) or {HIDING})"
            found.append(run)
    return f"({' or '.join(parts)}) and {plain}", found + values


def longest_run(canonical: str) -> str:
    """The longest piece of a URL's path or query that stands letter by letter in every spelling of it, but for those
    with characters of `HIDING`."""
    path = canonical.partition("://")[2].partition("/")[2]
    return max(re.split(r"%[0-9A-F]{2}|[/?]", path), key=len)
