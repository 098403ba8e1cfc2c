"""One Prefect flow a stage, around one task: a flow can be a deployment, scheduled and rerun alone.

The flows take plain values (references and config sections), so that the UI's forms can start them. The store, not
Prefect, decides what is reused: a reused artifact ends its task in a state named `Reused`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from prefect import Flow, flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.states import Completed

from artifacts.errors import RunError
from artifacts.store import Artifact, Store
from flows.config import RunnerName
from flows.progress import stage_progress
from flows.registry import BY_NAME
from flows.runner import prefect_map, task_runner
from tasks.execution import Outcome, execute


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage_task(
    name: str,
    config: dict[str, Any],
    inputs: dict[str, list[str]],
    store_url: str,
    seed: int,
    workers: int,
    run_id: str | None,
    force: bool,
) -> State[dict[str, Any]]:
    """Reuse or build one stage's artifact. Its result is the row that `run --json` prints, with the full reference."""
    stage, store = BY_NAME[name].stage, Store(store_url)
    given = {key: [store.resolve(ref) for ref in refs] for key, refs in inputs.items()}
    with concurrency("gpu", strict=False) if stage.gpu else _Nothing(), stage_progress(name) as progress:
        outcome = execute(
            stage,
            stage.config.model_validate(config),
            given,
            store,
            seed=seed,
            mapper=prefect_map(workers),
            progress=progress,
            run_id=run_id,
            force=force,
        )
    _publish(outcome)
    row = {**outcome.row(), "folder": outcome.artifact.folder}
    message = f"{outcome.artifact.ref} reused" if outcome.reused else f"{outcome.artifact.ref} built"
    return Completed(name="Reused" if outcome.reused else "Completed", message=message, data=row)


class _Nothing:
    """The context of a stage that needs no accelerator."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _publish(outcome: Outcome) -> None:
    """The manifest as a table in the UI, and one line in the log."""
    manifest = outcome.artifact.manifest
    rows = [
        {"field": "artifact", "value": outcome.artifact.ref},
        {"field": "path", "value": outcome.artifact.path},
        {"field": "content", "value": manifest.content},
        {"field": "reused", "value": str(outcome.reused)},
        *({"field": f"input {entry.name}", "value": entry.artifact} for entry in manifest.inputs),
    ]
    counts = manifest.counts
    if counts.rows_in is not None:
        rows += [{"field": key, "value": str(getattr(counts, key))} for key in ("rows_in", "kept", "dropped", "failed")]
        rows += [{"field": f"dropped: {reason}", "value": str(number)} for reason, number in counts.reasons.items()]
    key = f"{outcome.stage.replace('_', '-')}-manifest"
    create_table_artifact(table=rows, key=key, description=f"{outcome.artifact.ref}")
    get_run_logger().info("%s %s", outcome.artifact.ref, "reused" if outcome.reused else "built")


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
    ) -> dict[str, Any]:
        plain = config if isinstance(config, dict) else config.model_dump(mode="json")
        count = workers or os.cpu_count() or 1
        # A task that returns a state is called for that state; its result is what the state carries.
        state: Any = run_stage_task(name, plain, inputs, store, seed, count, run_id, force)
        row: dict[str, Any] = state.result()
        return row

    stage_flow.__name__ = stage_flow.__qualname__ = f"{name}_flow"
    stage_flow.__doc__ = f"Run the stage `{name}` alone, or reuse what it made of the same inputs."
    stage_flow.__annotations__["config"] = BY_NAME[name].stage.config
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
        chosen = STAGE_FLOWS[name].with_options(task_runner=task_runner(settings.runner, settings.workers))
        # Prefect's overloads say None for a flow that they cannot look into.
        row: Any = chosen(
            config=configs(name),
            inputs={key: [f"{a.stage}@{a.recipe}.{a.content}" for a in group] for key, group in inputs.items()},
            store=store.url,
            seed=settings.seed,
            runner=settings.runner,
            workers=settings.workers,
            run_id=run_id,
            force=force,
        )
        stage, _, rest = row.pop("folder").partition("/")
        recipe, _, content = rest.partition(".")
        rows.append(row)
        artifact = Artifact(store, stage, recipe, content)
        _refuse_empty(artifact)
        return artifact

    return call
