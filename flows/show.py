"""How the command line shows things to a person: tables for standard output, lines for standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import RunError, UserError
from flows.screen import Screen, plain

if TYPE_CHECKING:
    from rich.console import Console

    from artifacts.store import Artifact, Store

# A pipe has no width: what is cut there is lost to whoever reads it.
out = Screen(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def stage_line(errors: Screen) -> Callable[[dict[str, Any]], None]:
    """A listener that prints one line a finished stage."""

    def line(row: dict[str, Any]) -> None:
        account = "" if row["rows_in"] is None else f"  {row['rows_in']} rows: {row['kept']} kept"
        if row["dropped"]:
            account += f", {row['dropped']} dropped"
        if row["failed"]:
            account += f", {row['failed']} failed"
        verb = "reused" if row["reused"] else f"built in {row['seconds']:.1f} s"
        errors.print(f"  {row['stage']:<16} {verb}{account}", highlight=False)

    return line


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=column != "because")
    for row in rows:
        table.add_row(*("" if value is None else plain(str(value)) for value in row))
    out.print(table)


def run_table(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ("stage", "artifact", "reused", "rows_in", "kept", "dropped", "failed", "seconds")
    values = [
        [
            row["stage"],
            row["artifact"],
            "yes" if row["reused"] else "",
            *(row[name] for name in columns[3:7]),
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    _table(columns, values, columns[3:])


def plan_table(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ("stage", "status", "recipe", "because")
    _table(columns, [[row[name] for name in columns] for row in rows])


def artifact_row(artifact: Artifact) -> dict[str, Any]:
    """The object that `ls --json` lists; of one with a damaged manifest only what its folder's name says."""
    try:
        manifest = artifact.manifest
    except RunError as error:
        named = {"stage": artifact.stage, "artifact": artifact.ref, "content": None, "path": artifact.path}
        return {**named, **dict.fromkeys(FIGURES), "problem": str(error)}
    counts = manifest.counts
    return {
        "stage": artifact.stage,
        "artifact": artifact.ref,
        "content": manifest.content,
        "path": artifact.path,
        "finished": manifest.run.finished,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "rows_in": counts.rows_in,
        "kept": counts.kept,
        "dropped": counts.dropped,
        "failed": counts.failed,
    }


FIGURES = ("finished", "bytes", "rows_in", "kept", "dropped", "failed")


def artifact_table(rows: Sequence[dict[str, Any]]) -> None:
    columns = ("artifact", *FIGURES)
    shown = [row | {"finished": "damaged"} if "problem" in row else row for row in rows]
    _table(columns, [[row[name] for name in columns] for row in shown], columns[2:])


def manifest_text(manifest: Mapping[str, Any]) -> None:
    import yaml

    sys.stdout.write(yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True, width=120))


def verify_text(found: Mapping[str, Any]) -> None:
    for problem in found["problems"]:
        out.print(plain(f"{problem['artifact']}  {problem['file']}: {problem['problem']}"))
    for note in found["notes"]:
        out.print(plain(f"note: {note['file']}: {note['problem']}"))
    said = "no problems" if found["ok"] else f"{len(found['problems'])} problems"
    entries = found["chain"]["entries"]
    runs = f"a run chain of {entries} entries" if entries else "no run chain yet"
    out.print(f"{found['checked']} artifacts, {runs}: {said}")


def why_text(found: Mapping[str, Any]) -> None:
    for document in found["documents"]:
        out.print(plain(f"{document['doc_id']}  {document['url']}{_taken_down(document)}", style="bold"))
        for step in document["fate"]:
            fate = "kept" if step["kept"] else "dropped"
            reason = "" if step["reason"] == fate else step["reason"] or ""
            parts = [f"  {step['stage']:<14} {fate:<8} {reason}"]
            if step["score"] is not None:
                parts.append(f"score {step['score']:.4f}")
            if step["threshold"] is not None:
                parts.append(f"threshold {step['threshold']:.4f}")
            if step["detail"]:
                parts.append(str(step["detail"]))
            out.print(plain("  ".join(parts)))


def trace_text(found: Mapping[str, Any]) -> None:
    for document in found["documents"]:
        out.print(plain(f"{_traced(document)}{_taken_down(document)}", style="bold"))
    if found["sequences"]:
        out.print(f"in {found['sequences']} training sequences")
    if found["models"]:
        columns = ("artifact", "stage", "first_step", "last_step", "tokens")
        model_table(found["models"], columns)
    for source in found["sources"]:
        out.print(plain("  ".join(f"{key}: {value}" for key, value in source.items() if value is not None)))


def _traced(document: Mapping[str, Any]) -> str:
    """What was traced, in a line: a page, a prompt with its tables, or a record with what was decided about it."""
    if "prompt_id" in document:
        tables = "; ".join(f"{row['artifact']} ({', '.join(row['tables'])})" for row in document["tables"])
        return f"{document['prompt_id']}  {tables}"
    if "kept" in document:
        fate = "kept" if document["kept"] else f"dropped {document['reason']}"
        return f"{document['doc_id']}  {document['artifact']}  {fate}  {document['detail'] or ''}".rstrip()
    return f"{document['doc_id']}  {document['url']}"


def _taken_down(document: Mapping[str, Any]) -> str:
    return f"  taken down {document['taken_down']}" if document.get("taken_down") else ""


def model_table(models: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Models that have read a page; where it was taken down, also which of them were trained anew without it."""
    rows = [dict(row) for row in models]
    if any("replaced_by" in row for row in rows):
        columns = (*columns, "state")
        for row in rows:
            row["state"] = f"replaced by {row['replaced_by']}" if row["replaced_by"] else "stale: retrain"
    _table(columns, [[row[name] for name in columns] for row in rows], ("first_step", "last_step", "tokens"))


def write_run_report(store: Store, run: str, errors: Screen | Console) -> str | None:
    """The report of a run, in the store. A report that cannot be made never undoes the run: it says so."""
    try:
        return write_report_of(store, run, None)
    except Exception as error:
        errors.print(f"the report could not be written: {type(error).__name__}: {error}", markup=False)
        return None


def write_report_of(store: Store, target: str, out: Path | None) -> str:
    """Write the report of a run or an artifact; returns its path.

    Raises:
        UserError: `target` names neither.
    """
    from flows.records import report_path
    from flows.report import write_report

    subject: Any
    if "@" in target or target in store.stages():
        subject = store.resolve(target)
        name = f"{subject.stage}-{subject.recipe}"
    else:
        subject = _run_record(store, target)
        name = subject["run"]
    if out is None:
        out = report_path(store, name)
    if out.is_dir():
        raise UserError(f"--out {out}: a folder; name a file in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return str(write_report(store, subject, out))
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written there: {error.strerror or error}") from error


def _run_record(store: Store, target: str) -> dict[str, Any]:
    from flows.records import load_run

    try:
        return load_run(store, target)
    except UserError as error:
        raise UserError(f"{error} (runs are listed in {store.join('runs')}; an artifact is stage@recipe)") from error
