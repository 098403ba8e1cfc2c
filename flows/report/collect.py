"""What a report is about: the artifacts of a run or above an artifact, by stage, and their tables of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from artifacts.graph import StoreGraph, inputs_first
from artifacts.query import columns, query
from artifacts.store import Artifact, Store

Series = dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Subject:
    """`record` is the run's record, None for the report of an artifact. `stages` keeps the order of the pipeline."""

    store: Store
    title: str
    record: Mapping[str, Any] | None
    artifacts: list[Artifact]
    missing: list[str]

    @property
    def stages(self) -> dict[str, Artifact]:
        return {artifact.stage: artifact for artifact in self.artifacts}

    def metrics(self, stage: str) -> dict[str, Any]:
        """A stage's metrics; empty if the run has no such stage."""
        artifact = self.stages.get(stage)
        return artifact.manifest.metrics if artifact else {}


def subject_of(store: Store, target: Mapping[str, Any] | Artifact) -> Subject:
    """The artifacts that a run's record lists (what it lists and the store no longer has is `missing`), or an artifact
    with all that it was made from."""
    whole = StoreGraph(store)
    if isinstance(target, Artifact):
        return Subject(store, target.ref, None, inputs_first(whole, {target, *whole.ancestors(target)}), [])
    by_folder = {artifact.folder: artifact for artifact in whole.artifacts}
    found, missing = [], []
    for row in target["stages"]:
        artifact = by_folder.get("/".join(str(row["path"]).rstrip("/").rsplit("/", 2)[-2:]))
        if artifact is None:
            missing.append(str(row["artifact"]))
        else:
            found.append(artifact)
    return Subject(store, f"Run {target['run']}", target, found, missing)


def series(artifact: Artifact | None) -> Series:
    """Metric name to (steps, values) of a training stage's `data` table; empty without the stage or the table."""
    found: Series = {}
    if artifact is None or not {"step", "name", "value"} <= columns(artifact):
        return found
    for row in query(artifact, "data", "select step, name, value from t order by row"):
        steps, values = found.setdefault(row["name"], ([], []))
        steps.append(float(row["step"]))
        values.append(float("nan") if row["value"] is None else float(row["value"]))
    return found


def smooth(values: list[float], width: int) -> list[float]:
    """A running mean over the last `width` values: what was known at each step."""
    total, found = 0.0, []
    for place, value in enumerate(values):
        total += value - (values[place - width] if place >= width else 0.0)
        found.append(total / min(place + 1, width))
    return found


def rows(artifact: Artifact, table: str, limit: int) -> list[dict[str, Any]]:
    """The first rows of one of an artifact's tables."""
    return query(artifact, table, "select * exclude (row) from t order by row limit ?", [limit])
