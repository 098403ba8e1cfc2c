"""Finished shards survive a crash: their results are kept in the stage's work folder and read by the next attempt.

A result is found by what it was computed from: the mapped function, the item (shard, parameters, the content of files
that the stage made for its workers), the code, and the versions of the libraries. So shards of another size, of another
config or of an older version of a helper function are never mixed in: they are simply not found.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from artifacts.digest import digest_file, digest_json
from tasks.codec import Damaged, NotStorable, decode, encode
from tasks.stage import Item, Mapper, Result, split_config

# Keeping a result costs two milliseconds a megabyte of signatures, six of tokens; what took less is computed again.
WORTH_SECONDS = 0.05

CHECKOUT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "numpy", "pyarrow", "tokenizers", "transformers", "datasketch", "numba", "fastwarc", "resiliparse", "py3langid",
    "fasttext-numpy2-wheel", "lz4", "trafilatura", "phonenumbers",
)  # fmt: skip


@cache
def code_digest() -> str:
    """Of every source file that a mapped function may use, and of the versions of the libraries: 16 hex digits."""
    files = {
        str(path.relative_to(CHECKOUT)): digest_file(path)
        for package in ("artifacts", "tasks")
        for path in sorted((CHECKOUT / package).rglob("*.py"))
    }
    versions = {"python": sys.version}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return digest_json([files, versions])[:16]


@dataclass
class ResumableMap:
    """A `Mapper` around another one: shards that an earlier attempt finished are read, the others are mapped and kept.

    Attributes:
        work: the stage's work folder.
        draft: the artifact in the making; its files stand in items by their content.
        root: of the store (or of its local scratch): paths below it stand in items relative to it.
        found: how many results were read back so far.
    """

    mapper: Mapper
    work: Path
    draft: Path
    root: Path
    found: int = 0
    _open: list[Iterator[Any]] = field(default_factory=list)
    _items: _ItemDigest = field(init=False)

    def __post_init__(self) -> None:
        self._items = _ItemDigest({self.work: "work", self.draft: "", self.root: "store"}, self.draft)
        for old in (self.work / "shards").glob("*"):
            if old.name != code_digest():
                shutil.rmtree(old, ignore_errors=True)

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        keeper = _Keeper(function, str(self.work))
        names = [self._name(function, item) for item in items]
        there = [bool(name) and (self.work / name).is_file() for name in names]
        missing = [(item, name) for item, name, is_there in zip(items, names, there, strict=True) if not is_there]
        fresh = iter(self.mapper(keeper, missing))
        self._open.append(fresh)
        left = len(missing)
        for item, name, is_there in zip(items, names, there, strict=True):
            if not is_there:
                result, left = next(fresh), left - 1
                if not left:
                    deque(fresh, maxlen=0)  # at its end: closed before it, it would end the run's workers
                yield result
                continue
            try:
                result = keeper.load(name)
            except (Damaged, OSError):
                result = keeper((item, name))
            else:
                self.found += 1
            yield result

    def close(self) -> None:
        """End what is still being mapped: a stage that failed leaves iterators that nobody will read to their end."""
        for iterator in self._open:
            if isinstance(iterator, Generator):
                iterator.close()

    def _name(self, function: Callable[[Item], Result], item: Item) -> str:
        """The path of an item's result below the work folder; empty if the item has no digest."""
        try:
            digest = self._items(item)
        except NotStorable:
            return ""
        label = f"{function.__module__}.{function.__qualname__}"
        key = digest_json([label, _source_of(function.__module__), digest])[:32]
        return f"shards/{code_digest()}/{function.__name__}-{key}"


@cache
def _source_of(module: str) -> str:
    """The digest of a module's file: the mapped function may stand outside our packages."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return digest_file(Path(file)) if file else ""


@dataclass(frozen=True)
class _Keeper:
    """Runs the mapped function where the shard is worked on, and keeps its result there. Picklable."""

    function: Callable[[Any], Any]
    work: str

    def __call__(self, pair: tuple[Any, str]) -> Any:
        item, name = pair
        began = time.perf_counter()
        result = self.function(item)
        if name and time.perf_counter() - began >= WORTH_SECONDS:
            # Kept for convenience: that it cannot be kept (a full disk, a type without a spelling) fails no run.
            with suppress(NotStorable, OSError):
                self.save(name, result)
        return result

    def save(self, name: str, result: Any) -> None:
        target = Path(self.work) / name
        partial = target.with_name(f".{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as stream:
                for buffer in encode(result, Path(self.work)):
                    stream.write(buffer)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, name: str) -> Any:
        data = (Path(self.work) / name).read_bytes()
        return decode(data, Path(self.work), self.function.__module__.partition(".")[0])


@dataclass(frozen=True)
class _ItemDigest:
    """A digest of an item that is the same in every attempt: folders that change between attempts are named by role."""

    roles: Mapping[Path, str]
    draft: Path

    def __call__(self, item: Any) -> str:
        return b"".join(encode(self._plain(item), self.draft)[1:2]).hex()

    def _plain(self, value: Any) -> Any:
        """The value with nothing in it that the codec does not know or that belongs to one attempt."""
        if isinstance(value, str | Path):
            return self._text(str(value))
        if isinstance(value, BaseModel):
            return digest_json(split_config(value)[0])
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return [type(value).__qualname__, [self._plain(getattr(value, f.name)) for f in dataclasses.fields(value)]]
        if isinstance(value, list | tuple):
            return [self._plain(entry) for entry in value]
        if isinstance(value, dict):
            return [[self._plain(key), self._plain(entry)] for key, entry in value.items()]
        if isinstance(value, pa.DataType):
            return str(value)
        return value

    def _text(self, text: str) -> str:
        for folder, role in self.roles.items():
            if text.startswith(f"{folder}{os.sep}"):
                relative = text[len(str(folder)) + 1 :]
                if role or not os.path.isfile(text):
                    return f"{role}:{relative}"
                return f"made:{relative}:{_content(text, os.stat(text).st_mtime_ns)}"
        return text


@lru_cache(maxsize=64)
def _content(path: str, _changed: int) -> str:
    """The digest of a file of the draft, taken once for all items that name it."""
    return digest_file(Path(path))
