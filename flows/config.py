"""A pipeline's config: one YAML file, a section a stage, checked before anything starts.

A pipeline has the stages whose sections its file has, in the order of `flows.registry`. Two fields stand where people
look for them and are handed to the stage that reads the files: `sft.data` goes to `demonstrations`, `reward.data` to
`label`; so a changed learning rate does not read the instruction files again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from artifacts.errors import UserError
from artifacts.redaction import hidden, redact_override, redact_text, redacted
from flows.licences import LicenceRules
from flows.openlineage_events import OpenLineageSettings
from flows.registry import BY_NAME, NODES, Node
from flows.runner import check_runner
from flows.schedules import ScheduleConfig

RunnerName = Literal["threads", "processes", "ray", "dask"]
# What one run may have otherwise than its config says, beside the fields of its stages.
COMMON = ("seed", "runner", "workers")
# The section in which people write the files, and the stage that reads them.
SHARED_DATA = (("sft", "demonstrations"), ("reward", "label"))
DEFAULT = "configs/demo.yaml"
ROOT = Path(__file__).resolve().parent.parent


class AutomationSettings(BaseModel):
    """What `crawl2chat up` starts by itself, beside schedules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_on_new_mix: bool = Field(
        False, title="Train on a new mix", description="Go on with the pipeline when a run has built a new mix artifact"
    )


class PipelineSettings(BaseModel):
    """What concerns the whole pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", title="Name", description="What the pipeline is called in the UI and in reports")
    seed: int = Field(0, title="Seed", description="The one source of chance: the same seed gives the same bytes")
    runner: RunnerName = Field("processes", title="Runner", description="Where shards are worked on; never in a result")
    workers: int | None = Field(None, ge=1, title="Workers", description="Processes or threads; empty: one a core")
    runner_address: str = Field(
        "",
        title="Runner's address",
        description="A Ray or Dask cluster that is running (auto, host:port, tls://host:port); empty: what RAY_ADDRESS "
        "or DASK_SCHEDULER_ADDRESS names, else workers on this machine; never in a result",
    )
    schedules: list[ScheduleConfig] = Field(
        [], title="Schedules", description="When `crawl2chat up` starts runs of it; never in a result"
    )
    automations: AutomationSettings = Field(
        AutomationSettings(),
        title="Automations",
        description="What `crawl2chat up` starts by itself; never in a result",
    )
    licences: LicenceRules = Field(
        LicenceRules(), title="Licences", description="Sources that must not go in: {deny: [CC-BY-NC*, unknown]}"
    )
    openlineage: OpenLineageSettings | None = Field(
        None, title="OpenLineage", description="Where events about its runs go: {file: …} or {url: …}; empty: nowhere"
    )


PipelineConfig = create_model(
    "PipelineConfig",
    __base__=PipelineSettings,
    **{node.name: (node.config | None, None) for node in NODES},  # type: ignore[call-overload]
)


class Pipeline:
    """A checked config: its settings, and the nodes that it runs."""

    def __init__(self, settings: PipelineSettings, origin: str, raw: dict[str, Any] | None = None) -> None:
        self.settings = settings
        self.origin = origin
        self._raw = raw or {}

    def overridden(self, overrides: Sequence[str]) -> Pipeline:
        """The same config with `a.b=value` overrides (the value is YAML).

        Raises:
            UserError: naming the file and the field.
        """
        raw = copy.deepcopy(self._raw)
        for override in overrides:
            _set(raw, override)
        return _checked(hidden(raw), self.origin)

    def states(self, section: str, field: str) -> bool:
        """Whether the file itself (or an override) gives this field."""
        return isinstance(given := self._raw.get(section), dict) and field in given

    @property
    def name(self) -> str:
        """What the pipeline is called: its name, else its file's."""
        return self.settings.name or self.origin.rpartition("/")[2].rpartition(".")[0] or self.origin

    @property
    def nodes(self) -> list[Node]:
        return [node for node in NODES if getattr(self.settings, node.name) is not None]

    def config(self, name: str) -> BaseModel:
        """A stage's section; for a stage without one, its defaults.

        Raises:
            UserError: the stage has fields without a default, and the config has no section for it.
        """
        section = getattr(self.settings, name)
        if section is not None:
            return section  # type: ignore[no-any-return]
        try:
            return BY_NAME[name].config()
        except ValidationError as error:
            raise UserError(f"{self.origin}: the section {name!r} is needed: {_first_problem(error)}") from error

    def feeders(self, name: str) -> dict[str, str]:
        """Input name to the stage of this pipeline that feeds it. Inputs that none can feed are left out."""
        present = {node.name for node in self.nodes}
        chosen = {}
        for given, candidates in BY_NAME[name].feeds.items():
            found = next((candidate for candidate in candidates if candidate in present), None)
            if found is not None:
                chosen[given] = found
        return chosen


