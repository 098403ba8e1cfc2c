"""`diff`: what differs between two artifacts of a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from flows import show
from flows.cli.app import STORE, JsonOption, StoreOption, app, existing, print_json
from flows.screen import plain

SHOWN = 5  # examples, to a person; --json has up to --limit
LONGEST = 60  # characters of a value


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="REF", help="The artifact before: stage@recipe, a prefix of it")],
    b: Annotated[str, typer.Argument(metavar="REF", help="The artifact after")],
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Most examples of each kind of difference")] = 20,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two artifacts of a stage: config, inputs, counts, rows."""
    from artifacts.audit.diff import diff as compare

    found = compare(existing(store), a, b, limit=limit)
    if as_json:
        print_json(found)
    else:
        diff_text(found)


def diff_text(found: Mapping[str, Any]) -> None:
    for side in ("a", "b"):
        about = found[side]
        run = f", run {about['run']}" if about["run"] else ""
        _line(f"{side}: {about['artifact']}  content {about['content'][:16]}  {about['finished']}{run}")
    _line("equal contents" if found["same"] else "different contents")
    for part in ("config", "outside_recipe", "code", "environment"):
        _section(part.replace("_", " "), [f"{row['field']}  {row['a']} -> {row['b']}" for row in found[part]])
    _section("inputs", [f"{r['name']}  {_contents(r['a'])} -> {_contents(r['b'])}" for r in found["inputs"]])
    sources = found["sources"]
    lines = [f"{kind} {row['name']}  {row['sha256'][:16]}" for kind in ("added", "removed") for row in sources[kind]]
    lines += [f"changed {r['name']}  {r['a']['sha256'][:16]} -> {r['b']['sha256'][:16]}" for r in sources["changed"]]
    _section("sources", lines)
    for part in ("counts", "reasons", "metrics"):
        _section(part, [f"{row['name']}  {row['a']} -> {row['b']}{_delta(row['delta'])}" for row in found[part]])
    for table in found["tables"]:
        _table_text(table)


def _table_text(table: Mapping[str, Any]) -> None:
    rows = table["rows"]
    if table["same"]:
        _line(f"table {table['table']}: the same {rows['a']} rows")
        return
    by = " and ".join(table["key"]) if table["key"] else "the row's number"
    _line(
        f"table {table['table']}: {rows['a']} -> {rows['b']} rows; by {by}: {table['only_a']} only in a, "
        f"{table['only_b']} only in b, {table['changed']} changed",
    )
    for column, count in table["columns"].items():
        _line(f"  {column} differs in {count}")
    for fate in table["fates"]:
        _line(f"  {fate['a']} -> {fate['b']}: {fate['rows']}")
    for kind in ("only_a", "only_b"):
        for example in table["examples"][kind][:SHOWN]:
            _line(f"  only in {kind[-1]}: {_key(example)}{_url(example['row'])}")
    for example in table["examples"]["changed"][:SHOWN]:
        values = "; ".join(
            f"{name} {_short(value['a'])} -> {_short(value['b'])}" for name, value in example["columns"].items()
        )
        _line(f"  changed: {_key(example)}  {values}")


def _section(name: str, lines: Sequence[str]) -> None:
    if lines:
        _line(f"{name}:")
        for line in lines:
            _line(f"  {line}")


def _line(text: str) -> None:
    show.out.print(plain(text))


def _contents(entries: Sequence[Mapping[str, str]]) -> str:
    return ", ".join(f"{entry['artifact']} ({entry['content'][:16]})" for entry in entries) or "none"


def _delta(delta: float | None) -> str:
    return "" if delta is None else f"  ({delta:+g})"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _key(example: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in example["key"].values())


def _url(row: Mapping[str, Any]) -> str:
    return f"  {row['url']}" if row.get("url") else ""
