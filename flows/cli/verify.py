"""`verify`: is the store what its manifests say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifacts.errors import UserError
from flows import show
from flows.cli.app import STORE, JsonOption, StoreOption, app, existing, print_json


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="Artifacts; default: all")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every artifact of the store")] = False,
    published: Annotated[
        Path | None, typer.Option("--published", metavar="FILE", help="Hold a published run against the store")
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, row accounts, the chain of inputs and the records of runs."""
    from artifacts.audit.verify import verify as check

    place = existing(store)
    if every + bool(refs) + (published is not None) > 1:
        raise UserError("verify: give artifacts, --all or --published FILE, only one of them")
    if published is None:
        report = check(place, refs or None)
    else:
        from artifacts.audit.verify_published import verify_published

        report = verify_published(place, published)
    found = {
        "ok": report.ok,
        "checked": report.checked,
        "problems": [vars(problem) for problem in report.problems],
        "notes": [vars(note) for note in report.notes],
        "chain": {"entries": report.entries, "heads": report.heads},
    }
    if as_json:
        print_json(found)
    else:
        show.verify_text(found)
    if not report.ok:
        raise typer.Exit(1)
