"""What `crawl2chat up` deploys: every pipeline and every stage of it, with a form, schedules, tags and a description.

Two flows serve all of them, `pipeline` and `stage`; a deployment is one of them with the config (and the stage) fixed.
Both do what the command line does: the same checks, the same record of the run, the same report. A process worker loads
them from the checkout, which is its working directory.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import Flow, flow, get_run_logger
from prefect.exceptions import FailedRun
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from rich.console import Console

from artifacts.errors import RunError, UserError
from artifacts.store import Store
from flows.config import COMMON, DEFAULT, ROOT, Pipeline, load_pipeline
from flows.forms import EVERY, LATEST, NONE, overrides_of, parameters_between, pipeline_form, stage_form
from flows.pipeline import run_single, walk_pipeline
from flows.planning import check_sources, select
from flows.records import RunRecord, start_record
from flows.registry import BY_NAME, NODES
from flows.schedules import ScheduleConfig
from flows.serving.watch import end_with_worker
from flows.show import write_run_report
from flows.waiting import WaitingForRankings, suspend

ENTRYPOINT = "flows/deployments.py"


@dataclass(frozen=True)
class Schedule:
    """A schedule as Prefect takes it: `cron`, or `interval` in seconds."""

    slug: str
    timezone: str
    cron: str | None = None
    interval: float | None = None
    active: bool = True
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """One deployment, in plain values. The server is to enforce the schema (`enforce_parameter_schema`).

    Attributes:
        flow: name of the flow, `pipeline` or `stage`.
        name: name of the deployment, unique within its flow.
        entrypoint: relative to the checkout, `file:flow`.
        concurrency_limit: runs of it at once; None for any number.
        gpu: whether it wants the pool of the machines with accelerators.
    """

    flow: str
    name: str
    entrypoint: str
    parameters: dict[str, Any]
    parameter_openapi_schema: dict[str, Any]
    tags: list[str]
    description: str
    schedules: list[Schedule]
    concurrency_limit: int | None
    gpu: bool


def deployments_of(pipelines: list[Pipeline], store_url: str) -> list[Deployment]:
    """The deployments of these pipelines on a store: each pipeline, then each of its stages.

    Raises:
        UserError: two of the pipelines have one name.
    """
    found: list[Deployment] = []
    for pipeline in pipelines:
        if any(pipeline.name == other.name for other in found if other.flow == "pipeline"):
            raise UserError(f"{pipeline.origin}: name: another config is called {pipeline.name!r} too")
        found.append(_pipeline_deployment(pipeline, store_url))
        found += [_stage_deployment(pipeline, node.name, store_url) for node in pipeline.nodes]
    return found


def place_of_config(pipeline: Pipeline) -> str:
    """Where a worker finds the config, whose working directory is the checkout: relative to it, else the whole path."""
    path = Path(pipeline.origin)
    if not path.exists():
        return pipeline.origin  # found in the checkout, as `flows.config` does
    whole = path.resolve()
    return str(whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole)


def _pipeline_deployment(pipeline: Pipeline, store_url: str) -> Deployment:
    name = pipeline.name
    stages = [node.name for node in pipeline.nodes]
    return Deployment(
        flow="pipeline",
        name=name,
        entrypoint=f"{ENTRYPOINT}:pipeline",
        parameters={"config": place_of_config(pipeline), "store": store_url},
        parameter_openapi_schema=pipeline_form(pipeline, place_of_config(pipeline), store_url),
        tags=["pipeline", name],
        description=f"The pipeline `{name}` ({pipeline.origin}): {' → '.join(stages)}.",
        schedules=_schedules(pipeline, EVERY),
        concurrency_limit=1,
        gpu=any(node.stage.gpu for node in pipeline.nodes),
    )


def _stage_deployment(pipeline: Pipeline, stage_name: str, store_url: str) -> Deployment:
    name = pipeline.name
    return Deployment(
        flow="stage",
        name=f"{name}-{stage_name}",
        entrypoint=f"{ENTRYPOINT}:stage",
        parameters={"stage": stage_name, "config": place_of_config(pipeline), "store": store_url},
        parameter_openapi_schema=stage_form(pipeline, stage_name, place_of_config(pipeline), store_url),
        tags=["stage", stage_name, name],
        description=_about(stage_name),
        schedules=_schedules(pipeline, stage_name),
        concurrency_limit=None,
        gpu=BY_NAME[stage_name].stage.gpu,
    )


def _about(stage_name: str) -> str:
    """What a stage does, in the words of its module."""
    module = BY_NAME[stage_name].stage.run.__module__
    package = inspect.getdoc(sys.modules[module.rpartition(".")[0]]) or ""
    return f"{package}\n\n{inspect.getdoc(sys.modules[module]) or ''}".strip()


def _schedules(pipeline: Pipeline, stage_name: str) -> list[Schedule]:
    return [
        Schedule(
            slug=config.slug(number),
            timezone=config.timezone,
            cron=config.cron,
            interval=config.seconds,
            active=config.active,
            parameters=_schedule_parameters(pipeline, config),
        )
        for number, config in enumerate(pipeline.settings.schedules, start=1)
        if config.stage == stage_name
    ]


def _schedule_parameters(pipeline: Pipeline, config: ScheduleConfig) -> dict[str, Any]:
    found = parameters_between(pipeline, pipeline.overridden(config.set))
    if config.stage != EVERY:
        return {("settings" if key == config.stage else key): value for key, value in found.items()}
    return found | ({"until": config.until} if config.until != EVERY else {})


# --- the flows


def _run_name() -> str:
    """`demo 2026-11-21 03:10`, or `dedup of demo 2026-11-21 03:10`: what runs, and when it was to start (UTC)."""
    given = flow_run.parameters
    try:
        name = load_pipeline(given.get("config")).name
    except UserError:
        name = str(given.get("config"))
    what = f"{given['stage']} of {name}" if "stage" in given else name
    return f"{what} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


def run_pipeline_deployment(**given: Any) -> Any:
    """What `crawl2chat run CONFIG` does, with the fields of a form laid over the config."""
    try:
        base = load_pipeline(given["config"])
        sections = {key: value for key, value in given.items() if key in BY_NAME or key in COMMON}
        overrides = overrides_of(base, {key: value for key, value in sections.items() if value is not None})
        pipeline, store = load_pipeline(given["config"], overrides, to_run=True), Store(given["store"])
        until, force_from = _word(given["until"], EVERY), _word(given["force_from"], NONE)
        select(pipeline, until, force_from)
        check_sources(pipeline, until)
        record = start_record(pipeline.origin, overrides)
        walk_pipeline(pipeline, store, record, until=until, force_from=force_from)
    except WaitingForRankings as missing:
        return _suspended(missing, record)
    except (UserError, RunError) as error:
        return _failed(error)
    return _done(store, record)


def run_stage_deployment(**given: Any) -> Any:
    """What `crawl2chat stage NAME` does, with the fields of a form laid over the config's section."""
    try:
        base, name = load_pipeline(given["config"]), given["stage"]
        if name not in BY_NAME:
            raise UserError(f"no stage {name!r}; there are {', '.join(BY_NAME)}")
        sections = {key: given[key] for key in COMMON} | {name: given["settings"]}
        overrides = overrides_of(base, {key: value for key, value in sections.items() if value is not None})
        pipeline, store = load_pipeline(given["config"], overrides, to_run=True), Store(given["store"])
        inputs = {
            key: [ref.strip() for ref in refs.split(",")]
            for key, refs in (given["inputs"] or {}).items()
            if refs and refs != LATEST
        }
        record = start_record(pipeline.origin, overrides)
        run_single(pipeline, store, record, name, inputs, force=bool(given["force"]))
    except WaitingForRankings as missing:
        return _suspended(missing, record)
    except (UserError, RunError) as error:
        return _failed(error)
    return _done(store, record)


