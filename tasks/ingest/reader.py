"""Records of WARC (ISO 28500) and WET files, one after the other, whatever is broken between them.

Every byte of a file is accounted for: it belongs to a record, to the padding between two, or to a damaged region that
comes out as a `Damage`. Reading never raises for bad content and always moves forward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.ingest import arc
from tasks.ingest.frames import CODEC_ERRORS, FrameError, FrameStream, codec_of
from tasks.ingest.headers import parse_fields

MAX_HEADER = 65_536
SEPARATORS = b"\r\n"

# `WARC/1.0`, `WARC/1.1`, and the drafts 0.9 to 0.18 that early crawlers wrote.
WARC_START = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
# The first bytes of such a line. Any word may be those of an ARC line, and would join the next member's URL.
_HALF_START = re.compile(rb"W(?:A(?:R(?:C(?:/[\d.]{0,8}[ \t]*\r?)?)?)?)?")
_NOTHING = re.compile(rb"(?!)")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class Head:
    """What a record's header says. `headers` has lower-case names; for a name that occurs twice the first counts."""

    kind: str
    headers: dict[str, str]
    length: int


@dataclass(frozen=True)
class Record:
    """One whole record. `block` is None where it is larger than the reader's limit: it was skipped, not kept."""

    offset: int
    kind: str
    headers: dict[str, str]
    length: int
    block: bytes | None


@dataclass(frozen=True)
class Damage:
    """A region that could not be read, from file offset `offset` to `end`."""

    offset: int
    end: int
    reason: str  # damaged_record | truncated_record
    what: str


