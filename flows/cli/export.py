"""`export`: an artifact for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import STORE, JsonOption, RefArgument, StoreOption, app, existing, print_json


@app.command()
def export(
    ref: RefArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make")],
    to: Annotated[str, typer.Option("--to", metavar="hf|croissant|openlineage", help="For which program")],
    force: Annotated[bool, typer.Option("--force", help="Replace DIR if it is not empty")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy files, even where hard links would do")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Export an artifact as a Hugging Face folder, a Croissant dataset or OpenLineage events."""
    from artifacts.exchange.export import export as write

    made = write(existing(store), ref, to, folder, force=force, copy=copy)
    if as_json:
        print_json({"path": str(made.path), "linked": made.linked, "copied": made.copied})
        return
    sys.stdout.write(f"export {made.path}\n")
    if made.linked:
        sys.stdout.write(
            f"{made.linked} files are hard links to the store: read them, do not edit them (--copy copies)\n"
        )
    if made.copied:
        sys.stdout.write(f"{made.copied} files were copied\n")
