"""What an operator reads in the log of a run: a line when a stage starts, one when it ends, and what to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from artifacts.store import Artifact
from flows.ui.publish import Log, account
from tasks.execution import Outcome


def start_line(stage: str, inputs: Mapping[str, Sequence[Artifact]], recipe: str) -> str:
    """What is built, from what."""
    given = ", ".join(f"{name}={artifact.ref}" for name, artifacts in inputs.items() for artifact in artifacts)
    return f"{stage}: building recipe {recipe} from {given or 'outside files'}"


def end_line(outcome: Outcome) -> str:
    """What became of it: reused or built, the row account, and where it lies."""
    line = f"{row_line(outcome.row())}; {outcome.artifact.path}"
    return line + (f"; {outcome.resumed} shards were done before" if outcome.resumed else "")


def row_line(row: Mapping[str, Any]) -> str:
    """A stage of a run in one line."""
    status = "reused" if row["reused"] else f"built in {row['seconds']:.1f} s"
    said = account(row["rows_in"], row["kept"], row["dropped"], row["failed"])
    return f"{row['artifact']} {status}" + (f": {said}" if said else "")


def warnings(outcome: Outcome, log: Log) -> None:
    """What an operator should look at although the stage has ended well. Of a reused one it was said before."""
    counts, stage = outcome.artifact.manifest.counts, outcome.stage
    if outcome.reused or not counts.rows_in:
        return
    where = f"its decisions: {outcome.artifact.path}/decisions"
    if not counts.kept:
        log.warning("%s: none of %d rows survived (%s)", stage, counts.rows_in, where)
    if counts.failed:
        log.warning("%s: %d of %d rows could not be read (%s)", stage, counts.failed, counts.rows_in, where)
