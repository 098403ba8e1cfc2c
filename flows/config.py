"""A pipeline's config: one YAML file, a section a stage, checked before anything starts.

A pipeline has the stages whose sections its file has, in the order of `flows.registry`. Two fields stand where people
look for them and are handed to the stage that reads the files: `sft.data` goes to `demonstrations`, `reward.data` to
`label`; so a changed learning rate does not read the instruction files again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from artifacts.errors import UserError
from flows.registry import BY_NAME, NODES, Node

RunnerName = Literal["threads", "processes", "ray", "dask"]
READY_RUNNERS = ("threads", "processes")
DEFAULT = "configs/demo.yaml"
ROOT = Path(__file__).resolve().parent.parent


class PipelineSettings(BaseModel):
    """What concerns the whole pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", title="Name", description="What the pipeline is called in the UI and in reports")
    seed: int = Field(0, title="Seed", description="The one source of chance: the same seed gives the same bytes")
    runner: RunnerName = Field("processes", title="Runner", description="Where shards are worked on; never in a result")
    workers: int | None = Field(None, ge=1, title="Workers", description="Processes or threads; empty: one a core")


PipelineConfig = create_model(
    "PipelineConfig",
    __base__=PipelineSettings,
    **{node.name: (node.stage.config | None, None) for node in NODES},  # type: ignore[call-overload]
)


class Pipeline:
    """A checked config: its settings, and the nodes that it runs."""

    def __init__(self, settings: PipelineSettings, origin: str) -> None:
        self.settings = settings
        self.origin = origin

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
            return BY_NAME[name].stage.config()
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
        to_run: also refuse what this version can plan, but not run.

    Raises:
        UserError: naming the file and the field.
    """
    name = path or DEFAULT
    raw = _read(name)
    for override in overrides:
        _set(raw, override)
    _share_data(raw, name)
    _inherit_ppo(raw)
    try:
        pipeline = Pipeline(PipelineConfig.model_validate(raw), name)
    except ValidationError as error:
        raise UserError("\n".join(f"{name}: {line}" for line in _problems(error))) from error
    if to_run and pipeline.settings.runner not in READY_RUNNERS:
        raise UserError(f"{name}: runner: {pipeline.settings.runner!r} is not here yet; use threads or processes")
    return pipeline


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
        raise UserError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{name}: a config is a mapping of sections, this is {type(raw).__name__}")
    # A section that is named but left empty (`dedup:`) asks for the stage with its defaults.
    return {key: {} if value is None and key in BY_NAME else value for key, value in raw.items()}


def _set(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: write it as section.field=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not YAML: {' '.join(str(error).split())}") from error
    target = raw
    *parents, last = path.split(".")
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override}: {parent!r} is not a section")
        target = inner
    target[last] = value


def _share_data(raw: dict[str, Any], origin: str) -> None:
    for section, reader in (("sft", "demonstrations"), ("reward", "label")):
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
            text += f" (got {problem['input']!r})"
        lines.append(f"{where}: {text}")
    return lines


def _first_problem(error: ValidationError) -> str:
    return _problems(error)[0]
