"""`run`, `stage`, `plan`: what builds artifacts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.errors import UserError
from flows import show
from flows.cli.app import (
    STORE,
    ConfigArgument,
    JsonOption,
    SetOption,
    StoreOption,
    app,
    errors,
    place_of,
    print_json,
)

if TYPE_CHECKING:
    from artifacts.store import Store
    from flows.records import RunRecord


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
    from flows.planning import check_refs, check_sources, select
    from flows.records import start_record
    from flows.server import prefect_api

    pipeline, place = load_pipeline(config, overrides or [], to_run=True), place_of(store)
    selected = select(pipeline, until, force_from)
    check_sources(pipeline, until)
    check_refs(pipeline, place, until)
    errors.print(f"{pipeline.origin} -> {place.url}: {', '.join(selected)}", markup=False)
    record = start_record(pipeline.origin, overrides)
    _write_record(record, place)
    try:
        with prefect_api(meanwhile="flows.pipeline"):
            from flows.pipeline import run_pipeline

            run_pipeline(pipeline, place, record, until=until, force_from=force_from, listener=show.stage_line(errors))
    except BaseException:
        if as_json:
            print_json(record.result())
        raise
    report = show.write_run_report(place, record.run, errors)
    if as_json:
        print_json(record.result())
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
    from flows.records import start_record
    from flows.registry import BY_NAME
    from flows.server import prefect_api
    from flows.waiting import wait_for_rankings

    if name not in BY_NAME:
        raise UserError(f"no stage {name!r}; there are {', '.join(BY_NAME)}")
    inputs: dict[str, list[str]] = {}
    for item in given or []:
        key, equals, ref = item.partition("=")
        if not equals:
            raise UserError(f"--input {item}: write it as name=REF")
        inputs.setdefault(key, []).append(ref)
    pipeline, place = load_pipeline(config, overrides or [], to_run=True), place_of(store)
    # A wrong input, or rankings that are not there yet, are told before a server is started.
    wait_for_rankings(name, pipeline.config(name), inputs_for(pipeline, place, name, inputs))
    record = start_record(pipeline.origin, overrides)
    _write_record(record, place)
    with prefect_api(meanwhile="flows.pipeline"):
        from flows.pipeline import run_single

        run_single(pipeline, place, record, name, inputs, force=force, listener=show.stage_line(errors))
    if as_json:
        print_json(record.stages[0])
    else:
        show.run_table(record.stages)


@app.command()
def plan(
    config: ConfigArgument = None, overrides: SetOption = None, store: StoreOption = STORE, as_json: JsonOption = False
) -> None:
    """Say what a run would reuse or build, and why."""
    from flows.config import load_pipeline
    from flows.planning import plan as make_plan

    steps = make_plan(load_pipeline(config, overrides or []), place_of(store))
    if as_json:
        print_json({"stages": [step.row() for step in steps]})
    else:
        show.plan_table([step.row() for step in steps])


def _write_record(record: RunRecord, place: Store) -> None:
    """The record of a run that is about to start: a store that cannot be written is told before a server is started."""
    try:
        record.save(place)
    except OSError as error:
        raise UserError(f"store {place.url}: cannot be written: {error.strerror or error}") from error
