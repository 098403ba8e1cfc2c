"""Finding pages in a store: by URL in any spelling, or by doc_id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pyarrow.parquet as pq

from artifacts.errors import RunError
from artifacts.graph import StoreGraph
from artifacts.store import Artifact
from artifacts.urls import canonical_url


@dataclass(frozen=True)
class Page:
    """One fetch of a page: the same URL fetched twice is two. `warc_file` is None for what was never a document."""

    doc_id: str | None
    url: str | None
    root: Artifact
    warc_file: str | None = None


def query(artifact: Artifact, table: str, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Rows of a query over one table of an artifact, which is called `t` in it; none if it has no such table.

    Raises:
        RunError: the table cannot be read.
    """
    files = [str(path) for path in artifact.files(table)]
    if not files:
        return []
    try:
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            source = connection.read_parquet(files)  # noqa: F841 (DuckDB finds it by its name)
            connection.execute("create temp view t as select * from source")
            found = connection.execute(sql, list(values))
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as error:
        raise RunError(
            f"{artifact.ref}: its table {table} cannot be read ({error}); see `crawl2chat verify`"
        ) from error


@cache
def columns(artifact: Artifact, table: str = "data") -> frozenset[str]:
    """The column names of one of its tables; empty if it has none.

    Raises:
        RunError: the table is there and cannot be read. An answer that passes over it would be a wrong one.
    """
    try:
        return frozenset(name for path in artifact.files(table)[:1] for name in pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{artifact.ref}: its table {table} cannot be read ({error}); see `crawl2chat verify`"
        ) from error


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
    found: dict[str, Page] = {}
    # Bytes of a command line that are not UTF-8 arrive as lone surrogates, which no table holds.
    wanted = target.strip().encode("utf8", "replace").decode("utf8")
    for root in roots(graph):
        for page in _pages_of(root, wanted):
            found.setdefault(page.doc_id or f"{root.folder} {page.url}", page)
        if found and not all_roots:
            break
    return sorted(found.values(), key=lambda page: (page.url or "", page.doc_id or ""))


def _pages_of(root: Artifact, target: str) -> list[Page]:
    known = query(root, "data", "select doc_id, url, warc_file from t where doc_id = ?", [target.lower()])
    dropped = query(root, "decisions", "select doc_id, url from t where doc_id = ?", [target.lower()])
    if not known and not dropped:
        known, dropped = _by_url(root, target)
    pages = [Page(row["doc_id"], row["url"], root, row["warc_file"]) for row in known]
    seen = {page.doc_id for page in pages}
    return pages + [Page(row["doc_id"], row["url"], root) for row in dropped if row["doc_id"] not in seen]


def _by_url(root: Artifact, target: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the two tables whose URL is the same page: equal in normal form (artifacts.urls)."""
    spellings = [target] if ":" in target else [f"http://{target}", f"https://{target}"]
    wanted = {canonical_url(spelling) for spelling in spellings}
    host = _host(next(iter(wanted)))
    if not host:
        return _exactly(root, target)
    # Only the host is compared in the database: the rest of a URL has too many spellings there.
    stated = _host(spellings[0]) or host
    near = "contains(lower(url), ?) or contains(lower(url), ?)"
    tables = (
        query(root, "data", f"select doc_id, url, warc_file from t where {near}", [host, stated]),
        query(root, "decisions", f"select doc_id, url from t where url is not null and ({near})", [host, stated]),
    )
    known, dropped = ([row for row in rows if canonical_url(row["url"] or "") in wanted] for rows in tables)
    return known, dropped


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:  # brackets that hold no IPv6 address
        return ""


def _exactly(root: Artifact, target: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return (
        query(root, "data", "select doc_id, url, warc_file from t where url = ?", [target]),
        query(root, "decisions", "select doc_id, url from t where url = ?", [target]),
    )
