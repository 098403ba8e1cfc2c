"""Rankings by people: a run that needs them hands the samples out, waits, and goes on when they are there.

A deployment's run is suspended: its process ends, its place is free, and resuming it starts it anew, which by reuse
means from where it waited. On the command line the run ends, and the same command goes on.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from artifacts.errors import RunError, UserError, Waiting
from artifacts.store import Artifact, Store
from tasks.label import LabelConfig
from tasks.label.people import FOLDER, TO_RANK, Standing, folder_of, hand_out, standing_of

NOTES = "waiting"
ARTIFACT = "rankings-wanted"
EVERY = 30.0  # seconds between two looks at the rankings
log = logging.getLogger(__name__)


class WaitingForRankings(Waiting):
    """Too few prompts are ranked. `samples` are those to rank, `folder` is where, `standing` how far it is."""

    def __init__(self, samples: Artifact, standing: Standing, wanted: float) -> None:
        self.samples, self.standing, self.wanted = samples, standing, wanted
        self.folder = samples.store.join(folder_of(samples))
        super().__init__(
            f"waiting for rankings: {standing.ranked} of {standing.needed} prompts in {self.folder} "
            f"(its README.md says how); the same command goes on from there"
        )


def missing_rankings(name: str, config: Any, inputs: Mapping[str, Sequence[Artifact]]) -> WaitingForRankings | None:
    """What the label stage would wait for; None for other stages and other annotators. Writes nothing."""
    if name != "label" or not isinstance(config, LabelConfig) or config.annotator != "people":
        return None
    for samples in inputs.get("samples", ()):
        standing, _ = standing_of(samples, config.wanted)
        if not standing.ready:
            return WaitingForRankings(samples, standing, config.wanted)
    return None


def wait_for_rankings(name: str, config: Any, inputs: Mapping[str, Sequence[Artifact]]) -> None:
    """Before a stage runs: hand out what people are to rank first.

    Raises:
        WaitingForRankings: fewer prompts are ranked than are wanted.
    """
    missing = missing_rankings(name, config, inputs)
    if missing is not None:
        _, rows = standing_of(missing.samples, missing.wanted)
        hand_out(missing.samples, rows)
        raise missing


def suspend(missing: WaitingForRankings, key: str) -> None:
    """Suspend the flow run that calls this, with a note for `resume_ready` and an artifact that says where to label.

    Does not return: Prefect ends the process.

    Args:
        key: another one for each try of the flow run: Prefect suspends only once for a key.
    """
    from prefect.artifacts import create_markdown_artifact
    from prefect.flow_runs import suspend_flow_run
    from prefect.runtime import flow_run

    samples, standing = missing.samples, missing.standing
    note = {"flow_run": str(flow_run.id), "samples": samples.ref, "wanted": missing.wanted}
    samples.store.write_text(f"{folder_of(samples)}/{NOTES}/{flow_run.id}.json", json.dumps(note) + "\n")
    text = f"""## Rankings wanted

**{standing.ranked} of {standing.needed}** prompts are ranked.

- the prompts with their answers: `{missing.folder}/{TO_RANK}`
- how to rank them: `{missing.folder}/README.md`

The run goes on by itself once enough are ranked; *Resume* looks at once.
"""
    create_markdown_artifact(text, key=ARTIFACT, description=str(missing))
    suspend_flow_run(key=key, timeout=None)


def resume_ready(store_url: str) -> list[str]:
    """Resume the suspended runs of a store whose rankings have come; returns their ids. For a watcher to call.

    Prefect is asked only about runs whose rankings are complete, and their notes are taken away then, whoever resumed
    or cancelled them.
    """
    store, resumed = Store(store_url), []
    for recipe in store.list_dir(FOLDER):
        folder = f"{FOLDER}/{recipe}/{NOTES}"
        for name in store.list_dir(folder):
            flow_run_id, _, kind = name.partition(".")
            if kind != "json" or not flow_run_id or not _is_ready(store, f"{folder}/{name}"):
                continue
            if _resume(UUID(flow_run_id)):
                resumed.append(flow_run_id)
            store.remove(f"{folder}/{name}")
    return resumed


@contextmanager
def watching(store_url: str, say: Callable[[str], None], every: float = EVERY) -> Iterator[None]:
    """Call `resume_ready` now and then for as long as the context lasts, and say which runs go on."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            try:
                for flow_run_id in resume_ready(store_url):
                    say(f"the rankings are there: run {flow_run_id} goes on")
            except Exception as error:  # a server that restarts, a store that is away: the next look may do
                log.warning("suspended runs could not be looked at: %s", error)

    watcher = threading.Thread(target=watch, daemon=True, name="rankings")
    watcher.start()
    try:
        yield
    finally:
        stop.set()


def _is_ready(store: Store, note: str) -> bool:
    try:
        said = json.loads(store.read_text(note))
        standing, _ = standing_of(store.resolve(said["samples"]), float(said["wanted"]))
    except (UserError, RunError, ValueError, KeyError):
        return False  # the samples are gone or damaged, and with them what could be ranked
    return standing.ready


def _resume(flow_run_id: UUID) -> bool:
    """Whether the run was suspended, and is resumed now."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(flow_run_id).state
        except ObjectNotFound:
            return False
        if state is None or state.name != "Suspended":
            return False
        client.resume_flow_run(flow_run_id)
    return True
