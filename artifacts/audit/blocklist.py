"""Blocklists: URLs, hosts and documents that must not be read; and the store's own, which `takedown` writes.

A store's blocklist is `<store>/takedown/blocklist.txt`, one entry a line, sorted: the same entries give the same bytes,
and so the same recipes. Who asked for what, when and why stands in `<store>/takedown/<time>-<id>.json` beside it. Every
stage with `obeys_blocklist` reads it by itself (`tasks.execution.find_sources`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import RunError, UserError
from artifacts.redaction import redact_text
from artifacts.runs import append_event, who
from artifacts.store import Store
from artifacts.urls import canonical_url, place, without_user

if TYPE_CHECKING:
    from artifacts.sources import Source

ROLE = "blocklist"
FOLDER = "takedown"
NAME = "blocklist.txt"
PATH = f"{FOLDER}/{NAME}"

_DOC_ID = re.compile(r"[0-9a-f]{32}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:(?!\d+(?:[/?#]|$))")
_OPAQUE = re.compile(r"(?i)(?:file|urn|dns|mailto):(?!//)")
# `user:password@host`, or `token@host/path`. A lone `name@host` is an address of a person, not of a page.
_LOGIN = re.compile(r"[^/?#\s]*:[^/?#\s]*@(?=[^/?#])|[^/?#\s]*@(?=[^/?#]+/.)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")

# What an entry means: ("doc_id" | "url" | "bare" | "host", value in normal form). `bare` is a URL without a scheme:
# `host/path` or `host:port/path`; `host` is `host` or `host:port`.
Key = tuple[str, str]


def read_entries(lines: Iterable[str]) -> dict[str, Key]:
    """The entries of a blocklist as they are written, in order, each with what it means. `#` begins a comment.

    User and password are left out of an entry: they take no part in a match, and must not be stored.
    """
    found: dict[str, Key] = {}
    for line in lines:
        entry = _without_login(_COMMENT.sub("", line).strip())
        if entry:
            found.setdefault(entry, _key(entry))
    return found


def _without_login(entry: str) -> str:
    if "@" not in entry or _OPAQUE.match(entry):
        return entry
    return without_user(entry) if "://" in entry else _LOGIN.sub("", entry, count=1) if _LOGIN.match(entry) else entry


def _key(entry: str) -> Key:
    if _DOC_ID.fullmatch(entry.lower()):
        return "doc_id", entry.lower()
    named = entry.rstrip("/").removeprefix("//")
    if _is_ipv6(named):
        return "host", f"[{named.lower()}]"
    if _SCHEME.match(entry):
        return "url", canonical_url(entry)
    if any(mark in named for mark in "/?#"):
        return "bare", canonical_url(_ANY + entry.removeprefix("//")).removeprefix(_ANY)
    site = canonical_url(_ANY + named.removeprefix("*.").removeprefix(".")).removeprefix(_ANY)
    return "host", site.rstrip("/")


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


_ANY = "any://"  # in place of the scheme that an entry leaves out: one without a default port


class Blocklist:
    """URLs, hosts (with all below them) and doc_ids that must not be read.

    What an entry without a scheme leaves out may be anything: `host` and `host/path` hold for every scheme and port,
    `host:port` and `host:port/path` for that port, also where a URL leaves it out as its scheme's default.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.entries = read_entries(lines)
        self._keys = frozenset(self.entries.values())
        self._places = any(kind in ("host", "bare") for kind, _ in self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def values(self, kind: str) -> list[str]:
        """What the entries of one kind name, in normal form."""
        return sorted(value for found, value in self._keys if found == kind)

    def keys(self, canonical: str, doc_id: str) -> list[Key]:
        """All that names a document, the closest first.

        Args:
            canonical: its URL in normal form (`artifacts.urls.canonical_url`).
        """
        wanted = [("doc_id", doc_id), ("url", without_user(canonical))]
        if self._places:
            wanted += _names(canonical)
        return [key for key in wanted if key in self._keys]

    def blocks_host(self, host: str) -> bool:
        """Whether an entry names this host (in normal form) or one above it, whatever the port."""
        return any(("host", suffix) in self._keys for suffix in _above(host))

    def match(self, canonical: str, doc_id: str) -> str | None:
        """What of the list names this document: `doc_id`, `url` or the host entry; None if nothing does."""
        found = self.keys(canonical, doc_id)
        if not found:
            return None
        kind, value = found[0]
        return f"host {value}" if kind == "host" else "url" if kind == "bare" else kind


def _names(canonical: str) -> list[Key]:
    """All that entries without a scheme may call a page, the closest first."""
    found = place(canonical)
    if found is None:
        return []
    host, port, rest = found
    names = [("bare", f"{host}:{port}{rest}"), ("bare", f"{host}{rest}")]
    for suffix in _above(host):
        names += [("host", f"{suffix}:{port}"), ("host", suffix)]
    return names


def _above(host: str) -> list[str]:
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


# --- the store's own


@dataclass(frozen=True)
class Request:
    """One takedown: who asked for what. `<store>/takedown/<id>.json`."""

    id: str
    at: str
    entries: list[str] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)
    reason: str | None = None
    user: str = ""
    host: str = ""


