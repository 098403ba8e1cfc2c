"""Commands of the interface that come in a later version: known to the program, and refused with one line."""

from __future__ import annotations

from typing import Annotated

import typer

from artifacts.errors import UserError
from flows.cli.app import app


def _later(name: str, what: str) -> None:
    @app.command(name, help=f"{what} (comes later)", context_settings={"ignore_unknown_options": True})
    def later(words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise UserError(f"crawl2chat {name} ({what}) comes in a later version")


for _name, _what in {
    "size": "compute-optimal size, memory and time",
    "label": "the page on which people rank responses or write demonstrations",
}.items():
    _later(_name, _what)
