"""The rows of a table that a blocklist may name, found in DuckDB; which of them it names `Blocklist.keys` tells.

Hosts and doc_ids are compared here; the rest of a URL has too many spellings.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Sequence
from typing import Any

from artifacts.audit.blocklist import Blocklist
from artifacts.audit.pages import FEW as FEW_URLS
from artifacts.audit.pages import HIDING, longest_run
from artifacts.query import columns, query, sift
from artifacts.store import Artifact
from artifacts.urls import DEFAULT_PORTS, PLAIN, PORTLESS, canonical_url, place

Condition = tuple[str, list[Any]]  # SQL, and its values

# A condition a host makes one scan of plain comparisons; for many, the hosts of a table are listed first.
FEW = 16
# So many values are given one by one, which lets bloom filters answer.
MARKS = 64

AUTHORITY = r"regexp_extract(lower(url), '^[\x00-\x20<]*[a-z][a-z0-9+.\-]*://([^/?#]*)', 1)"
# URLs whose host may be spelt with other letters than its own: a percent-encoded or foreign one, a backslash for a
# slash, and what parsers of URLs pass over anywhere.
_HIDDEN = r"//[^/?#]*%|[^\x00-\x7f]|[\\\t\n\r]"
_OUTSIDE = f"{string.whitespace}<>"  # what may stand around a URL


def rows_named(artifact: Artifact, table: str, blocklist: Blocklist, names: Sequence[str]) -> list[dict[str, Any]]:
    """These columns (null where the table has no such one) of the rows that the list may name, in table order. Of
    decisions only rows that were not kept: the others are documents."""
    have = columns(artifact, table)
    if "url" not in have:
        return []
    chosen = ", ".join(name if name in have else f"null as {name}" for name in names)
    by_url, values = _by_url(artifact, table, blocklist)
    ids = blocklist.values("doc_id") if "doc_id" in have else []
    by_id, given = among("doc_id", ids) if ids else ("false", [])
    if blocklist.values("host") and table != "decisions":  # so many rows that all that is wanted is read at once
        return query(artifact, table, f"select {chosen} from t where ({by_id}) or {by_url}", [*given, *values])
    # doc_ids are looked up, and of all other rows nothing but their URLs is read: half the time for one page.
    kept = " and not kept" if table == "decisions" else ""
    found = query(artifact, table, f"select row from t where {by_id}{kept}", given) if ids else []
    if by_url != NOTHING:
        sql = f"select row from t where {by_url}"
        if table == "decisions":
            found += sift(artifact, table, ("row, url", "not kept"), sql, values)
        else:
            found += query(artifact, table, sql, values)
    numbers = sorted({row["row"] for row in found})
    sql = f"select {chosen} from t where row in (select unnest(?::bigint[])) order by row"
    return query(artifact, table, sql, [numbers]) if numbers else []


def among(column: str, values: Sequence[str]) -> Condition:
    """That a column holds one of these values."""
    if len(values) > MARKS:
        return f"{column} in (select unnest(?::varchar[]))", [list(values)]
    return f"{column} in ({', '.join('?' * len(values))})", list(values)


NOTHING = "false"


def _by_url(artifact: Artifact, table: str, blocklist: Blocklist) -> Condition:
    """What every row meets whose URL the list names."""
    parts: list[Condition] = []
    nameless = [url.strip(_OUTSIDE) for url in blocklist.values("url") if not _host_of(url)]
    if nameless:
        condition, values = among("trim(url, ?)", nameless)
        parts.append((condition, [_OUTSIDE, *values]))
    if urls := _urls_in_normal_form(blocklist):
        parts.append(among("url", urls))
    # Of a host that is not listed itself, only rows are read whose URL is spelt in another way.
    listed_hosts = {_host_of(f"any://{site}") for site in blocklist.values("host")}
    exact, any_port = _hosts_of_urls(blocklist)
    for hosts, spelt in ((listed_hosts, None), (exact, PLAIN), (any_port, PORTLESS)):
        if hosts:
            condition, values = _of_hosts(artifact, table, hosts, spelt is None)
            if spelt:
                path, runs = _of_paths(blocklist)
                condition = f"({path}) and ({condition}) and not regexp_full_match(url, ?)"
                values = [*runs, *values, spelt]
            parts.append((condition, values))
    return (
        " or ".join(f"({condition})" for condition, _ in parts) or NOTHING,
        [value for _, values in parts for value in values],
    )


def _urls_in_normal_form(blocklist: Blocklist) -> list[str]:
    """The URLs that the entries name, as rows have them that `PLAIN` matches; entries without a port: `PORTLESS`."""
    found = [url for url in blocklist.values("url") if _host_of(url)]
    for bare in blocklist.values("bare"):
        host, port, rest = place(f"any://{bare}") or ("", "", "")
        for scheme, default in DEFAULT_PORTS.items() if host else ():
            found.append(f"{scheme}://{host}{f':{port}' if port not in ('', default) else ''}{rest}")
    return found


def _of_hosts(artifact: Artifact, table: str, hosts: Collection[str], below: bool) -> Condition:
    """What every row meets whose URL is of one of these hosts.

    Args:
        below: whether the hosts below them count too.
    """
    if len(hosts) > FEW:
        written = _authorities(artifact, table, hosts, below)
        return f"regexp_matches(url, ?) or {AUTHORITY} in (select unnest(?::varchar[]))", [_HIDDEN, written]
    # One expression that reads a URL once: half the time of a condition a character.
    named = "|".join(map(re.escape, sorted(hosts)))
    pattern = rf"(?i)(?:^|[^a-z0-9_\-])(?:{named})(?:[^a-z0-9_\-]|$)|{_HIDDEN}"
    return "regexp_matches(url, ?)", [pattern]


def _of_paths(blocklist: Blocklist) -> Condition:
    """What every row meets whose URL may end as one of the few that are listed: cheaper to see than its host."""
    runs = [longest_run(url) for url in blocklist.values("url")]
    runs += [longest_run(f"any://{bare}") for bare in blocklist.values("bare")]
    if len(runs) > FEW_URLS or not all(runs):
        return "true", []
    return " or ".join([*(["contains(url, ?)"] * len(runs)), HIDING]), runs


def _hosts_of_urls(blocklist: Blocklist) -> tuple[set[str], set[str]]:
    """The hosts of URLs that are listed: (with a scheme or a port, without both and so on any port)."""
    exact = {_host_of(url) for url in blocklist.values("url")}
    any_port: set[str] = set()
    for bare in blocklist.values("bare"):
        host, port, _ = place(f"any://{bare}") or ("", "", "")
        (exact if port else any_port).add(host)
    return exact - {""}, any_port - {""}


def _authorities(artifact: Artifact, table: str, hosts: Collection[str], below: bool) -> list[str]:
    """The authorities (host, port, user) in a table that are of one of these hosts, as they are written there."""
    above = Blocklist(f"*.{host}" for host in hosts if below)
    found = []
    for row in query(artifact, table, f"select distinct {AUTHORITY} as authority from t where url is not null"):
        host = _host_of(canonical_url(f"http://{row['authority'].strip(_OUTSIDE)}/"))
        if host and (host in hosts or above.blocks_host(host)):
            found.append(row["authority"])
    return found


def _host_of(url: str) -> str:
    found = place(url)
    return found[0] if found else ""
