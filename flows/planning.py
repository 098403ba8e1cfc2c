"""What a run would reuse and build, and why: decided from manifests, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from artifacts.audit.blocklist import ROLE as BLOCKLIST
from artifacts.errors import UserError
from artifacts.fetch import offline
from artifacts.manifest import SourceEntry
from artifacts.sources import Source
from artifacts.store import Artifact, Store
from flows import licences
from flows.config import Pipeline
from flows.registry import BY_NAME
from flows.waiting import missing_rankings
from tasks.execution import check_inputs, find_sources, recipe_of
from tasks.stage import Stage


@dataclass(frozen=True)
class Step:
    """One stage of a plan. `status`: reuse, build, unknown (it depends on content that is not there yet), or denied (a
    source's licence is one that the config forbids, and a run would not start)."""

    stage: str
    recipe: str | None
    status: str
    because: str
    artifact: Artifact | None = None

    def row(self) -> dict[str, Any]:
        return {"stage": self.stage, "recipe": self.recipe, "status": self.status, "because": self.because}


def plan(pipeline: Pipeline, store: Store, until: str | None = None, force_from: str | None = None) -> list[Step]:
    """The steps that `run` would take now, in order. Fetches nothing from the network."""
    steps: dict[str, Step] = {}
    forced = False
    for node in select(pipeline, until):
        forced = forced or node == force_from
        steps[node] = _step(pipeline, store, node, steps, forced)
    return list(steps.values())


def select(pipeline: Pipeline, until: str | None, force_from: str | None = None) -> list[str]:
    """Names of the pipeline's stages up to and including `until`.

    Raises:
        UserError: the pipeline has no stages, or not that one, or `force_from` is not among those selected.
    """
    names = [node.name for node in pipeline.nodes]
    if not names:
        raise UserError(f"{pipeline.origin}: it has no section of a stage, so there is nothing to do")
    if until is None:
        return _checked(names, force_from)
    if until not in names:
        raise UserError(f"{pipeline.origin} has no stage {until!r}; it has {', '.join(names) or 'none'}")
    return _checked(names[: names.index(until) + 1], force_from)


def _checked(selected: list[str], force_from: str | None) -> list[str]:
    if force_from is not None and force_from not in selected:
        raise UserError(f"--force-from {force_from}: the run has no such stage; it has {', '.join(selected) or 'none'}")
    return selected


def check_sources(pipeline: Pipeline, until: str | None) -> None:
    """Find everything that the run will read from outside, before anything starts.

    Raises:
        UserError: a file is missing, is not what its data manifest says, or has a licence that the config forbids; or
            no stage makes an input.
    """
    for name in select(pipeline, until):
        stage = BY_NAME[name].stage
        fed = {*pipeline.feeders(name), *BY_NAME[name].refs}
        for given in stage.reads:
            if given not in fed and given not in stage.optional:
                makers = " or ".join(BY_NAME[name].feeds[given])
                raise UserError(
                    f"{pipeline.origin}: {name} reads {given!r}, which no stage of this config makes: add a section "
                    f"{makers}, or run it alone (crawl2chat stage {name} --input {given}=REF)"
                )
        if stage.sources:
            licences.check_sources(pipeline, name, stage.sources(pipeline.config(name)))


def check_refs(pipeline: Pipeline, store: Store, until: str | None) -> None:
    """Look at the artifacts of earlier runs that the config refers to, before anything starts.

    Raises:
        UserError: one is not there, or was made from a source whose licence the config forbids.
    """
    for name in select(pipeline, until):
        licences.check_inputs(pipeline, name, inputs_from(pipeline, store, name, {}))


def _step(pipeline: Pipeline, store: Store, name: str, before: Mapping[str, Step], forced: bool) -> Step:
    stage, config = BY_NAME[name].stage, pipeline.config(name)
    feeders = pipeline.feeders(name)
    waiting = [feeder for feeder in feeders.values() if before[feeder].artifact is None]
    if waiting:
        return Step(name, None, "unknown", f"its input from {waiting[0]} is not built yet")
    made = {feeder: artifact for feeder, step in before.items() if (artifact := step.artifact)}
    inputs = inputs_from(pipeline, store, name, made)
    missing = [given for given in stage.reads if given not in inputs and given not in stage.optional]
    if missing:
        return Step(name, None, "unknown", f"no stage of this config makes its input {missing[0]!r}")
    try:
        with offline():
            sources = find_sources(stage, config, store, inputs)
    except UserError as error:
        return Step(name, None, "unknown", f"its files are not here yet: {error}")
    try:
        licences.check_sources(pipeline, name, sources)
        licences.check_inputs(pipeline, name, {given: inputs.get(given, []) for given in BY_NAME[name].refs})
    except UserError as error:
        return Step(name, None, "denied", str(error))
    recipe = recipe_of(stage, config, inputs, sources, pipeline.settings.seed)
    found = store.find(name, recipe)
    if forced:
        # Its content is not known before it is built again; what follows is decided then.
        return Step(name, recipe, "build", "forced")
    if found is not None:
        _ = found.manifest  # a damaged one cannot be reused, and says so
        return Step(name, recipe, "reuse", f"{found.ref} has this recipe", found)
    waits = missing_rankings(name, config, inputs)
    if waits is not None:
        return Step(name, None, "unknown", str(waits))
    return Step(name, recipe, "build", _reason(store, stage, config, inputs, sources, pipeline.settings.seed))


def inputs_from(pipeline: Pipeline, store: Store, name: str, made: Mapping[str, Artifact]) -> dict[str, list[Artifact]]:
    """A stage's inputs: what its feeders in the pipeline have made, and the artifacts that its config refers to."""
    inputs = {given: [made[feeder]] for given, feeder in pipeline.feeders(name).items() if feeder in made}
    for given, config_field in BY_NAME[name].refs.items():
        refs = getattr(pipeline.config(name), config_field)
        if refs:
            inputs[given] = [store.resolve(ref) for ref in refs]
    return inputs


def _reason(
    store: Store,
    stage: Stage,
    config: BaseModel,
    inputs: Mapping[str, Sequence[Artifact]],
    sources: Sequence[Source],
    seed: int,
) -> str:
    """What differs from the newest artifact of the stage."""
    made = store.artifacts(stage.name)
    if not made:
        return "never built in this store"
    last = made[-1].manifest
    changes = []
    if last.stage_version != stage.version:
        changes.append(f"stage version {last.stage_version} -> {stage.version}")
    if stage.seeded and last.seed != seed:
        changes.append(f"seed {last.seed} -> {seed}")
    changes += _config_changes(last.config, stage.recipe_config(config), stage.name)
    for name, artifacts in inputs.items():
        before = [entry.content for entry in last.inputs if entry.name == name]
        if before != [artifact.manifest.content for artifact in artifacts]:
            changes.append(f"input {name} changed")
    changes += _source_changes(last.sources, sources)
    return f"since {made[-1].ref}: " + ("; ".join(changes) or "an older recipe")


def _source_changes(before: Sequence[SourceEntry], after: Sequence[Source]) -> list[str]:
    changes = []
    for what, blocks in (("source files changed", False), ("blocklist changed", True)):
        old, new = (
            [entry.sha256 for entry in entries if (entry.role == BLOCKLIST) == blocks] for entries in (before, after)
        )
        changes += [what] if old != new else []
    return changes


def _config_changes(before: Mapping[str, Any], after: Mapping[str, Any], where: str) -> list[str]:
    changes = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += _config_changes(old, new, f"{where}.{name}")
        elif old != new:
            changes.append(f"{where}.{name} {old!r} -> {new!r}")
    return changes


def inputs_for(
    pipeline: Pipeline, store: Store, name: str, given: Mapping[str, Sequence[str]]
) -> dict[str, list[Artifact]]:
    """The inputs of one stage run alone: as given by reference, else what this config has made.

    Raises:
        UserError: an input is neither given nor made yet (the message says which stage would make it), or a licence
            above it, or of a file that the stage reads, is one that the config forbids.
    """
    stage = BY_NAME[name].stage
    inputs = inputs_from(pipeline, store, name, {})
    inputs |= {key: [store.resolve(ref) for ref in refs] for key, refs in given.items()}
    feeders = pipeline.feeders(name)
    wanted = [key for key in stage.reads if key not in inputs and key in feeders]
    made = _made(pipeline, store, {feeders[key] for key in wanted})
    for above in _feeding(pipeline, [feeders[key] for key in wanted]):
        if made[above].status == "denied":
            raise UserError(made[above].because)
    for key in wanted:
        step = made[feeders[key]]
        if step.artifact is not None:
            inputs[key] = [step.artifact]
        elif key not in stage.optional:
            raise UserError(
                f"{name}: the input {key!r} comes from {step.stage}, which this config has not made yet "
                f"({step.because}). Run it first (crawl2chat run {pipeline.origin} --until {step.stage}), "
                f"or give one with --input {key}=REF"
            )
    check_inputs(stage, inputs)
    licences.check_inputs(pipeline, name, inputs)
    if pipeline.settings.licences.deny and stage.sources:
        licences.check_sources(pipeline, name, stage.sources(pipeline.config(name)))
    return inputs


def _feeding(pipeline: Pipeline, names: Sequence[str]) -> list[str]:
    """These stages, and all whose artifacts reach them in this pipeline."""
    found = list(names)
    for name in found:  # which grows
        found += [feeder for feeder in pipeline.feeders(name).values() if feeder not in found]
    return found


def _made(pipeline: Pipeline, store: Store, names: set[str]) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    for node in pipeline.nodes:
        if names <= steps.keys():
            break
        steps[node.name] = _step(pipeline, store, node.name, steps, False)
    return steps


Call = Callable[[str, dict[str, list[Artifact]], bool], Artifact]


def walk(pipeline: Pipeline, store: Store, until: str | None, force_from: str | None, call: Call) -> None:
    """Run the stages in order: `call(stage, inputs, force)` builds or reuses one and returns its artifact."""
    selected = select(pipeline, until, force_from)
    check_refs(pipeline, store, until)
    made: dict[str, Artifact] = {}
    forced = False
    for name in selected:
        forced = forced or name == force_from
        made[name] = call(name, inputs_from(pipeline, store, name, made), forced)
