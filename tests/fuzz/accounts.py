"""An account of an archive's bytes that does not trust the reader: frames are opened again, by the codecs alone."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import lz4.frame

from tasks.ingest.reader import Damage, Record


def unaccounted(data: bytes, items: Sequence[Record | Damage]) -> list[str]:
    """Regions of the file that belong to no record, no padding and no damaged region; and what is out of order."""
    problems = []
    offsets = [item.offset for item in items]
    if offsets != sorted(offsets):
        problems.append(f"offsets go back: {offsets}")
    codec = codec_read(data, items)
    at = 0
    for number, item in enumerate(items):
        following = offsets[number + 1] if number + 1 < len(items) else len(data)
        if item.offset > at:
            problems += _padding(data, at, item.offset, codec)
        end = item.end if isinstance(item, Damage) else _record_end(data, item, codec, following)
        # What a record's last frame holds behind it, and frames that go on with it, are the record's.
        at = max(at, end, _frames_end(data, max(at, end), following, codec) if codec != "plain" else 0)
    return problems + _padding(data, at, len(data), codec)


def codec_read(data: bytes, items: Sequence[Record | Damage]) -> str:
    """How the reader took the file: told by where its first record lies."""
    first = next((item.offset for item in items if isinstance(item, Record)), 0)
    here = data[first : first + 4]
    return "gzip" if here[:3] == b"\x1f\x8b\x08" else "lz4" if here == b"\x04\x22\x4d\x18" else "plain"


def _padding(data: bytes, start: int, end: int, codec: str) -> list[str]:
    between = data[start:end]
    left = between.strip(b"\0\r\n") if codec == "plain" else between.strip(b"\0")
    if not left or (codec != "plain" and _frames_end(data, start, end, codec) == end):
        return []
    return [f"{len(left)} bytes between {start} and {end} are nowhere: {left[:40]!r}"]


def _record_end(data: bytes, record: Record, codec: str, following: int) -> int:
    if codec != "plain":
        end = _frame_end(data, record.offset, codec)
        return record.offset if end is None else end
    if data[record.offset : record.offset + 5] == b"WARC/":
        head = re.compile(rb"\r?\n\r?\n").search(data, record.offset)
        begin = head.end() if head else record.offset
    else:
        begin = data.index(b"\n", record.offset) + 1
    if record.block is not None and data[begin : begin + record.length] != record.block:
        return record.offset  # shows as a gap
    return begin + record.length


def _frames_end(data: bytes, start: int, limit: int, codec: str) -> int:
    """Where the row of sound frames ends that begins at `start`."""
    while start < limit and (end := _frame_end(data, start, codec)) is not None:
        start = end
    return start


def _frame_end(data: bytes, start: int, codec: str) -> int | None:
    """Where the frame at `start` ends; None if no sound frame begins there."""
    inner: Any = zlib.decompressobj(31) if codec == "gzip" else lz4.frame.LZ4FrameDecompressor()
    try:
        inner.decompress(data[start:])
    except (zlib.error, RuntimeError, ValueError):
        return None
    return len(data) - len(inner.unused_data or b"") if inner.eof else None


def lost(data: bytes, items: Sequence[Record | Damage], whole: Sequence[bytes], codec: str) -> list[str]:
    """Untouched pieces of the archive that were no records: each found must be the record that its bytes say."""
    problems = []
    records = {item.offset: item for item in items if isinstance(item, Record)}
    damages = {item.offset for item in items if isinstance(item, Damage)}
    for piece in whole:
        if codec != "plain" and _frame_end(piece, 0, codec) != len(piece):
            continue  # broken by itself, as the archive was given
        at = data.find(piece)
        while at >= 0:
            # One line end closes an ARC record. Where garbage follows, nothing proves its length.
            doubted = codec == "plain" and at in damages and piece[:5] != b"WARC/"
            if not doubted and not _is_read(data, at, piece, records, codec):
                problems.append(f"the {len(piece)} sound bytes at {at} were not read")
            at = data.find(piece, at + 1)
    return problems


def _is_read(data: bytes, at: int, piece: bytes, records: dict[int, Record], codec: str) -> bool:
    record = records.get(at)
    if record is not None:
        text = _plain(piece, codec)
        return record.block is None or record.block in text
    if not _begins_record(_plain(piece, codec)):
        return True  # a frame in the middle of a record
    if codec != "plain":
        # A gzip header that got a name or an extra field too many may swallow the header of this very member.
        return any(start < at and _frame_end(data, start, codec) == at + len(piece) for start in records)
    # In a plain file nothing but the line before says where a record begins, and a wrong length may hold it.
    if at and data[at - 1 : at] != b"\n":
        return True
    return any(start < at < start + record.length + 70_000 for start, record in records.items())


def _plain(piece: bytes, codec: str) -> bytes:
    if codec == "plain":
        return piece
    return zlib.decompress(piece, 31) if codec == "gzip" else bytes(lz4.frame.decompress(piece))


def _begins_record(text: bytes) -> bool:
    return re.match(rb"WARC/\d+\.\d+[ \t]*\r?\n|[A-Za-z][A-Za-z0-9+.\-]+:\S* \S+ \d{14} ", text) is not None
