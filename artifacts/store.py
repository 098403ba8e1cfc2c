"""The store: where artifacts live, how they are found, and how one comes to be (atomically).

Layout: `<store>/<stage>/<recipe>.<content>/manifest.json` and the artifact's files beside it. The store is any path or
fsspec URL. On a local disk an artifact appears by one `rename`; on an object store its `manifest.json` is written last
and is the commit mark. A folder without a manifest is not an artifact and is never read.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from artifacts.digest import SHORT, HashName, digest_stream
from artifacts.drafts import Draft, exclusive, open_draft, sweep_committed
from artifacts.errors import RunError, UserError
from artifacts.manifest import Manifest
from artifacts.redaction import hidden, redact_text, revealed

PRIVATE = (".work", ".tmp", ".cache", "runs", "reports", "takedown", "labelling")


@dataclass(frozen=True)
class Artifact:
    """One committed artifact. Equal when recipe and content are."""

    store: Store = field(compare=False, repr=False)
    stage: str
    recipe: str
    content: str  # the first 16 hex digits, as in the folder's name

    @property
    def ref(self) -> str:
        return f"{self.stage}@{self.recipe}"

    @property
    def folder(self) -> str:
        """Relative to the store."""
        return f"{self.stage}/{self.recipe}.{self.content}"

    @property
    def path(self) -> str:
        """The artifact's folder, as a person or another program would open it."""
        return self.store.join(self.folder)

    @cached_property
    def manifest(self) -> Manifest:
        """Raises `RunError` if it is damaged or cannot be read."""
        where = f"{self.folder}/manifest.json"
        try:
            text = self.store.read_text(where)
        except OSError as error:
            raise RunError(f"{self.store.join(where)}: cannot be read: {error.strerror or error}") from error
        try:
            return Manifest.loads(text, self.store.join(where))
        except RunError as error:
            raise RunError(f"{error}. To build it again: --force-from {self.stage}, or delete its folder") from error

    def local(self) -> Path:
        """A local folder with the artifact's files (the artifact itself on a local store, else a cached copy)."""
        return self.store.localise(self)

    def files(self, table: str) -> list[Path]:
        """Local Parquet files of one of its tables (`data`, `decisions`, …), in order. Empty if it has none."""
        names = sorted(
            name for name in self.manifest.files if name.startswith(f"{table}/") and name.endswith(".parquet")
        )
        root = self.local()
        return [root / name for name in names]


