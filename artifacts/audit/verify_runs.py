"""Holding the records of runs against their hash chain (`artifacts.runs`), and the artifacts against the records.

What it finds: an entry edited or taken out, a record edited, removed or slipped in, an artifact whose run has no
record. It hands on the manifests' checksums, for `artifacts.audit.verify` to hold the manifests against. What it cannot
see from the store alone: that the newest entries were cut off with all that names them. The head in a published run
finds that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from artifacts.digest import SHORT
from artifacts.errors import RunError, UserError
from artifacts.runs import BEGAN, CHAIN, FINISHED, SEALED, STARTED, Link, entry_names, read_link, record_path, run_ids
from artifacts.store import Artifact, Store


@dataclass(frozen=True)
class Finding:
    """What is wrong with one file: an entry, a record, or the manifest of `artifact`."""

    file: str
    problem: str
    artifact: str = "runs"


@dataclass
class RunsReport:
    """`problems` speak of tampering or loss; `notes` of what a killed run leaves, and are none."""

    entries: int = 0
    heads: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    digests: frozenset[str] = frozenset()
    checksums: dict[tuple[str, str], str] = field(default_factory=dict)  # of a run's manifest, by (run, stage@recipe)


def verify_runs(store: Store, artifacts: Iterable[Artifact] = ()) -> RunsReport:
    """Check the chain, the records, and that the runs that `artifacts` name are recorded.

    A store in which no chain was begun has nothing to hold its records against: no problem is reported then, unless
    a record names an entry of a chain that is gone.
    """
    links, unread = _links(store)
    report = RunsReport(entries=len(links), problems=list(unread))
    report.digests = frozenset(link.digest for link in links)
    report.problems += _chain(links)
    named = {parent for link in links if link.entry for parent in link.entry.parents}
    report.heads = sorted(report.digests - named)
    account = _Account(link for link in links if link.intact)
    report.checksums = account.checksums
    records = {run: _Record(store, run) for run in run_ids(store)}
    if links:
        report.problems += account.missing(records)
    for run, record in records.items():
        problem, note = account.judge(run, record, report.digests, bool(links))
        report.problems += [Finding(record_path(run), problem)] if problem else []
        report.notes += [Finding(record_path(run), note)] if note else []
    if links:
        report.problems += [found for artifact in artifacts for found in account.orphan(artifact, records)]
    return report


def _links(store: Store) -> tuple[list[Link], list[Finding]]:
    links, unread = [], []
    for name in entry_names(store):
        try:
            links.append(read_link(store, name))
        except (OSError, UserError) as error:
            unread.append(Finding(f"{CHAIN}/{name}", f"cannot be read: {error}"))
    return links, unread


def _chain(links: list[Link]) -> Iterator[Finding]:
    """Entries that were altered, and places where one is gone."""
    numbers = {link.digest: link.number for link in links}
    altered = set()
    for link in links:
        if not link.intact:
            altered.add(link.name.split(".")[1])
            yield Finding(f"{CHAIN}/{link.name}", "altered: its name does not follow from its bytes")
    for link in links:
        if link.entry is None or not link.intact:
            continue
        where, parents = f"{CHAIN}/{link.name}", link.entry.parents
        gone = [parent for parent in parents if parent not in numbers and parent[:SHORT] not in altered]
        for parent in gone:
            yield Finding(where, f"an entry before it is gone (sha256 {parent})")
        if not parents and link.entry.kind != BEGAN:
            yield Finding(where, "it names no entry before it, and does not begin the chain")
        known = [numbers[parent] for parent in parents if parent in numbers]
        if len(known) == len(parents) and link.number != 1 + max(known, default=0):
            yield Finding(where, f"its number does not follow from those before it ({known})")


class _Record:
    """A record as it lies in the store."""

    def __init__(self, store: Store, run: str) -> None:
        self.sha256: str | None = None
        self.value: dict[str, Any] = {}
        try:
            data = store.read_bytes(record_path(run))
            self.sha256 = hashlib.sha256(data).hexdigest()
            value = json.loads(data)
            self.value = value if isinstance(value, dict) else {}
        except (OSError, UserError, ValueError, RecursionError):
            pass

    @property
    def finished(self) -> bool:
        return bool(self.value.get("finished"))


class _Account:
    """What the chain says of the runs: which have started, and what their records' hashes are."""

    def __init__(self, links: Iterable[Link]) -> None:
        self.began = ""
        self.hashes: dict[str, str | None] = {}  # of records that were finished or sealed
        self.checksums: dict[tuple[str, str], str] = {}
        self.known: set[str] = set()
        self.removed: set[str] = set()
        for link in sorted(links, key=lambda link: (link.number, link.name)):
            entry = link.entry
            assert entry is not None
            if entry.kind == BEGAN:
                self.began = min(self.began or entry.at, entry.at)
                for run, sha256 in entry.payload.get("records", {}).items():
                    self.known.add(run)
                    if sha256:
                        self.hashes.setdefault(run, sha256)
            elif entry.kind in (STARTED, FINISHED, SEALED):
                run = str(entry.payload.get("run"))
                self.known.add(run)
                if entry.kind != STARTED:
                    self.hashes[run] = entry.payload.get("sha256")
                    stated = entry.payload.get("manifests")
                    for ref, checksum in stated.items() if isinstance(stated, dict) else ():
                        self.checksums[run, ref] = str(checksum)
            else:
                self.removed |= {str(run) for run in entry.payload.get("runs") or ()}

    def missing(self, records: dict[str, _Record]) -> Iterator[Finding]:
        for run in sorted(self.known - records.keys() - self.removed):
            if run not in self.hashes or self.hashes[run] is not None:
                yield Finding(record_path(run), "removed: the run chain knows this run, and its record is gone")

    def judge(self, run: str, record: _Record, digests: frozenset[str], chained: bool) -> tuple[str | None, str | None]:
        """(problem, note) about one record that is there."""
        named = record.value.get("chain")
        if named and named not in digests:
            return f"it names an entry of the run chain that is gone (sha256 {named})", None
        if not chained:
            return (None if record.value else "not a run's record"), None
        if run in self.hashes:
            if self.hashes[run] != record.sha256:
                return "altered: its SHA-256 is not the one in the run chain", None
            return None, None if record.finished else "unfinished: the run was killed, and sealed by a later one"
        if not record.finished:
            return None, "unfinished: the run goes on, or was killed and will be sealed by the next run"
        if run in self.known:
            return None, "finished, but not sealed: the run was killed in its last moment; the next run seals it"
        return "slipped in: the run chain does not know this run", None

    def orphan(self, artifact: Artifact, records: dict[str, _Record]) -> Iterator[Finding]:
        """An artifact whose run has no record, though it was made since the chain was begun."""
        try:
            block = artifact.manifest.run
        except (RunError, UserError):
            return
        run = block.run_id
        if run is None or run in records or run in self.removed:
            return
        if run in self.known or block.finished > self.began:
            text = f"its run {run} has no record in the store"
            yield Finding("manifest.json", text, artifact.ref)
