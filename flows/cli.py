"""The command line: `crawl2chat …` (docs/interface in the README). Exit codes: 0 done, 1 failed, 2 wrong input, 130
interrupted. Logs and progress go to standard error; with `--json` standard output is one JSON object."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from artifacts.errors import RunError, UserError
from artifacts.store import Store
from flows import show
from flows.records import RunRecord, start_record

app = typer.Typer(
    name="crawl2chat",
    help="From a raw web crawl to a chat model aligned with PPO-ptx, rerun stage by stage and audited row by row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Messages are not folded at the width of a pipe: a path that is cut in two names nothing.
errors = Console(stderr=True, highlight=False, soft_wrap=True)
UsageError: Any = typer.BadParameter.__base__  # typer carries a click of its own, and exports only some of its errors

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


@app.command()
def run(
    config: ConfigArgument = None,
    overrides: SetOption = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage")] = None,
    force_from: Annotated[str | None, typer.Option(metavar="STAGE", help="Build this stage and all after it")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Run a pipeline, reusing what is there."""
    from flows.config import load_pipeline
    from flows.planning import check_sources, select
    from flows.server import prefect_api

    pipeline, place = load_pipeline(config, overrides or [], to_run=True), _place(store)
    selected = select(pipeline, until, force_from)
    check_sources(pipeline, until)
    errors.print(f"{pipeline.origin} -> {place.url}: {', '.join(selected)}", markup=False)
    record = start_record(pipeline.origin, overrides)
    _write_record(record, place)
    try:
        with prefect_api():
            from flows.pipeline import run_pipeline

            run_pipeline(pipeline, place, record, until=until, force_from=force_from, listener=show.stage_line(errors))
    except BaseException:
        if as_json:
            _print_json(record.result())
        raise
    report = show.write_run_report(place, record.run, errors)
    if as_json:
        _print_json(record.result())
    else:
        show.run_table(record.stages)
        sys.stdout.write(f"run {record.run}\nreport {report}\n" if report else f"run {record.run}\n")


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A stage's name")],
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Default: configs/demo.yaml")] = None,
    overrides: SetOption = None,
    given: Annotated[list[str] | None, typer.Option("--input", metavar="NAME=REF", help="An input artifact")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build it even if it is there")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Run one stage, on given artifacts or on those that the config has made."""
    from flows.config import load_pipeline
    from flows.planning import inputs_for
    from flows.registry import BY_NAME
    from flows.server import prefect_api

    if name not in BY_NAME:
        raise UserError(f"no stage {name!r}; there are {', '.join(BY_NAME)}")
    inputs: dict[str, list[str]] = {}
    for item in given or []:
        key, equals, ref = item.partition("=")
        if not equals:
            raise UserError(f"--input {item}: write it as name=REF")
        inputs.setdefault(key, []).append(ref)
    pipeline, place = load_pipeline(config, overrides or [], to_run=True), _place(store)
    pipeline.config(name)
    inputs_for(pipeline, place, name, inputs)  # a wrong input is told before a server is started
    record = start_record(pipeline.origin, overrides)
    _write_record(record, place)
    with prefect_api():
        from flows.pipeline import run_single

        run_single(pipeline, place, record, name, inputs, force=force, listener=show.stage_line(errors))
    if as_json:
        _print_json(record.stages[0])
    else:
        show.run_table(record.stages)


@app.command()
def plan(
    config: ConfigArgument = None, overrides: SetOption = None, store: StoreOption = STORE, as_json: JsonOption = False
) -> None:
    """Say what a run would reuse or build, and why."""
    from flows.config import load_pipeline
    from flows.planning import plan as make_plan

    steps = make_plan(load_pipeline(config, overrides or []), _place(store))
    if as_json:
        _print_json({"stages": [step.row() for step in steps]})
    else:
        show.plan_table([step.row() for step in steps])


@app.command()
def ls(
    stage: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="Only this stage's artifacts")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """List artifacts, oldest first within a stage."""
    place = _place(store)
    if stage is not None and stage not in place.stages():
        from flows.registry import BY_NAME

        if stage not in BY_NAME:
            raise UserError(f"no stage {stage!r}; there are {', '.join(BY_NAME)}")
    rows = [show.artifact_row(artifact) for artifact in place.artifacts(stage)]
    if as_json:
        _print_json({"artifacts": rows})
    else:
        show.artifact_table(rows)


@app.command("show")
def show_manifest(ref: RefArgument, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show one artifact's manifest."""
    artifact = _existing(store).resolve(ref)
    manifest = {**artifact.manifest.model_dump(mode="json"), "path": artifact.path}
    if as_json:
        _print_json(manifest)
    else:
        show.manifest_text(manifest)


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="Artifacts; default: all")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every artifact of the store")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, row accounts and the chain of inputs."""
    from artifacts.verify import verify as check

    place = _existing(store)
    if every and refs:
        raise UserError("verify: give artifacts or --all, not both")
    report = check(place, refs or None)
    found = {"ok": report.ok, "checked": report.checked, "problems": [vars(problem) for problem in report.problems]}
    if as_json:
        _print_json(found)
    else:
        show.verify_text(found)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def why(
    page: Annotated[str, typer.Argument(metavar="URL|DOC_ID")], store: StoreOption = STORE, as_json: JsonOption = False
) -> None:
    """Tell a page's fate, stage by stage."""
    from artifacts.lineage import why as ask

    found = ask(_existing(store), page)
    if as_json:
        _print_json(found)
    else:
        show.why_text(found)
    if not found["documents"]:
        raise RunError(f"{page!r}: no artifact of {store} has seen this page")


@app.command()
def trace(
    target: Annotated[str, typer.Argument(metavar="URL|DOC_ID|MODEL_REF")],
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Trace a page down to optimizer steps and models, or a model up to its sources."""
    from artifacts.lineage import trace as ask

    found = ask(_existing(store), target)
    if as_json:
        _print_json(found)
    else:
        show.trace_text(found)
    if not found["documents"] and not found["sources"] and not found["models"]:
        raise RunError(f"{target!r}: nothing in {store} has seen it")


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
    path = show.write_report_of(_existing(store), target, out)
    if as_json:
        _print_json({"path": path})
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

    talk(_existing(store).resolve(ref), temperature, max_tokens, seed)


def _later(name: str, what: str) -> None:
    @app.command(name, help=f"{what} (comes later)", context_settings={"ignore_unknown_options": True})
    def later(words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise UserError(f"crawl2chat {name} ({what}) comes in a later version")


for _name, _what in {
    "takedown": "name the artifacts and models that pages touched, and write a blocklist",
    "publish": "write a small JSON of a run for git",
    "diff": "show what differs between two artifacts",
    "lineage": "print the graph above and below an artifact",
    "export": "export an artifact to hf, croissant or openlineage",
    "size": "compute-optimal size, memory and time",
    "label": "the page on which people rank responses or write demonstrations",
    "up": "Prefect server, deployments with schedules, limits, automations",
}.items():
    _later(_name, _what)


def _place(url: str) -> Store:
    """The store at `url`, which may still be empty."""
    if not url:
        raise UserError("--store (or CRAWL2CHAT_STORE) is empty; it is a path or a URL")
    store = Store(url)
    if not store.remote and os.path.lexists(store.root) and not os.path.isdir(store.root):
        raise UserError(f"{store.url}: a store is a folder, and this is none")
    return store


def _write_record(record: RunRecord, place: Store) -> None:
    """The record of a run that is about to start: a store that cannot be written is told before a server is started."""
    try:
        record.save(place)
    except OSError as error:
        raise UserError(f"store {place.url}: cannot be written: {error.strerror or error}") from error


def _existing(url: str) -> Store:
    store = _place(url)
    if store.is_empty():
        raise UserError(f"{store.url}: no store with artifacts there (run `crawl2chat run`, or give --store)")
    return store


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


@contextmanager
def _as_exit_code() -> Iterator[None]:
    """Turn what went wrong into one message and the exit code of the interface."""
    try:
        yield
    except UserError as error:
        errors.print(f"[bold red]error:[/] {_plain(error)}")
        sys.exit(2)
    except UsageError as error:
        if not error.format_message():  # no command at all: the help was printed
            sys.exit(2)
        where = error.ctx.command_path if error.ctx else "crawl2chat"
        errors.print(f"[bold red]error:[/] {escape(error.format_message())} (see `{escape(where)} --help`)")
        sys.exit(2)
    except RunError as error:
        errors.print(f"[bold red]failed:[/] {_plain(error)}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from here")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        errors.print(f"[bold red]failed:[/] {escape(f'{where}{error.strerror or error}')}")
        sys.exit(1)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in REMOTE:
            raise
        errors.print(f"[bold red]failed:[/] the remote store or source: {_plain(error)}")
        sys.exit(1)


# Errors of these packages do not derive from OSError, and are about a server, a network or credentials.
REMOTE = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "adlfs", "azure", "paramiko")


def _plain(error: Exception) -> str:
    return escape(str(error) or type(error).__name__)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends as an interrupt does, so that drafts and child processes are cleared away."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """The entry point of the `crawl2chat` program."""
    signal.signal(signal.SIGTERM, _terminate)
    with _as_exit_code():
        code = app(args=arguments, standalone_mode=False)
        if code == 130:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        if isinstance(code, int) and code:
            sys.exit(code)


if __name__ == "__main__":
    main()
