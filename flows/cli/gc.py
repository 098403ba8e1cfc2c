"""`gc`: what no kept run reaches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from artifacts.errors import UserError
from flows import show
from flows.cli.app import STORE, JsonOption, StoreOption, app, place_of, print_json
from flows.screen import plain

# Where `publish` writes: here, or in the checkout.
PUBLISHED = Path("data_manifests/published")
OF_CHECKOUT = Path(__file__).resolve().parents[2] / PUBLISHED


@app.command("gc")
def collect(
    keep_last: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep the newest N successful runs and those that failed since"),
    ] = None,
    drop_run: Annotated[list[str] | None, typer.Option(metavar="ID", help="Do not keep this run")] = None,
    published: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Published runs, which are always kept. Default: data_manifests/published"),
    ] = None,
    unrecorded: Annotated[bool, typer.Option("--unrecorded", help="Also artifacts that no recorded run names")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also checkpoints of what was never finished")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what is listed; without it nothing is changed")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """List what no kept run reaches, and with --remove take it away."""
    from artifacts.gc import gc

    for folder in published or ():
        if not folder.exists():
            raise UserError(f"--published {folder}: no such folder")
    found = gc(
        place_of(store),
        keep_last=keep_last,
        drop_runs=drop_run or (),
        published=published or [folder for folder in (PUBLISHED, OF_CHECKOUT) if folder.is_dir()],
        unrecorded=unrecorded,
        unfinished=unfinished,
        remove=remove,
    )
    if as_json:
        print_json(found)
    else:
        gc_text(found)


def gc_text(found: Mapping[str, Any]) -> None:
    columns = ("artifact", "bytes", "because")
    if found["artifacts"]:
        show._table(columns, [[row[name] for name in columns] for row in found["artifacts"]], ("bytes",))
    for left in found["leftovers"]:
        show.out.print(plain(f"{left['path']}  {left['bytes']}  {left['because']}"))
    for problem in found["problems"]:
        show.out.print(plain(f"nothing can be removed: {problem}"))
    if found["unrecorded"]:
        show.out.print(plain(f"kept, though no recorded run names them: {', '.join(found['unrecorded'])}"))
    count = (
        f"{len(found['artifacts'])} artifacts and {len(found['leftovers'])} leftovers, {found['bytes'] / 1e6:.1f} MB"
    )
    end = "removed" if found["removed"] else "can go (--remove takes them away)"
    show.out.print(f"{count} {end}; {found['kept']} artifacts of {len(found['runs']['kept'])} runs stay")
