"""The records of runs, and the hash chain over them: who ran what and when, so that a later edit shows.

`<store>/runs/<id>.json` is the record of a run. `<store>/runs/chain/<number>.<hash>.json` are the entries of the chain,
one file each: it names the entries before it by the SHA-256 of their bytes (`sha256sum` gives it), so none can be
edited or taken out unseen. A run has two entries: `started`, and `finished` with the SHA-256 of its record and the
checksums of the manifests that it wrote. What a killed run left is `sealed` by the next one. Other commands append
entries of their own (`append_event`).

On one disk a lock keeps the entries in a row. On an object store two machines may write at once: both entries name the
same one before them, and the next names both, as commits do in git. `artifacts.audit.verify_runs` reads it all back.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from pydantic import Field, ValidationError

from artifacts.digest import SHORT, canonical_json
from artifacts.errors import RunError, UserError
from artifacts.manifest import Manifest, Strict
from artifacts.store import Store

RUNS = "runs"
CHAIN = "runs/chain"
LOCK = "run-chain"
# What this module writes itself. `append_event` takes any other kind.
BEGAN, STARTED, FINISHED, SEALED = "began", "started", "finished", "sealed"
_NAME = re.compile(r"^(\d{8})\.([0-9a-f]{16})\.json$")
# How far back a machine that was slow to write may have hung its entry.
RECENT = 64


class Entry(Strict):
    """One entry of the chain. The text of its file is the canonical JSON of it and a line feed."""

    number: int = Field(ge=1, description="1 + the highest number among `parents`")
    kind: str = Field(pattern=r"^[a-z][a-z_]*$")
    at: str = Field(description="UTC, ISO 8601")
    parents: list[str] = Field(description="SHA-256 of the files of the entries before it; none for the first")
    open: list[str] = Field(description="runs that have started and are not sealed yet")
    payload: dict[str, Any] = Field(default_factory=dict)

    def text(self) -> str:
        return canonical_json(self.model_dump(mode="json")) + "\n"


@dataclass(frozen=True)
class Link:
    """An entry as it lies in the store. `entry` is None where its text is not one; `digest` is that of its bytes."""

    name: str
    digest: str
    entry: Entry | None

    @property
    def number(self) -> int:
        return int(self.name[:8])

    @property
    def intact(self) -> bool:
        """Whether name, text and digest agree."""
        entry = self.entry
        return entry is not None and self.name == entry_name(entry.number, self.digest)


def entry_name(number: int, digest: str) -> str:
    return f"{number:08d}.{digest[:SHORT]}.json"


# --- records


def now(timespec: str = "seconds") -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


_acting: list[str] = []


def act_as(user: str) -> None:
    """Say for the rest of this process who runs it: a scheduler knows whom its worker works for."""
    _acting[:] = [user]


def who() -> str:
    """Who runs this: as told by `act_as`, else `CRAWL2CHAT_USER`, else the name of the login."""
    given = next(iter(_acting), "") or os.environ.get("CRAWL2CHAT_USER", "").strip()
    if given:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return f"uid {os.getuid()}"


def record_path(run: str) -> str:
    return f"{RUNS}/{run}.json"


def run_ids(store: Store) -> list[str]:
    """The runs that have a record, oldest first: their ids begin with the time."""
    return [name.removesuffix(".json") for name in store.list_dir(RUNS) if name.endswith(".json")]


def find_run(store: Store, run: str) -> str:
    """The id of a run, by itself or a unique beginning of it; `latest` is the newest.

    Raises:
        UserError: the store has no such run.
    """
    known = run_ids(store)
    if run == "latest" and known:
        return _last_started(store, set(known)) or known[-1]
    matches = [run] if run in known else [name for name in known if name.startswith(run)]
    if len(matches) != 1 or not run:
        raise UserError(f"{run!r}: {'no such run' if not matches else 'several runs begin so'} in {store.url}")
    return matches[0]


def _last_started(store: Store, known: Collection[str]) -> str | None:
    """The run that the chain says was started last: ids begin with the time, and a clock may have been set back."""
    for name in reversed(entry_names(store)[-RECENT:]):
        entry = read_link(store, name).entry
        if entry is not None and entry.kind == STARTED and entry.payload.get("run") in known:
            return str(entry.payload["run"])
    return None


def starting_order(store: Store) -> dict[str, int]:
    """Run to the number of the entry with which the chain says that it was started."""
    links = (read_link(store, name) for name in entry_names(store))
    entries = [link.entry for link in links if link.entry is not None and link.entry.kind == STARTED]
    return {str(entry.payload.get("run")): entry.number for entry in entries}


def load_run(store: Store, run: str) -> dict[str, Any]:
    """A run's record, by its id or a unique beginning of it; `latest` is the newest.

    Raises:
        UserError: the store has no such run, or its record is damaged.
    """
    path = record_path(find_run(store, run))
    try:
        record = json.loads(store.read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{store.join(path)}: not a run's record ({error}); see `crawl2chat verify`") from error
    if not isinstance(record, dict):
        raise UserError(f"{store.join(path)}: not a run's record; see `crawl2chat verify`")
    if wrong := _wrong_field(record):
        raise UserError(f"{store.join(path)}: not a run's record ({wrong}); see `crawl2chat verify`")
    return record


def _wrong_field(record: Mapping[str, Any]) -> str | None:
    """What of a record is missing or of another type, of that which its readers rely on."""
    if not isinstance(record.get("run"), str):
        return "run: no text"
    stages = record.get("stages")
    if not isinstance(stages, list):
        return "stages: no list"
    for number, row in enumerate(stages):
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            return f"stages.{number}.path: no text"
    return None


# --- writing the chain


def hold_run(store: Store, run: str) -> AbstractContextManager[None]:
    """A lock that says that the run lives, for as long as its process does."""
    return store.lock(f"run-{run}", wait=False)


def start_run(store: Store, run: str) -> str:
    """Append that a run has started, after sealing what dead runs have left. Its record must be there already.

    Returns:
        The digest of its entry, for the record.
    """
    with store.lock(LOCK):
        for link in _heads(store):
            for left in link.entry.open if link.entry else ():
                if left != run and not _lives(store, left):
                    _append(store, SEALED, _account(store, left), closed=[left])
        return _append(store, STARTED, {"run": run}, opened=[run])


def finish_run(store: Store, run: str) -> str:
    """Append that a run has finished, with the SHA-256 of its record as it lies in the store now, and the checksums of
    its manifests."""
    with store.lock(LOCK):
        return _append(store, FINISHED, _account(store, run), closed=[run])


def append_event(store: Store, kind: str, payload: Mapping[str, Any]) -> str:
    """Append an entry of another kind, such as `gc`; returns its digest.

    Two keys of `payload` are read back by `verify`: `runs` are ids whose records, and `artifacts` are folders
    (`stage/recipe.content`) whose artifacts, were removed on purpose. No secrets, no times: the entry has `at`.

    Raises:
        ValueError: the kind is one of this module's own.
    """
    if kind in (BEGAN, STARTED, FINISHED, SEALED):
        raise ValueError(f"the run chain writes entries of the kind {kind!r} itself")
    with store.lock(LOCK):
        return _append(store, kind, payload)


def _append(
    store: Store, kind: str, payload: Mapping[str, Any], opened: Collection[str] = (), closed: Collection[str] = ()
) -> str:
    """Write the next entry. The chain's lock must be held."""
    heads = _heads(store)
    if not heads:
        first = Entry(
            number=1, kind=BEGAN, at=now("milliseconds"), parents=[], open=[], payload={"records": _before(store)}
        )
        _write(store, first)
        heads = _heads(store)
    still = {run for link in heads if link.entry for run in link.entry.open}
    entry = Entry(
        number=1 + max(link.number for link in heads),
        kind=kind,
        at=now("milliseconds"),
        parents=sorted(link.digest for link in heads),
        open=sorted((still | set(opened)) - set(closed)),
        payload=dict(payload),
    )
    return _write(store, entry)


