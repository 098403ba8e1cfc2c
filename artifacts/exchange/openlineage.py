"""OpenLineage events (spec 2-0-2) of runs and artifacts, as the client's own classes. Nothing here sends them.

An execution is a run of the pipeline, or one stage in it. Its job is named `<pipeline>` or `<pipeline>.<stage>`, after
the config's file name; its id is a UUIDv7 that follows from the run's id and the stage's name, so that events told
while a run goes on and events made from a manifest years later are about the same execution.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import attr
from openlineage.client.constants import __version__ as client_version
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    documentation_job,
    error_message_run,
    job_type_job,
    parent_run,
    processing_engine_run,
    source_code_location_job,
)
from openlineage.client.serde import Serde
from openlineage.client.uuid import generate_static_uuid

from artifacts.errors import RunError, UserError
from artifacts.exchange.openlineage_datasets import (
    NAMESPACE,
    given_artifacts,
    input_datasets,
    output_datasets,
    source_dataset,
)
from artifacts.graph import StoreGraph, inputs_first
from artifacts.manifest import Manifest
from artifacts.redaction import redact_text, redact_url
from artifacts.store import Artifact, Store

RUN_ID_TIME = "%Y%m%d-%H%M%S"


@attr.define
class ArtifactRunFacet(RunFacet):
    """`crawl2chat_artifact`: what the execution gave, and whether it was there before."""

    artifact: str
    path: str
    content: str
    reused: bool
    counts: dict[str, Any] = attr.field(factory=dict)
    commit: str | None = attr.field(default=None)

    @staticmethod
    def _get_schema() -> str:
        return "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"


@attr.define
class ProgressRunFacet(RunFacet):
    """`crawl2chat_progress`: how far a stage is; `total` is null while unknown."""

    done: int
    what: str
    total: int | None = attr.field(default=None)

    @staticmethod
    def _get_schema() -> str:
        return "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"


@dataclass(frozen=True)
class Execution:
    """What the events of one execution have in common.

    Attributes:
        run: the id of the run (`20260102-030405-1a2b`), or any other text that is its own.
        pipeline: name of the pipeline's job; None where only a manifest is known that names no run.
        stage: None for the run as a whole.
        version: of crawl2chat.
        code: where its code is: `url`, `repoUrl`, `version`, `path` of OpenLineage's facet. Empty where unknown.
    """

    run: str
    pipeline: str | None = None
    stage: str | None = None
    namespace: str = NAMESPACE
    version: str = "unknown"
    description: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def job(self) -> str:
        return ".".join(name for name in (self.pipeline, self.stage) if name) or "run"

    @property
    def id(self) -> str:
        """UUIDv7: its time is that of the run's id, its other bits a hash of run and stage."""
        try:
            instant = datetime.strptime(self.run[:15], RUN_ID_TIME).replace(tzinfo=UTC)
        except ValueError:  # an id that somebody else gave
            instant = datetime.fromtimestamp(0, UTC)
        return str(generate_static_uuid(instant, f"{self.run}/{self.stage or ''}".encode()))

    def event(
        self,
        state: RunState,
        time: str,
        inputs: Sequence[InputDataset] = (),
        outputs: Sequence[OutputDataset] = (),
        **facets: RunFacet,
    ) -> RunEvent:
        """One event; `time` is ISO 8601 with a time zone."""
        return RunEvent(
            eventType=state,
            eventTime=time,
            run=Run(self.id, {**self._run_facets(), **facets}),
            job=Job(self.namespace, self.job, self._job_facets()),
            inputs=list(inputs),
            outputs=list(outputs),
        )

    def _run_facets(self) -> dict[str, RunFacet]:
        engine = processing_engine_run.ProcessingEngineRunFacet(self.version, "crawl2chat", client_version)
        facets: dict[str, RunFacet] = {"processing_engine": engine}
        if self.stage is not None and self.pipeline is not None:
            above = Execution(self.run, self.pipeline, None, self.namespace)
            facets["parent"] = parent_run.ParentRunFacet(
                run=parent_run.Run(above.id),
                job=parent_run.Job(above.namespace, above.job),
                root=parent_run.Root(
                    run=parent_run.RootRun(above.id), job=parent_run.RootJob(above.namespace, above.job)
                ),
            )
        return facets

    def _job_facets(self) -> dict[str, JobFacet]:
        kind = "STAGE" if self.stage else "PIPELINE"
        facets: dict[str, JobFacet] = {
            "jobType": job_type_job.JobTypeJobFacet("BATCH", "CRAWL2CHAT", kind),
        }
        if self.description:
            facets["documentation"] = documentation_job.DocumentationJobFacet(self.description, "text/plain")
        if self.code.get("url"):
            facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
                "git",
                self.code["url"],
                self.code.get("repoUrl"),
                self.code.get("path"),
                self.code.get("version"),
            )
        return facets