class Store:
    """A store at `url`. Cheap to make; reads the disk when asked."""

    def __init__(self, url: str | Path) -> None:
        text = revealed(str(url))
        self.remote = "://" in text and not text.startswith("file://")
        if not self.remote:
            text = os.path.abspath(text.removeprefix("file://"))
        whole = text if text.endswith("://") else text.rstrip("/") or "/"
        # What is shown and recorded; a store opened by it, in this process, has the credentials again.
        self.url: str = hidden(whole) if self.remote else whole
        if self.remote:
            import fsspec

            try:
                self.fs, root = fsspec.core.url_to_fs(whole)
            except (ImportError, ValueError) as error:
                raise UserError(f"store {self.url!r}: {redact_text(str(error))}") from None
            self.root = str(root).rstrip("/")
        else:
            self.root = whole

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system. Reading a local store does without: the import is a fifth of a command's start."""
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    # --- paths and small files

    def join(self, relative: str) -> str:
        return f"{self.url}{relative}" if self.url.endswith("/") else f"{self.url}/{relative}"

    def _full(self, relative: str) -> str:
        return f"{self.root}/{relative}"

    def _open(self, relative: str) -> AbstractContextManager[BinaryIO]:
        where = self._full(relative)
        return self.fs.open(where, "rb") if self.remote else open(where, "rb")

    def read_bytes(self, relative: str) -> bytes:
        """A small file. Raises `UserError` if it is not there."""
        try:
            with self._open(relative) as stream:
                return stream.read()
        except FileNotFoundError as error:
            raise UserError(f"{self.join(relative)}: no such file in the store") from error

    def read_text(self, relative: str) -> str:
        return self.read_bytes(relative).decode("utf8", errors="replace")

    def digest(self, relative: str, kind: HashName = "sha256") -> tuple[str, int]:
        """SHA-256 or BLAKE3 (64 hex digits) and size of a file as it lies in the store, never of a local copy.

        Raises:
            OSError: it cannot be read (`FileNotFoundError` if it is not there).
        """
        with self._open(relative) as stream:
            (digest,), size = digest_stream(stream, kind)
        return digest, size

    def walk(self, relative: str) -> list[str]:
        """Paths of all files below a folder of the store, relative to that folder, sorted."""
        if not self.remote:
            above, paths = self._full(relative), []
            for at, folders, names in os.walk(above):
                linked = [name for name in folders if os.path.islink(os.path.join(at, name))]  # listed, not entered
                paths += [os.path.relpath(os.path.join(at, name), above) for name in (*names, *linked)]
            return sorted(paths)
        self.fs.invalidate_cache()
        top = self._full(relative).strip("/") + "/"
        return sorted(str(path).lstrip("/").removeprefix(top) for path in self.fs.find(self._full(relative)))

    def write_text(self, relative: str, text: str) -> None:
        """Write a small file as a whole: nobody ever sees half of it."""
        if self.remote:
            with self.fs.open(self._full(relative), "wb") as stream:
                stream.write(text.encode())
            return
        target = Path(self._full(relative))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            _write_durably(partial, text)
            os.replace(partial, target)
        except BaseException:  # a full disk, an interrupt
            partial.unlink(missing_ok=True)
            raise

    def lock(self, name: str, wait: bool = True) -> AbstractContextManager[None]:
        """A lock between the processes that share this store's scratch folder (on an object store: this machine's).

        Raises:
            BlockingIOError: on entering, with `wait=False`, if another holds it.
        """
        return exclusive(self.scratch_root() / ".tmp" / f"{name}.lock", wait)

    def remove(self, relative: str) -> None:
        """Delete a small file that is no part of an artifact; one that is not there is gone already."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._full(relative)) if self.remote else os.remove(self._full(relative))

    def holds(self, relative: str) -> bool:
        where = self._full(relative)
        return bool(self.fs.exists(where)) if self.remote else os.path.exists(where)

    def list_dir(self, relative: str) -> list[str]:
        """Names in a folder of the store, sorted; none if the folder is not there."""
        where = self._full(relative) if relative else self.root
        try:
            if not self.remote:
                return sorted(os.listdir(where))
            self.fs.invalidate_cache()
            entries = self.fs.ls(where, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted({str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries})

    # --- finding

    def stages(self) -> list[str]:
        return [name for name in self.list_dir("") if not name.startswith(".") and name not in PRIVATE]

    def is_empty(self) -> bool:
        """Whether no stage has anything that looks like an artifact, damaged ones included."""
        return not any(_is_artifact_name(name) for stage in self.stages() for name in self.list_dir(stage))

    def artifacts(self, stage: str | None = None) -> list[Artifact]:
        """Committed artifacts, oldest first within a stage."""
        found = []
        for name in [stage] if stage else self.stages():
            for folder in self.list_dir(name):
                recipe, dot, content = folder.partition(".")
                if dot and len(recipe) == SHORT and self.holds(f"{name}/{folder}/manifest.json"):
                    found.append(Artifact(self, name, recipe, content))
        return sorted(found, key=lambda a: (a.stage, self.finished(a), a.recipe))

    @staticmethod
    def finished(artifact: Artifact) -> str:
        """When it was built; empty for one whose manifest is damaged."""
        try:
            return artifact.manifest.run.finished
        except (RunError, UserError):
            return ""  # verify names it; listing the others must go on

    def find(self, stage: str, recipe: str) -> Artifact | None:
        """The artifact of a recipe (the newest, should a forced rebuild have given another content), or None."""
        matches = [
            Artifact(self, stage, recipe, folder.partition(".")[2])
            for folder in self.list_dir(stage)
            if folder.startswith(f"{recipe}.") and self.holds(f"{stage}/{folder}/manifest.json")
        ]
        return max(matches, key=self.finished, default=None)

    def resolve(self, ref: str) -> Artifact:
        """The artifact of `stage@recipe`, a unique prefix of a recipe, `stage@.content`, or `stage@latest`.

        Raises:
            UserError: it names none, or more than one.
        """
        stage, at, name = ref.partition("@")
        if not at:
            stage, name = (ref, "latest") if ref in self.stages() else ("", ref)
        if name == "latest" and stage:
            found = self.artifacts(stage)[-1:]
        else:
            recipe, _, content = name.partition(".")
            if not (recipe or content) or name == "latest":
                raise UserError(f"{ref!r}: an artifact is named stage@recipe, a unique prefix of it, or stage@latest")
            every = self.artifacts(stage or None)
            matches = [a for a in every if a.recipe.startswith(recipe) and a.content.startswith(content)]
            found = list({(a.stage, a.recipe): a for a in matches}.values())
        if not found:
            raise UserError(f"{ref!r}: no such artifact in {self.url} (see `crawl2chat ls`)")
        if len(found) > 1:
            raise UserError(f"{ref!r} is not unique: " + ", ".join(a.ref for a in found))
        return found[0]

    # --- local copies

    def localise(self, artifact: Artifact) -> Path:
        if not self.remote:
            return Path(self._full(artifact.folder))
        target = self.scratch_root() / "copies" / artifact.folder
        if not (target / "manifest.json").exists():
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                for name in [*artifact.manifest.files, "manifest.json"]:
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    self.fs.get_file(self._full(f"{artifact.folder}/{name}"), str(partial / name))
                _rename_or_keep(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return target

    def scratch_root(self) -> Path:
        """Where drafts and checkpoints lie: inside a local store (so that commit is a rename), else a cache folder."""
        if not self.remote:
            return Path(self.root)
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        return cache / "crawl2chat" / self.url.replace("://", "_").replace("/", "_")

    # --- making one

    def draft(self, stage: str, recipe: str) -> AbstractContextManager[Draft]:
        """A temporary folder that `commit` turns into an artifact; removed in every other case.

        `Draft.work` outlives a crash: it belongs to the recipe and holds checkpoints until the recipe is committed.
        Two builders of one recipe get a folder each; only the first has the resumable `work` folder.
        """
        return open_draft(self.scratch_root(), stage, recipe)

    def sweep_committed(self, stage: str, recipe: str) -> None:
        """Remove what the builder of this artifact has left, if it was killed behind its commit."""
        sweep_committed(self.scratch_root(), stage, recipe)

    def commit(self, draft: Draft, manifest: Manifest, force: bool = False) -> Artifact:
        """Make the draft an artifact. If its recipe was committed meanwhile, that one wins and is returned.

        With `force` an artifact of another content stands beside the old one and is the newer of the two; one of the
        same content takes the old one's place if that is damaged.
        """
        sealed = manifest.sealed()
        artifact = Artifact(self, sealed.stage, sealed.recipe, sealed.content[:SHORT])
        with exclusive(self.scratch_root() / ".tmp" / f"commit-{sealed.stage}-{sealed.recipe}.lock"):
            winner = self.find(sealed.stage, sealed.recipe)
            if winner is not None and not (force and (winner.content != artifact.content or self._damaged(winner))):
                shutil.rmtree(draft.work, ignore_errors=True)
                return winner
            if self.remote:
                for name in sealed.files:
                    self.fs.put_file(str(draft.folder / name), self._full(f"{artifact.folder}/{name}"))
                self.write_text(f"{artifact.folder}/manifest.json", sealed.dumps())
            else:
                for name in sealed.files:  # or, after a power cut, the manifest would be there without them
                    _flush(draft.folder / name)
                _write_durably(draft.folder / "manifest.json", sealed.dumps())
                target = Path(self._full(artifact.folder))
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():  # damaged: its manifest is gone, or its files are not what the manifest says
                    os.rename(target, draft.folder.with_name("damaged"))
                os.rename(draft.folder, target)
        shutil.rmtree(draft.work, ignore_errors=True)
        return artifact

    def _damaged(self, artifact: Artifact) -> bool:
        try:
            manifest = Manifest.loads(self.read_text(f"{artifact.folder}/manifest.json"), artifact.folder, check=True)
            for name, entry in manifest.files.items():
                kind, stated = entry.quickest
                if self.digest(f"{artifact.folder}/{name}", kind) != (stated, entry.bytes):
                    return True
        except (RunError, UserError, OSError):
            return True
        return False


def _is_artifact_name(folder: str) -> bool:
    recipe, dot, content = folder.partition(".")
    return bool(dot) and len(recipe) == len(content) == SHORT


def _flush(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _write_durably(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _rename_or_keep(partial: Path, target: Path) -> None:
    try:
        os.rename(partial, target)
    except OSError:  # somebody else made the same copy first
        shutil.rmtree(partial, ignore_errors=True)