def _write(store: Store, entry: Entry) -> str:
    text = entry.text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    store.write_text(f"{CHAIN}/{entry_name(entry.number, digest)}", text)
    return digest


def _before(store: Store) -> dict[str, str | None]:
    """The records that are older than the chain; without a hash where a run may still be writing its record."""
    found: dict[str, str | None] = {}
    for run in run_ids(store):
        with suppress(UserError, OSError):  # removed meanwhile
            data = store.read_bytes(record_path(run))
            found[run] = hashlib.sha256(data).hexdigest() if _is_finished(data) else None
    return found


def _is_finished(data: bytes) -> bool:
    try:
        return bool(json.loads(data)["finished"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _account(store: Store, run: str) -> dict[str, Any]:
    """What the entry that closes a run says: its record's SHA-256 and size (nulls if it is gone), and its manifests."""
    try:
        data = store.read_bytes(record_path(run))
    except UserError:
        return {"run": run, "sha256": None, "bytes": None}
    found = {"run": run, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifests = dict(_manifests(store, run, data))
    return found | ({"manifests": manifests} if manifests else {})


def _manifests(store: Store, run: str, record: bytes) -> Iterator[tuple[str, str]]:
    """(stage@recipe, checksum) of the manifests that a record lists and that its run wrote, where they are intact."""
    try:
        rows = json.loads(record)["stages"]
        folders = ["/".join(str(row["path"]).rstrip("/").split("/")[-2:]) for row in rows if not row["reused"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for folder in folders:
        with suppress(RunError, UserError, OSError):
            manifest = Manifest.loads(store.read_text(f"{folder}/manifest.json"), folder, check=True)
            if manifest.run.run_id == run:
                yield f"{manifest.stage}@{manifest.recipe}", manifest.checksum


def _lives(store: Store, run: str) -> bool:
    """Whether a run's process may still be there. On an object store only this machine's runs are known to be dead."""
    if store.remote:
        try:
            record = json.loads(store.read_text(record_path(run)))
            if record["host"] != socket.gethostname():
                return True
        except (UserError, OSError, ValueError, KeyError, TypeError, RecursionError):
            return True
    try:
        with hold_run(store, run):
            return False
    except BlockingIOError:
        return True


# --- reading the chain


def entry_names(store: Store) -> list[str]:
    """The names of the entries' files, oldest first. Empty where no chain was begun yet."""
    return [name for name in store.list_dir(CHAIN) if _NAME.match(name)]


def read_link(store: Store, name: str) -> Link:
    """One entry with the digest of its bytes, whatever they are.

    Raises:
        OSError, UserError: it cannot be read.
    """
    data = store.read_bytes(f"{CHAIN}/{name}")
    digest = hashlib.sha256(data).hexdigest()
    entry: Entry | None
    try:
        entry = Entry.model_validate_json(data)
    except ValidationError:
        entry = None
    if entry is not None and entry.text().encode() != data:
        entry = None
    return Link(name, digest, entry)


def heads(store: Store) -> list[str]:
    """The digests of the newest entries: one, or more where machines have written at once. None without a chain."""
    return sorted(link.digest for link in _heads(store))


def _heads(store: Store) -> list[Link]:
    """Entries that none of the recent ones names. Where all are in a row, only the last one is read."""
    recent = entry_names(store)[-RECENT:]
    numbers = [int(name[:8]) for name in recent]
    doubled = [number for number, after in pairwise(numbers) if number == after]
    if not doubled:
        return [read_link(store, name) for name in recent[-1:]]
    links = [read_link(store, name) for name in recent if int(name[:8]) >= doubled[0]]
    named = {parent for link in links if link.entry for parent in link.entry.parents}
    return [link for link in links if link.digest not in named]
