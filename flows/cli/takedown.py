"""`takedown`: keep pages out of every later run, and say what they have touched."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from artifacts.errors import RunError, UserError
from flows import show
from flows.cli.app import STORE, JsonOption, SetOption, StoreOption, app, errors, existing, print_json
from flows.screen import plain

if TYPE_CHECKING:
    from artifacts.store import Store
    from flows.config import Pipeline

SHOWN = 20  # of each list, to a person; --json has all


@app.command()
def takedown(
    urls: Annotated[
        str,
        typer.Option("--urls", metavar="FILE", help="URLs, hosts or doc_ids, one a line, # for comments; - reads them"),
    ],
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="What is to be rebuilt. Default: that of the last run")
    ] = None,
    overrides: SetOption = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say; write nothing")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Take the entries off the blocklist instead")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Block pages from every later run; name the artifacts and models that hold them, and what must be rebuilt."""
    from artifacts.audit.takedown import takedown as take_down

    place = existing(store)
    lines = _lines(urls)
    # Finding the pages is DuckDB's work, outside Python's lock; reading a config is that of Python: the models of all
    # stages, 0.3 s. A wrong config is told before anything is written.
    with ThreadPoolExecutor(1) as thread:
        planned = thread.submit(_plan_of, place, config, overrides)
        try:
            found = take_down(place, lines, reason=reason, dry_run=dry_run, lift=lift, ready=planned.result)
        except (UserError, OSError) as error:
            planned.result()  # what is wrong with the config is told first
            if isinstance(error, UserError):
                raise UserError(f"--urls {urls}: {error}") from error
            raise RunError(f"{place.url}: the blocklist cannot be written: {error.strerror or error}") from error
    about, rebuild = planned.result()
    found |= {"rebuild": None if dry_run or rebuild is None else rebuild(), "config": about}
    if as_json:
        print_json(found)
    else:
        takedown_text(found)
    if found["running"]:
        errors.print(
            f"{', '.join(found['running'])} began before this and may have read the pages: run again when it has ended"
        )


def _lines(name: str) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"--urls {name}: cannot be read: {error.strerror or error}") from error
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        broken = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"--urls {name}: line {broken} is not UTF-8 text; nothing was written") from error
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UserError(f"--urls {name}: line {number} is not text (it holds a NUL); nothing was written")
    return lines


def _plan_of(store: Store, config: str | None, overrides: list[str] | None) -> tuple[dict[str, Any], Any]:
    """(which config, a function that plans it now): as given, else that of the store's last run that can be read.

    Raises:
        UserError: the config that was given is wrong.
    """
    from flows.config import load_pipeline

    if config is None and not overrides:
        found = _last_run(store)
        if found is None:
            note = "no run of this store names a config that is here: give CONFIG to see what must be rebuilt"
            return {"path": None, "overrides": [], "run": None, "note": note}, None
        about, pipeline = found
    else:
        about = {"path": config or "configs/demo.yaml", "overrides": overrides or [], "run": None, "note": None}
        pipeline = load_pipeline(config, about["overrides"])

    def rebuild() -> list[dict[str, Any]]:
        from flows.planning import plan  # all stages' code: of no use to a dry run

        return [step.row() for step in plan(pipeline, store)]

    return about, rebuild


def _last_run(store: Store) -> tuple[dict[str, Any], Pipeline] | None:
    """(which config, itself) of the newest run whose config still loads."""
    from artifacts.runs import load_run, run_ids
    from flows.config import load_pipeline

    for run in reversed(run_ids(store)):
        try:
            record = load_run(store, run)
            path, given = str(record["config"]), [str(override) for override in record["overrides"]]
            pipeline = load_pipeline(path, given)
        except (UserError, KeyError, TypeError):
            continue
        return {"path": path, "overrides": given, "run": run, "note": None}, pipeline
    return None


def takedown_text(found: Mapping[str, Any]) -> None:
    held = [document for document in found["documents"] if document["held"]]
    show.out.print(f"{len(held)} pages in artifacts, {len(found['documents']) - len(held)} that were dropped before")
    _list(found["documents"], lambda d: f"{d['doc_id']}  {d['url']}" + ("" if d["held"] else f"  ({d['reason']})"))
    for entry in found["unmatched"]:
        show.out.print(plain(f"  names no page of this store: {entry}"))
    if found["artifacts"]:
        show.out.print(
            plain(f"artifacts that hold them, or were made from one that does: {', '.join(found['artifacts'])}")
        )
    if found["models"]:
        show.model_table(found["models"], ("artifact", "first_step", "last_step", "tokens"))
    if found["returning"]:
        show.out.print(
            "duplicates that were dropped in favour of these pages; the next run takes one of each up again:"
        )
        _list(found["returning"], lambda d: f"{d['doc_id']}  {d['url']}  (of {d['survivor']})")
    if found["copies"]:
        show.out.print("similar pages under other URLs, which stay unless they are listed too:")
        _list(found["copies"], lambda d: f"{d['doc_id']}  {d['url']}  (like {d['of']}{_similarity(d)})")
    verb = "would be in" if found["dry_run"] else "lifted from" if found["lifted"] else "written to"
    show.out.print(plain(f"{verb} {found['blocklist']} ({found['entries']} entries)"))
    about = found["config"]
    if found["rebuild"]:
        source = f", as run {about['run']} had it" if about["run"] else ""
        words = " ".join(f"--set {override}" for override in about["overrides"])
        show.out.print(plain(f"to be rebuilt (crawl2chat run {about['path']} {words}".rstrip() + f"{source}):"))
        show.plan_table(found["rebuild"])
    elif about["note"]:
        show.out.print(plain(about["note"]))


def _similarity(copy: Mapping[str, Any]) -> str:
    return "" if copy["jaccard"] is None else f", {copy['jaccard']:.2f}"


def _list(rows: Sequence[Mapping[str, Any]], line: Any) -> None:
    for row in rows[:SHOWN]:
        show.out.print(plain(f"  {line(row)}"))
    if len(rows) > SHOWN:
        show.out.print(f"  and {len(rows) - SHOWN} more (--json has all)")
