"""`ls`, `show`, `report`, `chat`: looking at what a store holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from artifacts.errors import UserError
from flows import show
from flows.cli.app import STORE, JsonOption, RefArgument, StoreOption, app, existing, place_of, print_json


@app.command()
def ls(
    stage: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="Only this stage's artifacts")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """List artifacts, oldest first within a stage."""
    place = place_of(store)
    if stage is not None and stage not in place.stages():
        from flows.registry import BY_NAME

        if stage not in BY_NAME:
            raise UserError(f"no stage {stage!r}; there are {', '.join(BY_NAME)}")
    rows = [show.artifact_row(artifact) for artifact in place.artifacts(stage)]
    if as_json:
        print_json({"artifacts": rows})
    else:
        show.artifact_table(rows)


@app.command("show")
def show_manifest(ref: RefArgument, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show one artifact's manifest."""
    from artifacts.audit.licences import licences_of

    artifact = existing(store).resolve(ref)
    manifest = {
        **artifact.manifest.model_dump(mode="json"),
        "path": artifact.path,
        "licences": licences_of(artifact),
    }
    if as_json:
        print_json(manifest)
    else:
        show.manifest_text(manifest)


@app.command()
def report(
    target: Annotated[str, typer.Argument(metavar="RUN|REF", help="A run's id, `latest`, or an artifact")] = "latest",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Default: in reports/ of the store, or of its local cache"),
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML file with plots."""
    path = show.write_report_of(existing(store), target, out)
    if as_json:
        print_json({"path": path})
    else:
        sys.stdout.write(f"report {path}\n")


@app.command()
def chat(
    ref: RefArgument,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens")] = 128,
    seed: Annotated[int, typer.Option(help="Same seed, same answers")] = 0,
    store: StoreOption = STORE,
) -> None:
    """Talk to a model of the store. Reads questions from standard input, line by line."""
    from flows.chat import chat as talk

    talk(existing(store).resolve(ref), temperature, max_tokens, seed)