def requests(store: Store) -> list[Request]:
    """The takedowns of a store, oldest first.

    Raises:
        RunError: a record is damaged. What it asked for must not be forgotten.
    """
    found = []
    for name in store.list_dir(FOLDER):
        if not name.endswith(".json") or name.startswith("."):
            continue
        try:
            found.append(Request(**json.loads(store.read_text(f"{FOLDER}/{name}"))))
        except (ValueError, TypeError) as error:
            raise RunError(f"{store.join(f'{FOLDER}/{name}')}: not a takedown's record ({error})") from error
    return sorted(found, key=lambda request: request.id)


def listed(store: Store) -> list[str]:
    """The entries of the store's blocklist; none if it has no blocklist."""
    data = _read(store)
    return [] if data is None else list(read_entries(_text(data).splitlines()))


def store_blocklist(store: Store) -> Blocklist | None:
    """The store's blocklist; None without entries."""
    entries = listed(store)
    return Blocklist(entries) if entries else None


def block(
    store: Store, entries: Sequence[str], reason: str | None = None, lifted: Sequence[str] = ()
) -> tuple[Request, str]:
    """Add entries to the store's blocklist (or lift some), and record who did and why.

    The list follows from the records, so that of two takedowns at once none loses what the other added. Entries that
    somebody added to the file by hand stay.

    Returns:
        The record, and the path or URL of the blocklist.
    """
    now = datetime.now(UTC)
    request = Request(
        id=f"{now:%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}",
        at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        entries=list(read_entries(entries)),
        lifted=list(read_entries(lifted)),
        reason=redact_text(reason) if reason else reason,
        user=who(),
        host=socket.gethostname(),
    )
    with store.lock(FOLDER):
        gone = set(read_entries(lifted).values())
        by_hand = {entry: _key(entry) for entry in set(listed(store)) - set(_sorted(_after(requests(store))))}
        by_hand = {entry: key for entry, key in by_hand.items() if key not in gone}
        record = json.dumps(asdict(request), indent=1, ensure_ascii=False) + "\n"
        store.write_text(f"{FOLDER}/{request.id}.json", record)
        wanted: list[str] | None = None
        # On an object store no lock holds between machines: what another added meanwhile is in the records by then.
        while (found := _sorted(by_hand | _after(requests(store)))) != wanted:
            wanted = found
            text = "".join(f"{entry}\n" for entry in wanted)
            store.write_text(PATH, text)
            # Kept under its hash too: manifests name it, and nobody changes it below a reader.
            store.write_text(_version(text.encode()), text)
    digest = hashlib.sha256(record.encode()).hexdigest()
    append_event(store, "takedown", {"record": f"{FOLDER}/{request.id}.json", "sha256": digest})
    return request, store.join(PATH)


def _after(past: Sequence[Request]) -> dict[str, Key]:
    """The entries that these takedowns leave. A lifted entry goes in whatever spelling it was given."""
    found: dict[str, Key] = {}
    for request in past:
        gone = set(read_entries(request.lifted).values())
        found = {entry: key for entry, key in found.items() if key not in gone}
        found |= read_entries(request.entries)
    return found


def _sorted(entries: Mapping[str, Key]) -> list[str]:
    """One spelling of each, sorted."""
    first: dict[Key, str] = {}
    for entry in sorted(entries):
        first.setdefault(entries[entry], entry)
    return sorted(first.values())


def blocklist_source(store: Store) -> Source | None:
    """The store's blocklist as a file that a stage reads, by its hash; None if it has no entries.

    Its name, role and source are those of a file that a config's `blocklist` names, so that naming this very file
    there is the same recipe.
    """
    from artifacts.sources import Source  # and what fetches files

    data = _read(store)
    if data is None or not read_entries(_text(data).splitlines()):
        return None
    return Source(
        name=NAME,
        path=_local(store, data),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        source=ROLE,
        role=ROLE,
    )


def _read(store: Store) -> bytes | None:
    try:
        return store.read_bytes(PATH)
    except UserError:  # there is none
        return None


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig", errors="replace")


def _version(data: bytes) -> str:
    return f"{FOLDER}/versions/{hashlib.sha256(data).hexdigest()}.txt"


def _local(store: Store, data: bytes) -> Path:
    """A local file with this content that nobody changes while it is read."""
    if not store.remote:
        kept = Path(store.root, _version(data))
        return kept if kept.is_file() else Path(store.root, PATH)
    target = store.scratch_root() / _version(data)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        partial.write_bytes(data)
        os.replace(partial, target)
    return target