def _word(value: str | None, for_none: str) -> str | None:
    return None if value in (None, "", for_none) else value


def _suspended(missing: WaitingForRankings, record: RunRecord) -> None:
    get_run_logger().info(str(missing))
    suspend(missing, record.run)


class _ForPeople(logging.Filter):
    """Takes the traceback off the log lines of errors that are messages, and drops those that only repeat them."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, UserError | RunError):
            record.exc_info = None
        return not isinstance(error, FailedRun)


for _name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_ForPeople())


def _failed(error: Exception) -> Any:
    """A failed state with one message for people: the whole of what went wrong, and no traceback."""
    get_run_logger().error(str(error))
    return Failed(message=str(error))


def _done(store: Store, record: RunRecord) -> Any:
    report = write_run_report(store, record.run, Console(stderr=True))
    built = sum(not row["reused"] for row in record.stages)
    message = f"run {record.run}: {built} built, {len(record.stages) - built} reused"
    get_run_logger().info("%s; record %s; report %s", message, store.join(f"runs/{record.run}.json"), report or "none")
    return Completed(message=message)


def _as_flow(name: str, body: Callable[..., Any], parameters: dict[str, Any]) -> Flow[..., Any]:
    """A flow whose parameters are these names with these defaults: those that the forms of its deployments fill."""

    def run(**given: Any) -> Any:
        end_with_worker()
        return body(**given)

    kind = inspect.Parameter.KEYWORD_ONLY
    run.__name__ = run.__qualname__ = name
    run.__doc__ = body.__doc__
    # Prefect asks a flow for its signature, and the stages are a list of the registry's.
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(key, kind, default=default) for key, default in parameters.items()]
    )
    return flow(name=name, flow_run_name=_run_name, validate_parameters=False, persist_result=False)(run)


_SHARED = {"config": DEFAULT, "store": "./store", **dict.fromkeys(COMMON)}
pipeline = _as_flow(
    "pipeline",
    run_pipeline_deployment,
    {**_SHARED, "until": EVERY, "force_from": NONE, **{node.name: None for node in NODES}},
)
stage = _as_flow(
    "stage",
    run_stage_deployment,
    {"stage": "", **_SHARED, "force": False, "inputs": None, "settings": None},
)
