"""Archives to break, and ways to break them. Everything follows from a seed: a number is all that a finding needs."""

from __future__ import annotations

import gzip
import os
import random
import re
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lz4.frame

from tests.tasks.archives import SENTENCE, Archive, arc_file, arc_record

SMALL = 40_000  # bytes: larger files of the mirror are left out


@dataclass(frozen=True)
class Base:
    """An archive as the pieces it is made of: gzip members, LZ4 frames, or the records of a plain file."""

    name: str
    pieces: tuple[bytes, ...]
    codec: str  # gzip | lz4 | plain
    aligned: bool = True  # a record does not go on in the next piece

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def page(number: int) -> bytes:
    head = '<meta name="robots" content="noindex">' if number % 3 else ""
    text = f"<p>Page {number}. {SENTENCE * (number % 4)}</p>"
    return f"<html><head><title>Page {number}</title>{head}</head><body>{text}</body></html>".encode()


def _records(compress: bool) -> Archive:
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(page(3)), page(3))
    html = ("Content-Type", "text/html; charset=utf-8")
    return (
        Archive(gzip=compress)
        .add("http://example.org/request", b"GET / HTTP/1.1\r\n\r\n", "request")
        .add("http://example.org/1", page(1))
        .add("http://example.org/2", gzip.compress(page(2), mtime=0), headers=[html, ("Content-Encoding", "gzip")])
        .add("http://example.org/3", chunked, headers=[html, ("Transfer-Encoding", "chunked")])
        .add("http://example.org/4", b"", "revisit")
        .add("<http://example.org/a b>", page(5))
        .add("http://example.org/6", SENTENCE.encode() * 3, "conversion", warc_content_type="text/plain")
        .add("http://example.org/7", page(7), "resource", warc_content_type="text/html")
    )


def _cut(archive: Archive) -> list[bytes]:
    ends = [*archive.offsets[1:], len(archive.data)]
    return [archive.data[start:end] for start, end in zip(archive.offsets, ends, strict=True)]


def _arc() -> list[bytes]:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    return [arc_file(), *(arc_record(f"http://example.org/{n}", "text/html", http + page(n)) for n in range(5))]


@cache
def bases() -> tuple[Base, ...]:
    """Archives of every kind that ingest reads, and the small ones of the mirror where there is one."""
    plain, arc = _cut(_records(False)), _arc()
    whole = b"".join(plain)
    bgzip = [gzip.compress(whole[at : at + 700], mtime=0) for at in range(0, len(whole), 700)]
    made = [
        Base("made.warc.gz", tuple(_cut(_records(True))), "gzip"),
        Base("made.warc", tuple(plain), "plain"),
        Base("made.warc.lz4", tuple(lz4.frame.compress(record) for record in plain), "lz4"),
        Base("whole.warc.gz", (gzip.compress(whole, mtime=0),), "gzip"),
        Base("bgzip.warc.gz", tuple(bgzip), "gzip", False),
        Base("made.arc.gz", tuple(gzip.compress(record, mtime=0) for record in arc), "gzip"),
        Base("made.arc", tuple(arc), "plain"),
    ]
    return (*made, *_mirrored())


def _mirrored() -> list[Base]:
    found = []
    for root in filter(None, os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep)):
        for path in sorted([*Path(root).glob("crawl/*"), *Path(root).glob("crawl_bad/*")]):
            if path.stat().st_size <= SMALL:
                data = path.read_bytes()
                codec = "gzip" if data[:2] == b"\x1f\x8b" else "lz4" if data[:2] == b"\x04\x22" else "plain"
                pieces = _members(data) if codec == "gzip" else [data]
                # One of them has records that go on in the next member.
                aligned = path.name != "warcio__example-wrong-chunks.warc.gz"
                found.append(Base(path.name, tuple(pieces), codec, aligned))
    return found


def _members(data: bytes) -> list[bytes]:
    """The gzip members of a file; what cannot be decompressed is the last piece."""
    pieces = []
    while data:
        inner = zlib.decompressobj(31)
        try:
            inner.decompress(data)
        except zlib.error:
            break
        if not inner.eof:
            break
        pieces.append(data[: len(data) - len(inner.unused_data)])
        data = inner.unused_data
    return [*pieces, data] if data else pieces


# --- one piece


def flip(piece: bytes, chance: random.Random) -> bytes:
    changed = bytearray(piece)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_head(piece: bytes, chance: random.Random) -> bytes:
    changed = bytearray(piece)
    changed[chance.randrange(min(20, len(changed)))] = chance.randrange(256)
    return bytes(changed)


def remove(piece: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(piece))
    return piece[:at] + piece[at + chance.randint(1, 300) :]


def repeat(piece: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(piece))
    return piece[: at + chance.randint(1, 300)] + piece[at:]


def insert(piece: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(piece) + 1)
    known = (bytes(50), b"\r\n\r\n", b"\x1f\x8b\x08" * 9, b"\nWARC/1.0\r\n")
    junk = chance.choice((chance.randbytes(chance.randint(1, 60)), *known))
    return piece[:at] + junk + piece[at:]


def blank(piece: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(piece))
    count = min(len(piece) - at, chance.randint(1, 500))
    return piece[:at] + bytes(count) + piece[at + count :]


def cut(piece: bytes, chance: random.Random) -> bytes:
    return piece[: chance.randrange(len(piece))]


