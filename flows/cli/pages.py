"""`why`, `trace`: a page's fate, and what came of it."""

from __future__ import annotations

from typing import Annotated

import typer

from artifacts.errors import RunError
from flows import show
from flows.cli.app import STORE, JsonOption, StoreOption, app, existing, print_json


@app.command()
def why(
    page: Annotated[str, typer.Argument(metavar="URL|DOC_ID")], store: StoreOption = STORE, as_json: JsonOption = False
) -> None:
    """Tell a page's fate, stage by stage."""
    from artifacts.audit.questions import why as ask

    found = ask(existing(store), page)
    if as_json:
        print_json(found)
    else:
        show.why_text(found)
    if not found["documents"]:
        raise RunError(f"{page!r}: no artifact of {store} has seen this page")


@app.command()
def trace(
    target: Annotated[str, typer.Argument(metavar="URL|DOC_ID|PROMPT_ID|FILE:LINE|REF")],
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Trace a page, prompt or ranking down to optimizer steps and models, or a model up to its sources."""
    from artifacts.audit.questions import trace as ask

    found = ask(existing(store), target)
    if as_json:
        print_json(found)
    else:
        show.trace_text(found)
    if not found["documents"] and not found["sources"] and not found["models"]:
        raise RunError(f"{target!r}: nothing in {store} has seen it")
