"""Exports of an artifact: a Hugging Face folder, a Croissant dataset, or the OpenLineage events of all above it.

An export is a folder of its own, without links into the store by name and without paths of this machine. Files of a
local store are hard links where the disk allows it, so that an export costs no room; they are the store's own bytes, to
be read and not to be edited. Else they are copies.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artifacts.digest import OUTSIDE_CONTENT, digest_file
from artifacts.errors import RunError, UserError
from artifacts.graph import StoreGraph
from artifacts.store import Artifact, Store

TARGETS = ("hf", "croissant", "openlineage")


@dataclass(frozen=True)
class Exported:
    """What an export made: its folder, and how many files are hard links and copies."""

    path: Path
    linked: int
    copied: int


class Placer:
    """Puts files of an artifact into a folder."""

    def __init__(self, artifact: Artifact, folder: Path, copy: bool) -> None:
        self.artifact, self.folder = artifact, folder
        self.linked = self.copied = 0
        self._copy = copy or artifact.store.remote

    def place(self, name: str, at: str | None = None) -> None:
        """The file `name` of the artifact, at the same place or another.

        Raises:
            RunError: the store has not got it, or a remote store gave other bytes than the manifest says.
        """
        target = self.folder / (at or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        store, source = self.artifact.store, f"{self.artifact.store.root}/{self.artifact.folder}/{name}"
        try:
            if not self._copy and _link(source, target):
                self.linked += 1
                return
            store.fs.get_file(source, str(target))
        except FileNotFoundError as error:
            raise RunError(f"{self.artifact.path}/{name}: missing (see `crawl2chat verify`)") from error
        if store.remote and digest_file(target) != self.artifact.manifest.files[name].sha256:
            raise RunError(f"{self.artifact.path}/{name}: not what its manifest says (see `crawl2chat verify`)")
        self.copied += 1


def _link(source: str, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, one without links, or a file of another user
        return False
    return True


def export(store: Store, ref: str, to: str, folder: str | Path, *, force: bool = False, copy: bool = False) -> Exported:
    """Export an artifact; the folder appears as a whole or not at all.

    Args:
        to: `hf`: `datasets.load_dataset(folder)` opens every table as a config, and `from_pretrained(folder)` the model
            or tokenizer. `croissant`: `croissant.json` and the data. `openlineage`: `events.jsonl`.
        force: replace a folder that is not empty.
        copy: copies, where hard links would do.

    Raises:
        UserError: there is no such artifact or target, or the folder is not empty or lies in the store.
        RunError: a file of the artifact is missing or damaged.
    """
    if to not in TARGETS:
        raise UserError(f"--to {to}: one of {', '.join(TARGETS)}")
    artifact = store.resolve(ref)
    target = Path(os.path.abspath(Path(folder).expanduser()))
    _check_target(store, target, force)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        partial.mkdir(parents=True)
        placer = Placer(artifact, partial, copy)
        WRITERS[to](artifact, placer)
        _put_in_place(partial, target)
    except PermissionError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(target, placer.linked, placer.copied)


def _check_target(store: Store, target: Path, force: bool) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target}: there is a file of that name; an export is a folder")
    if not store.remote and (target == Path(store.root) or Path(store.root) in target.parents):
        raise UserError(f"{target}: lies in the store; an export goes elsewhere")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise UserError(f"{target}: not empty (--force replaces it)")
    if not store.remote and target in Path(store.root).parents:
        raise UserError(f"{target}: holds the store; an export goes elsewhere")


def _put_in_place(partial: Path, target: Path) -> None:
    old = None
    if target.exists():
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        os.rename(target, old)
    try:
        os.rename(partial, target)
    except OSError:
        if old is not None:
            os.rename(old, target)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _write_hf(artifact: Artifact, placer: Placer) -> None:
    """A dataset's files as they lie in the store; a model's or tokenizer's on top, where `from_pretrained` looks."""
    from artifacts.exchange.card import export_card, holds

    at_top = holds(artifact.manifest) != "dataset"
    for name in artifact.manifest.files:
        if name not in OUTSIDE_CONTENT:
            placer.place(name, name.removeprefix("model/") if at_top else name)
    (placer.folder / "README.md").write_text(export_card(StoreGraph(artifact.store), artifact), encoding="utf8")


def _write_croissant(artifact: Artifact, placer: Placer) -> None:
    from artifacts.exchange.croissant import describe

    described = describe(StoreGraph(artifact.store), artifact)
    for name in artifact.manifest.files:
        if name not in OUTSIDE_CONTENT:
            placer.place(name)
    (placer.folder / "croissant.json").write_text(described, encoding="utf8")


def _write_openlineage(artifact: Artifact, placer: Placer) -> None:
    from artifacts.exchange.openlineage import as_line, lineage_events

    above = StoreGraph(artifact.store).ancestors(artifact)
    events = lineage_events(artifact.store, [*above, artifact])
    (placer.folder / "events.jsonl").write_text("".join(f"{as_line(event)}\n" for event in events), encoding="utf8")


WRITERS: dict[str, Callable[[Artifact, Placer], None]] = {
    "hf": _write_hf,
    "croissant": _write_croissant,
    "openlineage": _write_openlineage,
}
