"""Sending artifacts to Prefect's UI. What cannot be shown never fails a run: it is logged, once."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class Shown:
    """One artifact. `key` stays the same over runs, so that the UI keeps its history; `body` is Markdown, or the rows
    of a table. `description` is what the list of artifacts says of it."""

    key: str
    body: str | list[dict[str, Any]]
    description: str


Maker = Callable[[], Shown | None]


def publish(makers: Sequence[Maker], log: Log) -> None:
    """Make and send artifacts of the flow or task run that this is called in. A maker may have nothing to show.

    One that cannot be made is passed over. After one that cannot be sent no other is tried: a server that does not
    answer costs the client's retries each time.
    """
    for make in makers:
        try:
            shown = make()
        except Exception as error:
            log.warning("an artifact of the UI could not be made: %s: %s", type(error).__name__, error)
            continue
        if shown is None:
            continue
        try:
            _send(shown)
        except Exception as error:
            log.warning("%s could not be shown in the UI: %s: %s", shown.key, type(error).__name__, error)
            return


def _send(shown: Shown) -> None:
    if isinstance(shown.body, str):
        create_markdown_artifact(shown.body, key=shown.key, description=shown.description)
    else:
        create_table_artifact(shown.body, key=shown.key, description=shown.description)


def key_of(stage: str, what: str) -> str:
    """An artifact's key: Prefect takes lower-case letters, digits and dashes."""
    return f"{stage.replace('_', '-')}-{what}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> str:
    """A table in Markdown; columns named in `numbers` stand to the right, None is a dash."""
    rule = ["--:" if column in numbers else "---" for column in columns]
    lines = [columns, rule, *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as text in Markdown. Names come from configs and files: none of it may become markup."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = html.escape(" ".join(str(value).split()), quote=False)
    for mark in "\\`*_[]|~":
        text = text.replace(mark, f"\\{mark}")
    return text


def copyable(text: str) -> str:
    """Text as a block to copy from: browsers open no `file://` link on a page that came from a server."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def share(part: int | None, whole: int | None) -> str | None:
    """A share in percent; None if there is nothing to divide by."""
    return f"{part / whole:.1%}" if part is not None and whole else None


def account(rows_in: int | None, kept: int | None, dropped: int | None, failed: int | None) -> str:
    """A row account in words; empty for a stage that reads no rows."""
    if rows_in is None:
        return ""
    parts = [f"{kept or 0:,} kept"]
    parts += [f"{number:,} {word}" for number, word in ((dropped, "dropped"), (failed, "failed")) if number]
    return f"{rows_in:,} rows: {', '.join(parts)}"