class _Broken(Exception):
    """The record at the current position is none, or not whole; the frame itself may be sound."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what
        self.behind = False  # the stream stands behind what is broken, not at its beginning


def parse_warc_head(head: bytes) -> Head:
    """The fields of a WARC header (ISO 28500 section 4). Raises `ValueError` without a usable Content-Length."""
    headers = parse_fields(head)
    stated = headers.get("content-length", "")
    if not stated.isascii() or not stated.isdigit() or len(stated) > 15:
        raise ValueError(f"Content-Length is {stated[:40]!r}" if stated else "no Content-Length")
    return Head(headers.get("warc-type", "").lower() or "unknown", headers, int(stated))


def _warc_head_end(buffer: bytearray) -> int:
    # Two line ends right after the first line are a header without fields, which `search` finds as well.
    found = _BLANK_LINE.search(buffer, 0, MAX_HEADER)
    return found.end() if found else -1


def _arc_head_end(buffer: bytearray) -> int:
    return buffer.find(b"\n", 0, MAX_HEADER) + 1 or -1


def _parse_arc_head(head: bytes) -> Head:
    kind, headers, length = arc.parse_head(head)
    return Head(kind, headers, length)


class RecordReader:
    """Iterates over the `Record`s and `Damage`s of one open file."""

    def __init__(self, file: BinaryIO, max_record_bytes: int, is_arc: bool = False) -> None:
        self._stream = FrameStream(file, arc.START if is_arc else WARC_START)
        self._start = self._stream.start_pattern
        self._next_start = re.compile(rb"\n(?=" + self._start.pattern + rb")")
        self._half_start = _NOTHING if is_arc else _HALF_START
        self._head_end: Callable[[bytearray], int] = _arc_head_end if is_arc else _warc_head_end
        self._parse: Callable[[bytes], Head] = _parse_arc_head if is_arc else parse_warc_head
        self._is_arc = is_arc
        self._max = max_record_bytes
        self._began = 0  # file offset of the record that is being read
        self._inside = False  # a record
        self._reread = 0  # bytes of a plain file that were read a second time

    def __iter__(self) -> Iterator[Record | Damage]:
        stream = self._stream
        while True:
            self._inside = False
            try:
                self._skip_separators()
                self._began = stream.offset()
                if not stream.buffer:
                    if not stream.fill() and not stream.next_frame():
                        return
                    continue
                self._inside = True
                item: Record | Damage = self._record()
            except _Broken as broken:
                item = self._pass_over(broken)
            except FrameError as error:
                item = self._next_frame_after(error)
            yield item

    def _skip_separators(self) -> None:
        buffer = self._stream.buffer
        count = len(buffer) - len(buffer.lstrip(SEPARATORS))
        if count:
            self._stream.skip(count)

    def _record(self) -> Record:
        """The record at the position, taken off the stream once it is known to be whole."""
        stream = self._stream
        self._ensure_start(0)
        if not self._start.match(stream.buffer):
            raise _Broken("damaged_record", "no record begins here")
        while (end := self._head_end(stream.buffer)) < 0:
            if len(stream.buffer) >= MAX_HEADER or not self._ensure(len(stream.buffer) + 1):
                short = len(stream.buffer) < MAX_HEADER
                raise _Broken("truncated_record" if short else "damaged_record", "the record header has no end")
        try:
            head = self._parse(bytes(stream.buffer[:end]))
        except ValueError as error:
            raise _Broken("damaged_record", str(error)) from error
        if head.length > self._max:
            return self._skip_large(head, end)
        if not self._ensure(end + head.length):
            held = (stream.frame_end() or len(stream.buffer)) - end
            raise _Broken("truncated_record", f"the block ends after {held} of {head.length} bytes")
        self._check_end(end + head.length)
        block = bytes(memoryview(stream.buffer)[end : end + head.length])  # copied once
        record = Record(self._began, head.kind, head.headers, head.length, block)
        stream.skip(end + head.length)
        return record

    def _skip_large(self, head: Head, end: int) -> Record:
        stream, left = self._stream, head.length
        stream.skip(end)
        try:
            while left:
                if not stream.buffer and not self._ensure(1):
                    held = head.length - left
                    raise _Broken("truncated_record", f"the block ends after {held} of {head.length} bytes")
                count = min(left, len(stream.buffer))
                stream.skip(count)
                left -= count
            self._check_end(0)
        except _Broken as broken:
            broken.behind = not self._read_again()
            raise
        return Record(self._began, head.kind, head.headers, head.length, None)

    def _read_again(self) -> bool:
        """Go back to the record's head: a length that is wrong must not cost the records that it reaches over.

        Only in plain files, and no more than a file's size altogether: a file full of such lengths would be read as
        often as it has records. In a compressed file the frame's end bounds what is lost.
        """
        stream = self._stream
        self._reread += stream.offset() - self._began
        return stream.plain and self._reread <= stream.size and stream.go_back(self._began)

    def _check_end(self, at: int) -> None:
        """The block ends at `at`: line ends, then a record or the end of the frame (whose CRC is checked thereby)."""
        stream, block_end = self._stream, at
        while True:
            while at < len(stream.buffer) and stream.buffer[at] in SEPARATORS:
                at += 1
            if at < len(stream.buffer):
                break
            if not stream.fill():
                return
        if at == stream.frame_end():
            return
        self._ensure_start(at)
        if self._start.match(stream.buffer, at):
            return
        # Two line ends close a WARC record (ISO 28500 section 4): then it is what follows that is broken. An ARC record
        # has one, which proves nothing.
        if self._is_arc or stream.buffer[block_end : block_end + 4] != b"\r\n\r\n":
            raise _Broken("damaged_record", "the block does not end where Content-Length says")

    def _ensure_start(self, at: int) -> None:
        """Buffer enough behind `at` to see whether a record starts there; bgzip may cut that very line in two."""
        stream = self._stream
        while stream.buffer.find(b"\n", at, at + MAX_HEADER) < 0 and len(stream.buffer) < at + MAX_HEADER:
            if not stream.fill() and not (self._half_start.fullmatch(stream.buffer, at) and stream.next_frame()):
                return

    def _ensure(self, count: int) -> bool:
        """Buffer `count` bytes, over frame ends if the next frame goes on with the same record (as bgzip cuts them)."""
        stream = self._stream
        while len(stream.buffer) < count:
            if stream.fill():
                continue
            boundary = len(stream.buffer)
            if not stream.next_frame():
                return False
            self._ensure_start(boundary)
            if self._start.match(stream.buffer, boundary):
                return False
        return True

    def _pass_over(self, broken: _Broken) -> Damage:
        """Go to the next record start inside the frame, else to the frame's end."""
        stream = self._stream
        began = self._began
        if broken.behind and (not stream.buffer or self._start.match(stream.buffer)):
            return Damage(began, stream.offset(), broken.reason, broken.what)
        try:
            while True:
                limit = stream.frame_end()
                # One byte on: the record that is broken must not be found again.
                found = self._next_start.search(stream.buffer, 1, limit if limit else len(stream.buffer))
                if found:
                    stream.skip(found.end())
                    break
                if limit is not None:
                    stream.skip(limit)
                    break
                stream.skip(max(0, len(stream.buffer) - MAX_HEADER))
                if not stream.fill():
                    stream.skip(len(stream.buffer))
                    if not stream.next_frame():
                        return Damage(began, stream.size, broken.reason, broken.what)
                    break
        except FrameError as error:
            return Damage(began, stream.resynchronise(error.offset), broken.reason, f"{broken.what}; {error.message}")
        return Damage(began, stream.offset(), broken.reason, broken.what)

    def _next_frame_after(self, error: FrameError) -> Damage:
        began = self._began if self._inside else error.offset
        end = self._stream.resynchronise(error.offset)
        reason = "truncated_record" if error.truncated else "damaged_record"
        return Damage(min(began, error.offset), end, reason, error.message)


def is_arc(path: Path) -> bool:
    """Whether a file's first record is an ARC one; where the first bytes are none of either its name decides."""
    with path.open("rb") as file:
        head = file.read(65_536)
    try:
        head = codec_of(head)().decompress(head)
    except CODEC_ERRORS:
        head = b""
    if arc.START.match(head) or WARC_START.match(head):
        return arc.START.match(head) is not None
    return ".arc" in path.suffixes


def read_records(path: Path, max_record_bytes: int) -> Iterator[Record | Damage]:
    """The records and damaged regions of a WARC, WET or ARC file; gzip, LZ4 or plain, told by content."""
    arc_file = is_arc(path)
    with path.open("rb") as file:
        yield from RecordReader(file, max_record_bytes, arc_file)
