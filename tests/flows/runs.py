"""Runs of deployments against a Prefect API, executed here or as a process worker does: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.config import load_pipeline
from flows.deployments import deployments_of, pipeline, stage
from flows.server import prefect_api

ROOT = Path(__file__).resolve().parent.parent.parent


class Deployed:
    """The deployments of one config on a store, known to a server."""

    def __init__(self, client: SyncPrefectClient, config: str, store: str) -> None:
        self.client, self._ids = client, {}
        for one in deployments_of([load_pipeline(config)], store):
            self._ids[f"{one.flow}/{one.name}"] = client.create_deployment(
                flow_id=client.create_flow_from_name(one.flow),
                name=one.name,
                entrypoint=one.entrypoint,
                path=str(ROOT),
                parameters=one.parameters,
                parameter_openapi_schema=one.parameter_openapi_schema,
                enforce_parameter_schema=True,
                tags=one.tags,
                description=one.description,
            )

    def create(self, name: str, parameters: dict[str, Any], **keywords: Any) -> UUID:
        """As the form of the UI does; raises what the server refuses."""
        answer = self.client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": self._ids[name]},
            json={"parameters": parameters, **keywords},
        )
        return UUID(answer.json()["id"])

    def execute(self, run: UUID) -> FlowRun:
        """Run it to its end, or until it is suspended, in this process."""
        found = self.client.read_flow_run(run)
        name = self.client.read_flow(found.flow_id).name
        with suppress(Pause):
            run_flow({"pipeline": pipeline, "stage": stage}[name], flow_run=found, return_type="state")
        return self.client.read_flow_run(run)

    def execute_apart(self, run: UUID) -> FlowRun:
        """The same in a process of its own, as a process worker does."""
        command = [sys.executable, "-m", "prefect.engine", str(run)]
        done = subprocess.run(command, env=os.environ.copy(), capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return self.client.read_flow_run(run)

    def run(self, name: str, parameters: dict[str, Any], **keywords: Any) -> FlowRun:
        return self.execute(self.create(name, parameters, **keywords))


@contextmanager
def served(config: str, store: str) -> Iterator[Deployed]:
    """A server of its own in the folder that PREFECT_HOME names, with the config's deployments."""
    with (
        prefect_api() as url,
        temporary_settings(updates={PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        yield Deployed(client, config, store)
