"""The `licences:` section of a config: what must not go in stops a run before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from artifacts.audit.licences import Denial, denied, explain, sources_in
from artifacts.errors import UserError
from artifacts.manifest import SourceEntry

if TYPE_CHECKING:
    from artifacts.sources import Source
    from artifacts.store import Artifact
    from flows.config import Pipeline


class LicenceRules(BaseModel):
    """Which licences the sources of a pipeline must not have. Never in a result: it only lets a run start or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deny: list[str] = Field(
        [],
        title="Forbidden licences",
        description="Names or patterns with * and ?, in any case: CC-BY-NC*. `unknown` is a source that states none",
    )

    @field_validator("deny", mode="after")
    @classmethod
    def _no_empty_names(cls, value: list[str]) -> list[str]:
        if any(not rule.strip() for rule in value):
            raise ValueError("a rule is the name of a licence or a pattern, not an empty text")
        return value


def check_sources(pipeline: Pipeline, name: str, sources: Iterable[Source]) -> None:
    """Raise `UserError` if a stage would read a file whose licence the config forbids."""
    rules = pipeline.settings.licences.deny
    _refuse(pipeline, ((f"{name}: {_of(source)}", source.role, source.licence) for source in sources), rules)


def check_inputs(pipeline: Pipeline, name: str, inputs: Mapping[str, Sequence[Artifact]]) -> None:
    """The same for the artifacts that a stage is given: everything that they were made from."""
    if rules := pipeline.settings.licences.deny:
        _refuse(pipeline, _above(name, inputs), rules)


def _above(name: str, inputs: Mapping[str, Sequence[Artifact]]) -> Iterator[tuple[str, str | None, str | None]]:
    for given, artifacts in inputs.items():
        for artifact in artifacts:
            where = f"{name}: input {given!r} ({artifact.ref})"
            for source in sources_in(artifact.store, artifact.manifest):
                if source is None:
                    yield f"{where}: what it was made from is not in the store", None, None
                else:
                    yield f"{where}: {_of(source)}", source.role, source.licence


def _of(source: Source | SourceEntry) -> str:
    return f"{source.manifest}: {source.name}" if source.manifest else source.name


def _refuse(pipeline: Pipeline, named: Iterable[tuple[str, str | None, Any]], rules: Sequence[str]) -> None:
    if not rules:
        return
    found: list[tuple[str, Denial]] = []
    for where, role, licence in named:
        denial = denied(licence, rules) if role != "blocklist" else None
        if denial is not None:
            found.append((where, denial))
    if found:
        lines = explain(found).splitlines()
        raise UserError("\n".join(f"{pipeline.origin}: licences.deny: {line}" for line in lines))