# --- what a piece says, with the compression as it was


# What is looked for, and what it becomes. `%d` is the number found, a little larger or smaller.
EDITS: tuple[tuple[bytes, tuple[bytes, ...]], ...] = (
    (
        rb"(?i)(?<=content-length: )\d+",
        (b"0", b"1", b"-1", b"9" * 8, b"9" * 14, b"9" * 40, b"0x20", b"12 ", b"", "٣".encode()),
    ),
    (rb"(?i)(?<=content-length: )\d+", (b"%d",)),
    (rb"(?<!\d)\d{1,15}(?=\n)", (b"%d", b"0", b"1000000")),  # the length in an ARC header, or a line of text
    (rb"WARC/1\.\d", (b"WARC/0.17", b"WARC/0.18", b"WARC/9.9", b"warc/1.0")),
    (rb"(?<=WARC-Date:)[^\r]*", (b" 2026-13-45T99:99:99Z", b" yesterday", b"")),
    (rb"(?<=WARC-Target-URI:)[^\r]*", (b" <http://e.org/ \xff>", b"", b" http://[", b"\0")),
    (rb"(?<=WARC-Type: )\w+", (b"revisit", b"continuation", b"x", b"")),
    (rb"(?<=Content-Encoding: )\w+", (b"br", b"deflate", b"zstd", b"gzip, gzip")),
    (rb"(?=Content-Type: text/html)", (b"Content-Encoding: br\r\n", b"Transfer-Encoding: chunked\r\n")),
    (rb"charset=utf-8", (b"charset=klingon", b"charset=utf-7", b"charset=utf-16", b"charset=" + b"x" * 3000)),
    (rb"\r\n\r\n", (b"\r\n", b"\n\n", b"\r\n \r\n")),
    (rb"(?<=\r\n)", (b"X-Long: " + b"y" * 70_000 + b"\r\n", b"WARC-Truncated: length\r\n", b" folded\r\n")),
    (rb"(?<=<body>)", (b"<div>" * 5_000, b" " * 20_000 + b"x", b"<!--", b"<p " + b"a=" * 9_000)),
    (rb"\Z", (b"0" * 3_000_000, b"\r\n" * 500, b"\nWARC/1.0\r\nContent-Length: 5\r\n\r\nhello")),
)


def edit(piece: bytes, codec: str, chance: random.Random) -> bytes:
    """One change of what the piece says; bytes that cannot be decompressed stay."""
    pattern, replacements = chance.choice(EDITS)
    replacement, off = chance.choice(replacements), chance.choice((-900, -2, -1, 1, 2, 3, 900))

    def put(found: re.Match[bytes]) -> bytes:
        return b"%d" % max(0, int(found[0]) + off) if replacement == b"%d" else replacement

    def change(text: bytes) -> bytes:
        return re.sub(pattern, put, text, count=1)

    try:
        if codec == "gzip":
            return gzip.compress(change(gzip.decompress(piece)), 6, mtime=0)
        if codec == "lz4":
            return lz4.frame.compress(change(lz4.frame.decompress(piece)))
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError):
        return piece
    return change(piece)


def gzip_header(piece: bytes, chance: random.Random) -> bytes:
    """The optional fields of a gzip header (RFC 1952 section 2.3), well-formed or not."""
    if piece[:3] != b"\x1f\x8b\x08":
        return flip(piece, chance)
    extra_field = struct.pack("<H", 12) + b"sl\x08\0" + bytes(8)
    kinds = ((4, extra_field), (8, b"name\0"), (16, b"x" * 99 + b"\0"), (4, b"\xff\xff"), (0xE0, b""))
    flags, extra = chance.choice(kinds)
    return piece[:3] + bytes([piece[3] | flags]) + piece[4:10] + extra + piece[10:]


BYTES = (flip, flip, flip_head, remove, repeat, insert, blank, cut, gzip_header)


def mutate(seed: int) -> tuple[Base, bytes, list[bytes]]:
    """(what was broken, the broken archive, the pieces that no change touched).

    Half of the archives have one piece changed, so that all the others must come through.
    """
    chance = random.Random(f"crawl2chat {seed}")
    base = chance.choice(bases())
    pieces = list(base.pieces)
    touched: set[int] = set()
    for _ in range(1 if chance.random() < 0.5 else chance.randint(2, 5)):
        at = chance.randrange(len(pieces))
        touched.add(at)
        if pieces[at]:
            byte_change = chance.choice(BYTES)
            said = chance.random() < 0.5
            pieces[at] = edit(pieces[at], base.codec, chance) if said else byte_change(pieces[at], chance)
    whole = [piece for at, piece in enumerate(pieces) if at not in touched]
    order = list(range(len(pieces)))
    if chance.random() < 0.2:
        one, two = chance.randrange(len(order)), chance.randrange(len(order))
        order[one], order[two] = order[two], order[one]
    if chance.random() < 0.1:
        order.insert(chance.randrange(len(order) + 1), chance.choice(order))
    data = b"".join(pieces[at] for at in order)
    if chance.random() < 0.1:
        other = chance.choice(bases()).data
        start = chance.randrange(len(other))
        at = sum(len(pieces[index]) for index in order[: chance.randrange(len(order) + 1)])
        data = data[:at] + other[start : start + chance.randint(1, 4000)] + data[at:]
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)]
    return base, data, whole
