"""One Prefect flow a stage, around one task: a flow can be a deployment, scheduled and rerun alone.

The flows take plain values (references and config sections), so that the UI's forms can start them. The store, not
Prefect, decides what is reused: a reused artifact ends its task in a state named `Reused`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Flow, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, MissingResult
from prefect.states import Completed, Failed

from artifacts.errors import RunError, UserError
from artifacts.store import Artifact, Store
from flows.config import RunnerName
from flows.openlineage_events import stage_events
from flows.progress import stage_progress
from flows.registry import BY_NAME
from flows.runner import end_workers, shard_map
from flows.serving.events import announce
from flows.serving.limits import slots
from flows.ui import publish_stage
from flows.ui.lines import end_line, row_line, start_line, warnings
from flows.waiting import wait_for_rankings
from tasks.execution import execute


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage_task(
    name: str,
    config: dict[str, Any],
    inputs: dict[str, list[str]],
    store_url: str,
    seed: int,
    runner: RunnerName,
    workers: int | None,
    run_id: str | None,
    force: bool,
    runner_address: str = "",
) -> State[dict[str, Any]]:
    """Reuse or build one stage's artifact. Its result is the row that `run --json` prints, with the full reference."""
    log = get_run_logger()
    try:
        stage, store = BY_NAME[name].stage, Store(store_url)
        given = {key: [store.resolve(ref) for ref in refs] for key, refs in inputs.items()}
        if stage.gpu:
            end_workers()  # training and sampling want the memory that idle workers hold
        with (
            slots(stage),
            stage_progress(name, log, training=stage.gpu) as progress,
            stage_events(run_id, name, given) as events,
        ):
            outcome = execute(
                stage,
                stage.config.model_validate(config),
                given,
                store,
                seed=seed,
                mapper=shard_map(runner, workers, runner_address or None, store.scratch_root()),
                progress=events.progress(progress),
                run_id=run_id,
                force=force,
                building=lambda recipe: log.info(start_line(name, given, recipe)),
            )
            events.finished(outcome.artifact, outcome.reused)
    except (UserError, RunError) as error:
        log.error(str(error))
        _results[run_id, name] = error
        return failed(error)
    row = _results[run_id, name] = {**outcome.row(), "folder": outcome.artifact.folder}
    publish_stage(outcome, log)
    announce(outcome)
    log.info(end_line(outcome))
    warnings(outcome, log)
    done = "reused" if outcome.reused else "built"
    return Completed(name=_STATES[done], message=f"{outcome.artifact.ref} {done}", data=row)


_STATES = {"reused": "Reused", "built": "Completed"}


# What the stages of this process have given, by run and stage. Prefect hands a result on inside the state, and takes
# the server's copy of the state, which has none, where it had to ask twice: a busy server answered late the first time.
_results: dict[tuple[str | None, str], dict[str, Any] | Exception] = {}


def _given(run_id: str | None, name: str, ask: Callable[[], Any]) -> dict[str, Any]:
    """A stage's row as `ask` has it from Prefect, or as the stage left it here where Prefect has lost it. Raises the
    stage's own error likewise."""
    try:
        row: dict[str, Any] = ask()
        return row
    except (MissingResult, FailedRun):
        kept = _results.get((run_id, name))
        if kept is None:
            raise
    if isinstance(kept, Exception):
        raise kept
    return dict(kept)


def failed(error: Exception) -> State[Any]:
    """The state of what ends in an error for people: raised, Prefect would log a traceback of it at every level."""
    return Failed(message=str(error), data=error)


def make_stage_flow(name: str) -> Flow[..., Any]:
    """The flow of one stage. Its parameters are those of the stage's config section, and where to read and write."""

    def stage_flow(
        config: Any,
        inputs: dict[str, list[str]],
        store: str = "./store",
        seed: int = 0,
        runner: RunnerName = "processes",
        workers: int | None = None,
        run_id: str | None = None,
        force: bool = False,
        runner_address: str = "",
    ) -> Any:
        plain = config if isinstance(config, dict) else config.model_dump(mode="json")

        def ask() -> Any:
            # A task that returns a state is called for that state; its result is what the state carries.
            given = (name, plain, inputs, store, seed, runner, workers, run_id, force, runner_address)
            state: Any = run_stage_task(*given)
            return state.result()

        _results.pop((run_id, name), None)
        try:
            row = _given(run_id, name, ask)
        except (UserError, RunError) as error:
            return failed(error)
        done = "reused" if row["reused"] else "built"
        return Completed(name=_STATES[done], message=f"{row['artifact']} {done}", data=row)

    stage_flow.__name__ = stage_flow.__qualname__ = f"{name}_flow"
    stage_flow.__doc__ = f"Run the stage `{name}` alone, or reuse what it made of the same inputs."
    stage_flow.__annotations__["config"] = BY_NAME[name].config
    return flow(name=name, flow_run_name=name, persist_result=False, validate_parameters=False)(stage_flow)


STAGE_FLOWS: dict[str, Flow[..., Any]] = {name: make_stage_flow(name) for name in BY_NAME}


def _refuse_empty(artifact: Artifact) -> None:
    """Raise `RunError` if no row survived a stage: what follows could only fail in a less clear way."""
    counts = artifact.manifest.counts
    if counts.rows_in is None or counts.kept:
        return
    reasons = ", ".join(f"{reason} {number}" for reason, number in counts.reasons.items()) or "there were none"
    raise RunError(
        f"{artifact.stage}: nothing survived of {counts.rows_in} rows ({reasons}). "
        f"The decisions are in {artifact.path}/decisions"
    )


def flow_caller(
    store: Store, settings: Any, configs: Callable[[str], Any], run_id: str, rows: list[dict[str, Any]]
) -> Callable[[str, dict[str, list[Artifact]], bool], Artifact]:
    """How `flows.planning.walk` runs a stage as a Prefect subflow. Appends each stage's row to `rows`."""

    def call(name: str, inputs: dict[str, list[Artifact]], force: bool) -> Artifact:
        wait_for_rankings(name, configs(name), inputs)
        chosen = STAGE_FLOWS[name].with_options(flow_run_name=f"{name} {run_id}")
        row = _given(
            run_id,
            name,
            lambda: chosen(
                config=configs(name),
                inputs={key: [f"{a.stage}@{a.recipe}.{a.content}" for a in group] for key, group in inputs.items()},
                store=store.url,
                seed=settings.seed,
                runner=settings.runner,
                workers=settings.workers,
                runner_address=settings.runner_address,
                run_id=run_id,
                force=force,
            ),
        )
        stage, _, rest = row.pop("folder").partition("/")
        recipe, _, content = rest.partition(".")
        rows.append(row)
        get_run_logger().info(row_line(row))
        artifact = Artifact(store, stage, recipe, content)
        _refuse_empty(artifact)
        return artifact

    return call
