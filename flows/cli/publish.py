"""`publish`: a small JSON of a run for git, which others can hold against a store (`verify --published`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import STORE, JsonOption, StoreOption, app, existing, print_json

FOLDER = "data_manifests"


@app.command()
def publish(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique beginning of it, or `latest`")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: data_manifests/published, here or in the checkout"),
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a small JSON of a run: what it read, did and made, with hashes, licences and figures."""
    from artifacts.audit.published import write_published
    from artifacts.sources import ROOT

    top = Path(FOLDER) if Path(FOLDER).is_dir() else ROOT / FOLDER
    path = write_published(existing(store), run, out if out is not None else top / "published")
    if as_json:
        print_json({"path": str(path)})
    else:
        sys.stdout.write(f"{path}\n")
