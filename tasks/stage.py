"""The contract between a stage, the store and whatever schedules it.

A stage is a pure function of its inputs, its config and a seed. It sees only a `StageContext`, so the same `run` works
from a test, a notebook, a worker of a cluster and Prefect (`tasks.execution.execute`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from artifacts.errors import RunError, UserError
from artifacts.redaction import redacted

if TYPE_CHECKING:  # configs need this module, and none of these
    from artifacts.reader import InputTable
    from artifacts.sources import Source
    from artifacts.store import Artifact
    from artifacts.tables import TableKind
    from artifacts.writer import TableWriter

Item = TypeVar("Item")
Result = TypeVar("Result")


class StageConfig(BaseModel):
    """Base of every stage's config section: unknown fields are errors, values are checked and then frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def outside_recipe(default: Any = ..., **keywords: Any) -> Any:
    """A config field that never changes a result (workers, paths, devices): it does not enter the recipe."""
    return Field(default, json_schema_extra={"outside_recipe": True}, **keywords)


@dataclass(frozen=True)
class Summary:
    """What a stage's `run` returns: its row account and its figures.

    The account is checked at commit. A stage that writes a `decisions` table may leave the counts None: they are taken
    from it, with the reasons. A stage that reads no rows leaves them None too. `metrics` must hold no times.
    """

    rows_in: int | None = None
    kept: int | None = None
    dropped: int | None = None
    failed: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    """Where a stage says how far it is. `total` may be None while unknown; `what` is a few words."""

    def __call__(self, done: int, total: int | None, what: str) -> None: ...


class Mapper(Protocol):
    """Applies a module-level function to items, possibly elsewhere and at once; yields results in item order."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]: ...


def serial_map(function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """The mapper of tests and notebooks: one item after the other, here."""
    return map(function, items)


def no_progress(done: int, total: int | None, what: str) -> None:
    """The progress reporter of tests."""


@dataclass
class StageContext:
    """All that a stage sees.

    Attributes:
        config: the stage's own config section, an instance of `Stage.config`.
        inputs: input name to artifacts; a name that was not given has an empty list.
        sources: the external files that `Stage.sources` named, checked against their hashes and local.
        folder: the draft: files written here (by `path`) become the artifact.
        work: survives a crash and is handed to the next attempt at the same recipe: for checkpoints.
        map: see `Mapper`. Functions and items must pickle.
    """

    stage: Stage
    config: Any
    seed: int
    inputs: Mapping[str, Sequence[Artifact]]
    sources: Sequence[Source]
    folder: Path
    work: Path
    recipe: str = "0" * 16
    map: Mapper = serial_map
    progress: Progress = no_progress
    _writers: dict[str, TableWriter] = field(default_factory=dict)

    def input(self, name: str) -> InputTable:
        """The main table of an input. Raises `UserError` if the input was not given."""
        return self.input_table(name, "data")

    def input_table(self, name: str, table: str) -> InputTable:
        """Another table of an input's artifacts, such as `heldout` of `sequences`."""
        artifacts = self.inputs.get(name, ())
        if not artifacts:
            raise UserError(f"{self.stage.name}: the input {name!r} is missing (--input {name}=REF)")
        from artifacts.reader import InputTable

        return InputTable([path for artifact in artifacts for path in artifact.files(table)])

    def model(self, name: str) -> Path:
        """The `model/` folder of an input that is a model or a tokenizer."""
        artifacts = self.inputs.get(name, ())
        if not artifacts:
            raise UserError(f"{self.stage.name}: the input {name!r} is missing (--input {name}=REF)")
        return artifacts[0].local() / "model"

    def path(self, relative: str) -> Path:
        """Where to write a file of the artifact that is not one of its tables; parent folders are made."""
        target = self.folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def writer(self, name: str) -> TableWriter:
        """The writer of one of the stage's tables, named as in `Stage.writes` (`data` is the main one)."""
        if name not in self._writers:
            from artifacts.writer import TableWriter

            kind = self.stage.writes.get(name)
            if kind is None:
                raise RunError(f"{self.stage.name} does not declare a table {name!r}")
            self._writers[name] = TableWriter(self.folder, name, kind, self.stage.name)
        return self._writers[name]

    def map_with_progress(
        self, function: Callable[[Item], Result], items: Sequence[Item], what: str
    ) -> Iterator[Result]:
        """`map`, reporting after each item."""
        self.progress(0, len(items), what)
        for done, result in enumerate(self.map(function, items), start=1):
            self.progress(done, len(items), what)
            yield result

    def close(self) -> None:
        """Finish every declared table; one that was never written is written empty, so that its columns are known."""
        for name, kind in self.stage.writes.items():
            if len(kind.schema):
                self.writer(name).close()


@dataclass(frozen=True)
class Stage:
    """A stage: see the module's docstring.

    Attributes:
        version: bumped by hand when the same inputs would now give different rows.
        reads: input name to the kind of table its artifacts must have as `data`; kinds without columns are models.
        optional: the inputs of `reads` that may be missing.
        writes: table name to kind; `data` is the main table, `decisions` one row an input row.
        sources: the external files that a config makes the stage read, in order.
        input_sources: the external files that lie beside its inputs, such as people's rankings of samples.
        seeded: whether the seed can change the result.
        gpu: whether it trains or samples, and so wants the machine's accelerator for itself.
        obeys_blocklist: whether the store's blocklist is one of its sources (artifacts.audit.blocklist).
    """

    name: str
    version: int
    config: type[BaseModel]
    reads: Mapping[str, TableKind]
    writes: Mapping[str, TableKind]
    run: Callable[[StageContext], Summary]
    optional: frozenset[str] = frozenset()
    sources: Callable[[Any], list[Source]] | None = None
    input_sources: Callable[[Any, Mapping[str, Sequence[Artifact]]], list[Source]] | None = None
    seeded: bool = True
    gpu: bool = False
    obeys_blocklist: bool = False

    def recipe_config(self, config: BaseModel) -> dict[str, Any]:
        """The part of a config that may change the result, as plain JSON values."""
        return split_config(config)[0]


def split_config(config: BaseModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """(inside the recipe, outside of it), both as plain JSON values without secrets: credentials change no result."""
    inside, outside = _split(config)
    return redacted(inside), redacted(outside)


def _split(config: BaseModel) -> tuple[dict[str, Any], dict[str, Any]]:
    inside: dict[str, Any] = {}
    outside: dict[str, Any] = {}
    for name, info in type(config).model_fields.items():
        extra = info.json_schema_extra
        value = getattr(config, name)
        if isinstance(extra, dict) and extra.get("outside_recipe"):
            outside[name] = config.model_dump(mode="json", include={name})[name]
        elif isinstance(value, BaseModel):
            inner, outer = _split(value)
            inside[name] = inner
            if outer:
                outside[name] = outer
        else:
            inside[name] = config.model_dump(mode="json", include={name})[name]
    return inside, outside
