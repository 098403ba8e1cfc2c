"""Results of shards as bytes and back, without pickle: a JSON tree, and Arrow and NumPy buffers behind it.

Layout: `MAGIC`, SHA-256 of all that follows, the length of the head (8 bytes, little-endian), the head (a line with
the buffers' sizes, and the tree), the buffers. A file that was cut off or altered does not match its checksum, and
nothing of it is parsed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from artifacts.digest import digest_file

Buffer = bytes | memoryview
MAGIC = b"c2cshard"
CHECKSUM = 32


class NotStorable(TypeError):
    """A value that the codec does not know."""


class Damaged(ValueError):
    """Not what `encode` wrote: cut off, altered, or naming something that is not there."""


@dataclass(frozen=True)
class WorkFile:
    """A file below the stage's work folder that belongs to a shard's result: kept with it, and checked with it."""

    path: str


def encode(value: Any, work: Path) -> list[Buffer]:
    """The value as buffers to be written one after the other. It may be None, bool, int, float, str, bytes, lists,
    tuples, dicts, dataclasses, NumPy arrays and scalars, Arrow tables, and a `WorkFile` below `work` (by its digest).

    Raises:
        NotStorable: it holds something else.
    """
    buffers: list[Buffer] = []
    tree = json.dumps(_Encoder(buffers, work)(value), separators=(",", ":"))
    head = f"{json.dumps([len(buffer) for buffer in buffers])}\n{tree}".encode()
    buffers = [len(head).to_bytes(8, "little"), head, *buffers]
    checksum = sha256()
    for buffer in buffers:
        checksum.update(buffer)
    return [MAGIC, checksum.digest(), *buffers]


def decode(data: bytes, work: Path, package: str) -> Any:
    """The value that `encode` was given. Dataclasses must be of `package` (the first part of a module's name).

    Raises:
        Damaged: the bytes, or a `WorkFile` that they name, are not what was written.
    """
    start = len(MAGIC) + CHECKSUM
    payload = memoryview(data)[start:]
    if data[: len(MAGIC)] != MAGIC or sha256(payload).digest() != data[len(MAGIC) : start]:
        raise Damaged("the checksum does not match")
    size = int.from_bytes(payload[:8], "little")
    head, _, tree = bytes(payload[8 : 8 + size]).partition(b"\n")
    buffers, at = [], 8 + size
    for length in json.loads(head):
        buffers.append(payload[at : at + length])
        at += length
    return _Decoder(buffers, work, package)(json.loads(tree))


@dataclass
class _Encoder:
    buffers: list[Buffer]
    work: Path

    def __call__(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is list:
            return [self(entry) for entry in value]
        if isinstance(value, WorkFile):
            path = Path(value.path)
            return {"file": [str(path.relative_to(self.work)), path.stat().st_size, digest_file(path)]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            kind = type(value)
            fields = {field.name: self(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {"data": [kind.__module__, kind.__qualname__, fields]}
        if type(value) is tuple:
            return {"tuple": [self(entry) for entry in value]}
        if type(value) is dict:
            return {"dict": [[self(key), self(entry)] for key, entry in value.items()]}
        return self._buffer(value)

    def _buffer(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any]
        data: Any
        if isinstance(value, bytes):
            found, data = {"bytes": [len(self.buffers)]}, value
        elif isinstance(value, np.ndarray | np.generic):
            if value.dtype.kind not in "biufcSU":
                raise NotStorable(f"an array of {value.dtype}")
            flat = np.ascontiguousarray(value)
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            found = {kind: [len(self.buffers), value.dtype.str, list(value.shape)]}
            data = flat.reshape(-1).view(np.uint8).data if flat.nbytes else b""
        elif isinstance(value, pa.Table):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, value.schema) as writer:
                writer.write_table(value)
            found, data = {"table": [len(self.buffers)]}, memoryview(sink.getvalue())
        else:
            raise NotStorable(f"a {type(value).__module__}.{type(value).__qualname__}")
        self.buffers.append(data)
        return found


@dataclass
class _Decoder:
    buffers: list[memoryview]
    work: Path
    package: str

    def __call__(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self(entry) for entry in tree]
        if not isinstance(tree, dict):
            return tree
        ((kind, value),) = tree.items()
        reader: Callable[[Any], Any] = getattr(self, f"_{kind}")
        return reader(value)

    def _tuple(self, entries: list[Any]) -> tuple[Any, ...]:
        return tuple(self(entry) for entry in entries)

    def _dict(self, entries: list[list[Any]]) -> dict[Any, Any]:
        return {self(key): self(entry) for key, entry in entries}

    def _data(self, named: list[Any]) -> Any:
        module, name, fields = named
        if module.partition(".")[0] != self.package:
            raise Damaged(f"a {module}.{name} is no result of {self.package}")
        # Looked up among what is imported already: a file must not make the program import something.
        kind: Any = sys.modules.get(module)
        for part in name.split("."):
            kind = getattr(kind, part, None)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise Damaged(f"{module}.{name} is no dataclass any more")
        return kind(**{key: self(entry) for key, entry in fields.items()})

    def _file(self, named: list[Any]) -> WorkFile:
        relative, size, digest = named
        path = self.work / relative
        if not path.is_file() or path.stat().st_size != size or digest_file(path) != digest:
            raise Damaged(f"{path}: gone or altered")
        return WorkFile(str(path))

    def _bytes(self, named: list[Any]) -> bytes:
        return bytes(self.buffers[named[0]])

    def _array(self, named: list[Any]) -> Any:
        number, dtype, shape = named
        return np.frombuffer(self.buffers[number], dtype=np.dtype(dtype)).reshape(shape).copy()

    def _scalar(self, named: list[Any]) -> Any:
        return self._array(named)[()]

    def _table(self, named: list[Any]) -> pa.Table:
        with pa.ipc.open_stream(pa.py_buffer(self.buffers[named[0]])) as reader:
            return reader.read_all()
