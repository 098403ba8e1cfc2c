"""The typer application, and what its commands share: options, finding the store, printing JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from artifacts.errors import UserError
from flows.screen import Screen

if TYPE_CHECKING:
    from artifacts.store import Store

# The help lists commands as a newcomer meets them, not as their modules are imported.
ORDER = (
    *("run", "stage", "plan", "up", "ls", "show", "report", "chat"),
    *("verify", "why", "trace", "takedown", "diff", "lineage", "publish", "export", "gc"),
)


class InOrder(typer.core.TyperGroup):
    """The commands in `ORDER`, then the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    name="crawl2chat",
    cls=InOrder,
    help="From a raw web crawl to a chat model aligned with PPO-ptx, rerun stage by stage and audited row by row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Messages are not folded at the width of a pipe: a path that is cut in two names nothing.
errors = Screen(stderr=True, highlight=False, soft_wrap=True)

StoreOption = Annotated[
    str, typer.Option("--store", envvar="CRAWL2CHAT_STORE", help="Path or fsspec URL of the store", metavar="STORE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override a config field (value in YAML)")
]
ConfigArgument = Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="Default: configs/demo.yaml")]
RefArgument = Annotated[str, typer.Argument(metavar="REF", help="stage@recipe, a unique prefix of it, stage@latest")]
STORE = "./store"


def place_of(url: str) -> Store:
    """The store at `url`, which may still be empty."""
    if not url:
        raise UserError("--store (or CRAWL2CHAT_STORE) is empty; it is a path or a URL")
    from artifacts.store import Store

    store = Store(url)
    if not store.remote and os.path.lexists(store.root) and not os.path.isdir(store.root):
        raise UserError(f"{store.url}: a store is a folder, and this is none")
    return store


def existing(url: str) -> Store:
    store = place_of(url)
    if store.is_empty():
        raise UserError(f"{store.url}: no store with artifacts there (run `crawl2chat run`, or give --store)")
    return store


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