def pipeline_name(config: str) -> str:
    """The name of a pipeline's job: that of its config's file, `configs/demo.yaml` is `demo`."""
    return PurePosixPath(config.replace("\\", "/")).stem or "run"


def failure(message: str) -> error_message_run.ErrorMessageRunFacet:
    """The facet `errorMessage` of a failed execution, without secrets."""
    return error_message_run.ErrorMessageRunFacet(redact_text(message), "python")


def made(artifact: Artifact, reused: bool) -> ArtifactRunFacet:
    """The facet `crawl2chat_artifact` of a finished stage."""
    manifest = artifact.manifest
    return ArtifactRunFacet(
        artifact=artifact.ref,
        path=redact_url(artifact.path),
        content=manifest.content,
        reused=reused,
        counts={name: value for name, value in manifest.counts.model_dump().items() if value is not None},
        commit=manifest.code.get("commit"),
    )


def read_by(inputs: Iterable[Artifact]) -> list[InputDataset]:
    """The datasets of some artifacts, each once (one artifact may be given under two names)."""
    found = {(dataset.namespace, dataset.name): dataset for artifact in inputs for dataset in input_datasets(artifact)}
    return list(found.values())


def completed(execution: Execution, artifact: Artifact, time: str, reused: bool) -> RunEvent:
    """COMPLETE of a stage: its inputs and sources, what it wrote, and what became of the rows."""
    inputs = read_by(given for _, given in given_artifacts(artifact))
    inputs += [source_dataset(source) for source in artifact.manifest.sources]
    outputs = output_datasets(artifact, wrote=not reused)
    return execution.event(RunState.COMPLETE, time, inputs, outputs, crawl2chat_artifact=made(artifact, reused))


def artifact_events(artifact: Artifact, namespace: str = NAMESPACE) -> list[RunEvent]:
    """START and COMPLETE of the execution that built an artifact, from its manifest alone."""
    manifest = artifact.manifest
    execution = Execution(
        manifest.run.run_id or artifact.folder,
        _pipeline_of(artifact.store, manifest),
        artifact.stage,
        namespace,
        manifest.code.get("version", "unknown"),
    )
    done = completed(execution, artifact, manifest.run.finished, reused=False)
    return [execution.event(RunState.START, manifest.run.started, done.inputs or []), done]


def _pipeline_of(store: Store, manifest: Manifest) -> str | None:
    """The pipeline's name, from the record of the run that built the artifact; None if there is none (any more)."""
    if manifest.run.run_id is None:
        return None
    try:
        return pipeline_name(json.loads(store.read_text(f"runs/{manifest.run.run_id}.json"))["config"])
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def lineage_events(store: Store, members: Iterable[Artifact], namespace: str = NAMESPACE) -> list[RunEvent]:
    """START and COMPLETE of every artifact given, what was read before what reads it."""
    whole = StoreGraph(store)
    events = []
    for artifact in inputs_first(whole, set(members)):
        try:
            events += artifact_events(artifact, namespace)
        except OSError as error:
            raise RunError(f"{artifact.path}: {error.strerror or error} (see `crawl2chat verify`)") from error
    return events


def as_line(event: RunEvent) -> str:
    """The event as one line of JSON, keys sorted."""
    return Serde.to_json(event)
