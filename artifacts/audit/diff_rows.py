"""Rows that differ between two tables of one kind, by key.

Where both tables have the same keys in the same order (as decisions about the same documents have), rows face each
other by number: only the columns whose bytes differ are decoded, and their values compared. Else each side is read once
into (hash of the key, row number, a hash a column); all else is joins of integers. The hashes have 64 bits: that any
two of a million keys share one has a probability below 10^-7.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import duckdb

from artifacts.audit.chunks import rows_of_files, varying
from artifacts.errors import RunError
from artifacts.query import columns, connect, text
from artifacts.store import Artifact

# The first of these that a table has names its rows. Sequences are their places: the order of training is the table.
KEYS = (
    ("doc_a", "doc_b"),
    ("doc_id",),
    ("step", "prompt_id"),
    ("step", "name"),
    ("prompt_id", "annotator", "axis"),
    ("prompt_id",),
    ("url",),
)
BLOCK = 1 << 28  # bytes of files that are compared at once: one side of them is held in memory, decoded
LONGEST = 200  # characters of a value in an example
NUMBER = "file_row_number"
THREADS = min(16, os.cpu_count() or 1)
GROUP = 1 << 13  # rows of a row group (`artifacts.writer`)
Row = dict[str, Any]


def diff_table(a: Artifact, b: Artifact, name: str, limit: int) -> dict[str, Any]:
    """What differs between two artifacts' tables of one name: see `artifacts.audit.diff.diff`.

    Returns:
        `table`, `same`, `rows` (of a and b), `key` (columns; null: the row's number), `only_a`, `only_b`, `changed`
        (rows), `columns` (rows in which a column differs, for those that both have), `columns_only` (of a and b),
        `fates` (of decisions: kept or dropped and why, before and after, with the number of rows) and `examples`.
    """
    same = _hashes(a, name) == _hashes(b, name)
    have: tuple[frozenset[str], frozenset[str]] = (
        (frozenset(), frozenset()) if same else (columns(a, name), columns(b, name))
    )
    found: dict[str, Any] = {
        "table": name,
        "same": same,
        "rows": {"a": _count(a, name), "b": _count(b, name)},
        "key": None,
        **{"only_a": 0, "only_b": 0, "changed": 0, "columns": {}},
        "columns_only": {"a": sorted(have[0] - have[1]), "b": sorted(have[1] - have[0])},
        "fates": [],
        "examples": {"only_a": [], "only_b": [], "changed": [], "fates": []},
    }
    if not same:
        with _Comparison(a, b, name) as compared:
            found |= compared.summary() | {"examples": compared.examples(limit)}
    return found


def _hashes(artifact: Artifact, table: str) -> list[str]:
    files = artifact.manifest.files
    return [files[path].sha256 for path in sorted(files) if path.startswith(f"{table}/") and path.endswith(".parquet")]


def _count(artifact: Artifact, table: str) -> int:
    return sum(entry.rows or 0 for path, entry in artifact.manifest.files.items() if path.startswith(f"{table}/"))


def key_of(names: Iterable[str]) -> tuple[str, ...]:
    """The columns that name a row of a table with these columns; none where its place does."""
    have = set(names)
    return () if "spans" in have else next((key for key in KEYS if have >= set(key)), ())


class _Comparison:
    """Two tables in DuckDB: `d`, the rows that differ. Where rows do not face each other by number it is made of `a`
    and `b` (key, occurrence, row, a hash a column)."""

    def __init__(self, a: Artifact, b: Artifact, table: str) -> None:
        self._artifacts, self._table = {"a": a, "b": b}, table
        self._both = columns(a, table) & columns(b, table)
        self._key = key_of(self._both)
        self._facing = not self._key
        self._columns = sorted(self._both - set(self._key))
        self._ends: tuple[int, int] | None = None  # of the rows that may differ
        self._kinds: dict[str, dict[str, str]] = {}
        self._connection = connect()

    def __enter__(self) -> _Comparison:
        try:
            self._kinds = self._types()
            self._face()
            if self._facing:
                self._compare()
            else:
                for side in self._artifacts:
                    self._load(side)
                self._join()
        except (duckdb.Error, OSError) as error:
            self._connection.close()
            said = " or ".join(artifact.ref for artifact in self._artifacts.values())
            raise RunError(
                f"the table {self._table} of {said} cannot be read ({error}); see `crawl2chat verify`"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _face(self) -> None:
        """Find out whether rows face each other by number; if so, only what may differ is compared."""
        a, b = (self._artifacts[side].files(self._table) for side in "ab")
        differ = varying(a, b, sorted(self._both), self._key)
        self._facing = differ is not None
        if differ is not None:
            self._columns = [column for column in self._columns if column in differ]
            places = list(differ.values())
            self._ends = min((place[0] for place in places), default=0), max((place[1] for place in places), default=0)

    def _compare(self) -> None:
        """`d` of rows that face each other, some at a time. Comparing token lists takes a third of hashing them, and a
        positional join an eighth of one by the row's number. Of decisions it holds the verdicts too."""
        flags = "".join(f", c{number} boolean" for number in range(len(self._columns)))
        verdicts = ", ka boolean, reason_a varchar, kb boolean, reason_b varchar" if self._decides() else ""
        self._run(f"create temp table d (ra bigint, rb bigint{flags}{verdicts})")
        differ = [f"a.v{number} is distinct from b.v{number}" for number in range(len(self._columns))]
        chosen = "".join(f", a.r is not null and b.r is not null and {test}" for test in differ)
        chosen += ", a.kept, a.reason, b.kept, b.reason" if verdicts else ""
        where = " or ".join(["a.r is distinct from b.r", *differ])
        pieces = self._pieces()
        # A positional join runs in one thread: several run beside each other, if the order of all is asked for last.
        for some in (pieces[at : at + THREADS] for at in range(0, len(pieces), THREADS)):
            parts = []
            for first, last in some:
                a, b = (self._piece(side, first, last) for side in "ab")
                parts.append(f"select a.r as ra, b.r as rb{chosen} from ({a}) a positional join ({b}) b where {where}")
            self._run(f"insert into d select * from ({' union all '.join(parts)}) order by ra, rb")
        if self._one("select count(*) from d where ra <> rb"):
            raise RunError(f"the rows of the table {self._table} were not read in their order: a fault of DuckDB's")

    def _pieces(self) -> list[tuple[int, int]]:
        """The rows to compare, cut where a file of either side begins and so that `THREADS` pieces fit in memory."""
        files = [artifact.files(self._table) for artifact in self._artifacts.values()]
        sizes = [rows_of_files(paths) for paths in files]
        weight = sum(path.stat().st_size for paths in files for path in paths) / (sum(map(sum, sizes)) or 1)
        start, end = self._ends or (0, 0)
        end = min(end, max(map(sum, sizes)))
        rows = min(int(BLOCK / THREADS / (weight or 1)), (end - start) // THREADS + GROUP - 1)
        rows = max(1, rows // GROUP) * GROUP  # whole row groups: none is read twice
        cuts = {*range(start, end, rows), *(first for side in sizes for first in accumulate(side)), end}
        return list(pairwise(sorted(cut for cut in cuts if start <= cut <= end)))

    def _piece(self, side: str, first: int, last: int) -> str:
        """SQL for some rows of a file of a side, in order: the row's number `r`, and the values of the columns."""
        given = [f"to_json({_name(column)})" if self._recast(column) else _name(column) for column in self._columns]
        more = ["kept", "reason"] if self._decides() else []
        values = "".join(f", {value} as v{number}" for number, value in enumerate(given)) + "".join(
            f", {n}" for n in more
        )
        starts = accumulate(rows_of_files(self._artifacts[side].files(self._table)), initial=0)
        for (read, row), (begin, end) in zip(self._reads(side), pairwise(starts), strict=True):
            if begin <= first < end:
                return f"select {row} as r{values} from {read} where {row} >= {first} and {row} < {last}"
        nothing = [*(f"v{number}" for number in range(len(given))), *more]
        return f"select 0::bigint as r{''.join(f', null as {name}' for name in nothing)} limit 0"

    def _load(self, side: str) -> None:
        hashes = "".join(f", {self._hash(column)} as h{number}" for number, column in enumerate(self._columns))
        parts = []
        for read, row in self._reads(side):
            key = f"hash({', '.join(map(_name, self._key))})"
            parts.append(f"select {key} as k, 0 as n, {row} as row{hashes} from {read}")
        if not parts:
            nothing = "".join(f", 0::ubigint as h{number}" for number in range(len(self._columns)))
            parts = [f"select 0::ubigint as k, 0 as n, 0::bigint as row{nothing} limit 0"]
        self._run(f"create temp table {side} as {' union all '.join(parts)}")
        # A record that was read twice has two decisions: they are told apart by their order.
        if self._one(f"select count(*) > count(distinct k) from {side}"):
            numbered = f"select * replace (row_number() over (partition by k order by row) as n) from {side}"
            self._run(f"create or replace temp table {side} as {numbered}")

    def _recast(self, column: str) -> bool:
        """Whether the two sides have other types: what JSON writes alike is equal then (an int32 and an int64)."""
        return bool(self._kinds) and self._kinds["a"].get(column) != self._kinds["b"].get(column)

    def _hash(self, column: str) -> str:
        """SQL for a hash by which values differ. DuckDB's `hash` knows [0] from neither [0, 0] nor, further down, [[0]]
        from [[], [0]], and takes an empty list or a struct of nulls for null: lengths, or JSON, tell them apart."""
        name, kind = _name(column), self._kinds.get("a", {}).get(column, "")
        if self._recast(column) or kind.count("[") > 1 or "(" in kind.removeprefix("DECIMAL("):
            return f"hash(to_json({name}))"
        return f"hash({name}, coalesce(len({name}), -1))" if "[" in kind else f"hash({name})"

    def _types(self) -> dict[str, dict[str, str]]:
        """The types of the columns of each side, as DuckDB names them; nothing where a side has no rows."""
        found = {}
        for side in self._artifacts:
            for read, _ in self._reads(side)[:1]:
                found[side] = {name: kind for name, kind, *_ in self._run(f"describe from {read}").fetchall()}
        return found if len(found) == 2 else {}

    def _reads(self, side: str) -> list[tuple[str, str]]:
        """Each file of a side as SQL reads it, and the number of a row of it in the whole table."""
        files = self._artifacts[side].files(self._table)
        firsts = accumulate(rows_of_files(files) if len(files) > 1 else [0], initial=0)
        return [
            (f"read_parquet({text(path)}, file_row_number = true)", f"file_row_number + {first}" if first else NUMBER)
            for path, first in zip(files, firsts, strict=False)
        ]

    def _join(self) -> None:
        twice = self._one("select max(n) from a") or self._one("select max(n) from b")
        for side in "ab" if twice else "":
            self._run(f"update {side} set n = 1 where n = 0")
        differ = [f"(a.h{number} <> b.h{number})" for number in range(len(self._columns))]
        chosen = "".join(f", {test} as c{number}" for number, test in enumerate(differ))
        self._run(
            f"create temp table d as select a.row as ra, b.row as rb{chosen} from a full join b on a.k = b.k "
            f"and a.n = b.n where a.row is null or b.row is null {''.join(f'or {test}' for test in differ)}"
        )

    def summary(self) -> dict[str, Any]:
        names = ["only_a", "only_b", "changed"]
        sums = [
            "count(*) filter (where rb is null)",
            "count(*) filter (where ra is null)",
            "count(*) filter (where ra is not null and rb is not null)",
            *(f"count(*) filter (where c{number})" for number in range(len(self._columns))),
        ]
        numbers = self._run(f"select {', '.join(sums)} from d").fetchone() or ()
        changed = {column: count for column, count in zip(self._columns, numbers[3:], strict=True) if count}
        found = dict(zip(names, numbers[:3], strict=True))
        return {**found, "key": list(self._key) or None, "columns": changed, "fates": self._fates()}

    def _decides(self) -> bool:
        """Whether these are decisions, of which a verdict may differ."""
        return {"kept", "reason"} <= self._both and not {"kept", "reason"}.isdisjoint(self._columns)

    def _fates(self) -> list[Row]:
        """Of decisions that changed: what was decided before and after, the most frequent change first."""
        if not self._decides():
            return []
        verdict = [name for name in ("kept", "reason") if name in self._columns]
        changed = " or ".join(f"c{self._columns.index(name)}" for name in verdict)
        held = f"select ka, reason_a, kb, reason_b, ra from d where {changed}"
        if not self._facing:
            for side in "ab":
                verdicts = [f"select {row} as row, kept, reason from {read}" for read, row in self._reads(side)]
                self._run(f"create temp table v{side} as {' union all '.join(verdicts)}")
            held = (
                "select va.kept as ka, va.reason as reason_a, vb.kept as kb, vb.reason as reason_b, ra from d "
                f"join va on va.row = ra join vb on vb.row = rb where {changed}"
            )
        rows = self._run(
            f"select ka, reason_a, kb, reason_b, count(*), min(ra) from ({held}) group by all "
            "order by count(*) desc, min(ra)"
        ).fetchall()
        return [{"a": _fate(row[0], row[1]), "b": _fate(row[2], row[3]), "rows": row[4]} for row in rows]

    def examples(self, limit: int) -> dict[str, list[Row]]:
        """Some rows of each kind of difference, in the order of the tables."""
        only = {
            side: [
                row
                for (row,) in self._run(
                    f"select r{side} from d where r{other} is null order by 1 limit {limit}"
                ).fetchall()
            ]
            for side, other in (("a", "b"), ("b", "a"))
        }
        flags = "".join(f", c{number}" for number in range(len(self._columns)))
        both = self._run(
            f"select ra, rb{flags} from d where ra is not null and rb is not null order by ra limit {limit}"
        ).fetchall()
        rows = {
            "a": self._rows("a", [*only["a"], *(row[0] for row in both)]),
            "b": self._rows("b", [*only["b"], *(row[1] for row in both)]),
        }
        changed = []
        for ra, rb, *differ in both:
            old, new = rows["a"][ra], rows["b"][rb]
            names = [name for name, flag in zip(self._columns, differ, strict=True) if flag]
            changed.append(
                self._named(old, ra) | {"columns": {name: {"a": old[name], "b": new[name]} for name in names}}
            )
        return {
            "only_a": [self._named(rows["a"][row], row) | {"row": rows["a"][row]} for row in only["a"]],
            "only_b": [self._named(rows["b"][row], row) | {"row": rows["b"][row]} for row in only["b"]],
            "changed": changed,
        }

    def _named(self, row: Row, number: int) -> Row:
        return {"key": {name: row[name] for name in self._key} if self._key else {"row": number}}

    def _rows(self, side: str, numbers: Sequence[int]) -> dict[int, Row]:
        """Rows by their numbers; only the pages that hold them are read."""
        found: dict[int, Row] = {}
        for read, row in self._reads(side) if numbers else ():
            among = ", ".join(str(number) for number in sorted(numbers))
            rows = self._run(f"select {row}, * exclude (file_row_number) from {read} where {row} in ({among})")
            names = [column[0] for column in rows.description[1:]]
            for number, *values in rows.fetchall():
                found[number] = {name: _short(value) for name, value in zip(names, values, strict=True)}
        return found

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(sql)

    def _one(self, sql: str) -> Any:
        return (self._run(sql).fetchone() or (None,))[0]


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _fate(kept: bool | None, reason: str | None) -> str:
    word = "kept" if kept else "dropped"
    return f"{word}: {reason}" if reason and reason != word else word


def _short(value: Any) -> Any:
    """A value as JSON can say it, cut where it is long."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}… ({len(value)} characters)"
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value[:8]] + ([f"… ({len(value)} in all)"] if len(value) > 8 else [])
    return value