def load_pipeline(path: str | None = None, overrides: Sequence[str] = (), to_run: bool = False) -> Pipeline:
    """Read and check a config file, with `a.b=value` overrides (the value is YAML).

    Args:
        to_run: also refuse a runner that is not installed, which matters to no plan.

    Raises:
        UserError: naming the file and the field.
    """
    name = path or DEFAULT
    raw = _read(name)
    for override in overrides:
        _set(raw, override)
    pipeline = _checked(hidden(raw), name)  # no secret from here on; what opens a URL has it back
    for number, schedule in enumerate(pipeline.settings.schedules):
        _check_schedule(pipeline, number, schedule)
    if to_run:
        try:
            check_runner(pipeline.settings.runner)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    return pipeline


def _checked(raw: dict[str, Any], name: str) -> Pipeline:
    given = copy.deepcopy(raw)
    _share_data(given, name)
    _inherit_ppo(given)
    try:
        return Pipeline(PipelineConfig.model_validate(given), name, raw)
    except ValidationError as error:
        raise UserError("\n".join(f"{name}: {line}" for line in _problems(error))) from error


def _check_schedule(pipeline: Pipeline, number: int, schedule: ScheduleConfig) -> None:
    """Raise `UserError` for a schedule that names what the pipeline lacks, or overrides what its config cannot take."""
    where = f"{pipeline.origin}: schedules.{number}"
    stages = [node.name for node in pipeline.nodes]
    for field in ("stage", "until"):
        if (given := getattr(schedule, field)) not in ("all", *stages):
            raise UserError(
                f"{where}.{field}: this config has no stage {given!r}; it has {', '.join(stages) or 'none'}"
            )
    names = [other.slug(place) for place, other in enumerate(pipeline.settings.schedules[: number + 1], start=1)]
    if names[-1] in names[:-1]:
        raise UserError(f"{where}.name: an earlier schedule is called {names[-1]!r} too")
    allowed = stages if schedule.stage == "all" else [schedule.stage]
    for override in schedule.set:
        section, dot, _ = override.partition("=")[0].partition(".")
        if section not in (allowed if dot else COMMON):
            raise UserError(
                f"{where}.set: {override}: a schedule sets fields of {', '.join(allowed)}, and {', '.join(COMMON)}"
            )
    try:
        pipeline.overridden(schedule.set)
    except UserError as error:
        problem = str(error).removeprefix(f"{pipeline.origin}: ").removeprefix("--set ")
        raise UserError(f"{where}.set: {problem}") from error


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if not path.exists() and not path.is_absolute() and (ROOT / name).exists():
        path = ROOT / name
    try:
        text = path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: the config cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not YAML: {redact_text(' '.join(str(error).split()))}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{name}: a config is a mapping of sections, this is {type(raw).__name__}")
    # A section that is named but left empty (`dedup:`) asks for the stage with its defaults.
    return {key: {} if value is None and key in BY_NAME else value for key, value in raw.items()}


def _set(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {redact_override(override)}: write it as section.field=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = redact_text(" ".join(str(error).split()))
        raise UserError(f"--set {redact_override(override)}: the value is not YAML: {problem}") from None
    target = raw
    *parents, last = path.split(".")
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {redact_override(override)}: {parent!r} is not a section")
        target = inner
    target[last] = value


def _share_data(raw: dict[str, Any], origin: str) -> None:
    for section, reader in SHARED_DATA:
        given = raw.get(section)
        if isinstance(given, dict) and "data" in given:
            data = given.pop("data")
            target = raw.setdefault(reader, {})
            if isinstance(target, dict) and target.setdefault("data", data) != data:
                raise UserError(
                    f"{origin}: {section}.data and {reader}.data differ; they mean the same files, give one"
                )


def _inherit_ppo(raw: dict[str, Any]) -> None:
    """`ppo_without_ptx` is `ppo` with the coefficient at 0: what its section does not say is as in `ppo`."""
    own, ppo = raw.get("ppo_without_ptx"), raw.get("ppo")
    if isinstance(own, dict) and isinstance(ppo, dict):
        raw["ppo_without_ptx"] = {**ppo, "ptx": 0.0, **own}


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"]
        if problem["type"] == "extra_forbidden":
            text = "no such field"
        elif problem["type"] != "missing":
            text += f" (got {redacted(problem['input'])!r})"
        lines.append(f"{where}: {text}")
    return lines


def _first_problem(error: ValidationError) -> str:
    return _problems(error)[0]
