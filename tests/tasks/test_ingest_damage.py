"""Each kind of damage and oddity that crawls hold, through the whole of ingest: what comes out, and what is told."""

from __future__ import annotations

import gzip
import io
import os
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastwarc.stream_io import BrotliWriter

from artifacts.store import Artifact, Store
from tasks.ingest import STAGE, IngestConfig
from tasks.ingest.config import IngestConfig as Config
from tasks.ingest.http import Response, charset_parameter, decode_body, parse_response
from tasks.ingest.judge import document_id, payload_digest
from tasks.ingest.process import Job, process_file
from tasks.ingest.reader import Damage, Record, RecordReader, is_arc, read_records
from tests.support import read_rows, run_stage
from tests.tasks.archives import DATE, SENTENCE, Archive, arc_file, arc_record, page

HTML = ("Content-Type", "text/html; charset=utf-8")
TEXT = f"Page 1. {SENTENCE * 6}".strip()


def ingest(tmp_path: Path, files: dict[str, bytes], **config: Any) -> Artifact:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in files]
    return run_stage(STAGE, IngestConfig(paths=paths, **config), Store(str(tmp_path / "store"))).artifact


def fates(artifact: Artifact) -> dict[str, str]:
    return {row["url"].rpartition("/")[2]: row["reason"] for row in read_rows(artifact, "decisions")}


def read(data: bytes, limit: int = 1 << 20, arc: bool = False) -> list[str]:
    """The last part of each record's URL, or reason and region of each damage."""
    return [
        f"{item.reason} {item.offset}-{item.end}"
        if isinstance(item, Damage)
        else item.headers["warc-target-uri"].rpartition("/")[2]
        for item in RecordReader(io.BytesIO(data), limit, arc)
    ]


def brotli(data: bytes) -> bytes:
    buffer = io.BytesIO()
    writer = BrotliWriter(buffer)
    writer.write(data)
    writer.close()
    return buffer.getvalue()


def test_bodies_in_every_coding_true_or_not(tmp_path: Path) -> None:
    body = page(1)
    half = len(body) // 2
    chunked = b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (
        half,
        body[:half],
        len(body) - half,
        body[half:],
    )
    archive = Archive()
    for name, sent, headers in (
        ("gzip", gzip.compress(body), [("Content-Encoding", "gzip")]),
        ("deflate", zlib.compress(body), [("Content-Encoding", "deflate")]),
        ("raw-deflate", zlib.compress(body)[2:-4], [("Content-Encoding", "deflate")]),
        ("brotli", brotli(body), [("Content-Encoding", "br")]),
        ("chunked", chunked, [("Transfer-Encoding", "chunked")]),
        ("chunked-gzip", b"%x\r\n" % len(gzip.compress(body)) + gzip.compress(body) + b"\r\n0\r\n\r\n",
         [("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip")]),
        ("not-chunked", body, [("Transfer-Encoding", "chunked")]),
        ("not-gzip", body, [("Content-Encoding", "gzip")]),
        ("not-brotli", body, [("Content-Encoding", "br")]),
        ("unknown-coding", body, [("Content-Encoding", "x-rot13")]),
        ("long", body, [("Content-Length", "99999")]),
        ("short", body, [("Content-Length", "7")]),
    ):  # fmt: skip
        archive.add(f"http://example.org/{name}", sent, headers=[HTML, *headers])
    artifact = ingest(tmp_path, {"a.warc.gz": archive.data})
    documents = {row["url"].rpartition("/")[2]: row["text"] for row in read_rows(artifact)}
    assert set(documents.values()) == {TEXT} and len(documents) == 12
    assert artifact.manifest.metrics["body_notes"] == {
        "content-encoding 'x-rot13' not applied": 1,
        "not br as stated": 1,
        "not chunked as stated": 1,
        "not gzip as stated": 1,
    }


def test_chunks_that_are_wrong_give_what_there_is() -> None:
    def chunks(body: bytes) -> bytes:
        return decode_body(Response(200, {"transfer-encoding": "chunked"}, body), 1_000)[0]

    assert chunks(b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n") == b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n"
    assert chunks(b"5\r\nhello\r\n5\r\nworld\r\nzz\r\n!") == b"helloworld"  # the third size is none
    assert chunks(b"5\r\nhello\r\nff\r\nwor") == b"hellowor"  # breaks off inside a chunk
    assert chunks(b"5\nhello\n5\nworld\n0\n\n") == b"helloworld"  # bare line feeds
    assert chunks(b" 5 \r\nhello\r\n0\r\n\r\n") == b"hello"
    assert chunks(b"fffffffffff\r\nhello") == b"hello"


def test_charsets_unknown_or_lying(tmp_path: Path) -> None:
    german = f"<p>{'Die Größe der Straße überrascht manche Gäste. ' * 6}</p>"
    archive = Archive()
    for name, charset, body in (
        ("unknown", "klingon", german.encode()),
        ("lying", "utf-8", german.encode("cp1252")),
        ("utf16", "utf-8", german.encode("utf-16")),
        ("none", "", german.encode()),
    ):
        kind = f"text/html; charset={charset}" if charset else "text/html"
        archive.add(f"http://example.org/{name}", body, headers=[("Content-Type", kind)])
    rows = read_rows(ingest(tmp_path, {"a.warc.gz": archive.data}))
    assert {row["text"] for row in rows} == {("Die Größe der Straße überrascht manche Gäste. " * 6).strip()}
    assert [row["charset"] for row in rows] == ["utf-8", "cp1252", "utf-16-le", "utf-8"]


def test_old_versions_odd_uris_and_impossible_dates(tmp_path: Path) -> None:
    archive = Archive(gzip=False)
    for number, (uri, date) in enumerate(
        (
            ("http://example.org/0", DATE),
            ("<http://example.org/1>", DATE),
            ("http://example.org/a b/2", DATE),
            ("  <http://example.org/ü/3> ", DATE),
            ("http://example.org/4", "2026-13-45T99:99:99Z"),
            ("http://example.org/5", "yesterday"),
            ("http://example.org/6", ""),
        )
    ):
        archive.add(uri, page(number), warc={"WARC-Date": date})
    data = archive.data
    for at, version in ((0, b"WARC/0.17"), (1, b"WARC/0.18"), (2, b"WARC/1.1")):
        start = archive.offsets[at] + (len(data) - len(archive.data))
        data = data[:start] + version + data[start + len(b"WARC/1.0") :]
    rows = read_rows(ingest(tmp_path, {"old.warc": data}))
    assert [row["url"] for row in rows] == [
        "http://example.org/0",
        "http://example.org/1",
        "http://example.org/a b/2",
        "http://example.org/ü/3",
        *(f"http://example.org/{number}" for number in (4, 5, 6)),
    ]
    # A date is what the crawler wrote. It is part of the doc_id, and nothing is read into it.
    assert [row["date"] for row in rows[3:]] == [DATE, "2026-13-45T99:99:99Z", "yesterday", ""]
    digest = payload_digest(page(2))
    assert rows[2]["doc_id"] == document_id("http://example.org/a%20b/2", DATE, digest)


def test_wat_and_wet(tmp_path: Path) -> None:
    wet = Archive().add("http://example.org/wet", SENTENCE.encode() * 5, "conversion", warc_content_type="text/plain")
    wat = Archive().add("http://example.org/wat", b'{"Envelope": {}}', "metadata", warc_content_type="application/json")
    artifact = ingest(tmp_path, {"a.warc.wat.gz": wat.data, "a.warc.wet.gz": wet.data})
    # A WAT file holds metadata alone: tallied, no rows.
    assert fates(artifact) == {"wet": "kept"}
    assert artifact.manifest.metrics["records"] == {"conversion": 1, "metadata": 1}


def test_truncated_empty_and_revisit_records(tmp_path: Path) -> None:
    refers = {
        "WARC-Refers-To-Target-URI": "<http://example.org/first>",
        "WARC-Refers-To-Date": DATE,
        "WARC-Refers-To": "<urn:uuid:1>",
        "WARC-Payload-Digest": "sha1:ABC",
        "WARC-Profile": "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest",
    }
    unnamed = {"WARC-Profile": "http://netpreserve.org/warc/1.1/revisit/server-not-modified"}
    archive = (
        Archive()
        .add(
            "http://example.org/cut", page(1)[:300], warc={"WARC-Truncated": "length", "WARC-Payload-Digest": "sha1:X"}
        )
        .add("http://example.org/whole", page(1))
        .add("http://example.org/empty", b"")
        .add("http://example.org/blank", b" \r\n\t ")
        .add("http://example.org/again", b"", "revisit", warc=refers)
        .add("http://example.org/same", b"", "revisit", status="304 Not Modified", warc=unnamed)
    )
    artifact = ingest(tmp_path, {"a.warc.gz": archive.data})
    assert fates(artifact) == {
        "cut": "kept",
        "whole": "kept",
        "empty": "empty_payload",
        "blank": "empty_payload",
        "again": "revisit",
        "same": "revisit",
    }
    details = {row["url"].rpartition("/")[2]: row["detail"] for row in read_rows(artifact, "decisions")}
    assert details["cut"] == "WARC-Truncated: length" and details["whole"] is None
    assert details["again"] == f"http://example.org/first @ {DATE}; <urn:uuid:1>; sha1:ABC"
    assert details["same"].endswith(("server-not-modified", payload_digest(b"")))


# --- where the reader goes on


def three(compress: bool = True) -> Archive:
    archive = Archive(gzip=compress)
    for number in range(3):
        archive.add(f"http://example.org/{number}", page(number))
    return archive


@pytest.mark.parametrize("length", [b"99999999", b"99999999999999"])
@pytest.mark.parametrize("compress", [True, False])
def test_a_length_beyond_the_limit_swallows_nothing(length: bytes, compress: bool) -> None:
    """Larger than records may be, so that the block is passed over unread; then there is less of it than stated."""
    plain = three(False)
    records = [plain.data[a:b] for a, b in zip(plain.offsets, [*plain.offsets[1:], len(plain.data)], strict=True)]
    at = records[1].index(b"Content-Length: ") + len(b"Content-Length: ")
    records[1] = records[1][:at] + length + records[1][records[1].index(b"\r\n", at) :]
    if compress:
        records = [gzip.compress(record, mtime=0) for record in records]
    start, end = len(records[0]), len(records[0]) + len(records[1])
    assert read(b"".join(records)) == ["0", f"truncated_record {start}-{end}", "2"]


def test_a_length_beyond_the_limit_before_a_broken_member() -> None:
    """Found by breaking archives: nothing told of the record that was passed over when the next member broke off."""
    first, second = (gzip.compress(Archive(gzip=False).add(f"http://e.org/{n}", page(n)).data, mtime=0) for n in (1, 2))
    first = gzip.compress(zlib.decompress(first, 31).replace(b"Content-Length: ", b"Content-Length: 99999"), mtime=0)
    assert read(first + second[:40]) == [f"truncated_record 0-{len(first) + 40}"]


def test_a_plain_file_full_of_such_lengths_is_not_read_as_often() -> None:
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 99999999999\r\n\r\n"
    data = (head + b"x" * 1_000 + b"\r\n\r\n") * 2_000
    reads = 0

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal reads
            found = super().read(size)
            reads += len(found)
            return found

    items = list(RecordReader(Counting(data), 1 << 20))
    assert all(isinstance(item, Damage) for item in items)
    assert reads <= 3 * len(data)


@pytest.mark.parametrize("suffix", ["warc", "arc"])
def test_damage_to_the_first_bytes_of_a_compressed_file(tmp_path: Path, suffix: str) -> None:
    """They name the codec. A later member names it too."""
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    if suffix == "warc":
        archive = three()
        data, begin = archive.data, archive.offsets[1]
    else:
        members = [gzip.compress(arc_record(f"http://example.org/{n}", "text/html", http + page(n))) for n in range(3)]
        data, begin = b"".join(members), len(members[0])
    path = tmp_path / f"a.{suffix}.gz"
    path.write_bytes(b"\0\0\0" + data[3:])
    assert is_arc(path) == (suffix == "arc")
    items = list(read_records(path, 1 << 20))
    assert items[0] == Damage(0, begin, "damaged_record", items[0].what)  # type: ignore[union-attr]
    assert [item.headers["warc-target-uri"][-1] for item in items[1:] if isinstance(item, Record)] == ["1", "2"]


def test_a_plain_file_stays_plain_though_its_payload_is_an_archive() -> None:
    inner = three().data
    archive = Archive(gzip=False).add("http://example.org/a", page(1)).add("http://example.org/download", inner)
    archive.add("http://example.org/b", page(2))
    data = b"XX" + archive.data[2:]
    start = archive.offsets[1]
    assert read(data) == [f"damaged_record 0-{start}", "download", "b"]


def test_damage_in_a_whole_file_member_loses_the_rest_and_says_so() -> None:
    plain = Archive(gzip=False)
    for number in range(60):
        plain.add(f"http://example.org/{number}", random.Random(number).randbytes(2_000).hex().encode())
    data = bytearray(gzip.compress(plain.data))
    data[len(data) * 2 // 3] ^= 0x55
    found = read(bytes(data))
    # The member's checksum stands at its end. Records just behind the damage may come out altered before it is found
    # out: their payload digests tell.
    assert found[:39] == [str(number) for number in range(39)]
    assert found[-1].startswith("damaged_record 0-") and len(found) < 61


# --- bombs and floods: what must not take time or memory out of proportion. None may hang; none asserts a time.


def test_floods_are_read_in_proportion() -> None:
    empty = gzip.compress(b"", mtime=0)
    # Each of these took time with the square of its length before.
    flood = Response(200, {"content-encoding": "gzip"}, gzip.compress(page(1)) + empty * 50_000)
    assert decode_body(flood, 10_000) == (page(1), "")
    assert parse_response(b"HTTP/1.1 200 OK\nA: b\n" + b" c\n" * 500_000 + b"\nbody").body == b"body"
    assert charset_parameter("text/html; charset" + " " * 500_000 + "=" + " " * 500_000) is None
    plain = three(False).data
    bytewise = b"".join(gzip.compress(plain[at : at + 1], 0, mtime=0) for at in range(len(plain)))
    assert read(bytewise) == ["0", "1", "2"]
    assert read(empty * 5_000 + three().data) == ["0", "1", "2"]
    magic = b"\x1f\x8b\x08" * 5_000
    damaged = read(three().data + magic + three().data)
    assert [part for part in damaged if not part.startswith("damaged")] == ["0", "1", "2"] * 2
    dates = b"http://example.org/" + b" 20260102030405 x" * 900 + b"\n"
    assert len(read(arc_file() + dates * 30, arc=True)) >= 1


def test_bombs_are_decisions(tmp_path: Path) -> None:
    zeros = bytes(20_000_000)
    once = gzip.compress(zeros, 9)
    bodies = {
        "body": (once, "gzip"),
        "twice": (gzip.compress(once, 9), "gzip, gzip"),
        "brotli": (brotli(zeros), "br"),
        "deflate": (zlib.compress(zeros, 9), "deflate"),
    }
    archive = Archive().add("http://example.org/record", zeros)
    for name, (sent, coding) in bodies.items():
        archive.add(f"http://example.org/{name}", sent, headers=[HTML, ("Content-Encoding", coding)])
    archive.add("http://example.org/after", page(1))
    assert len(archive.data) < 300_000
    artifact = ingest(tmp_path, {"bombs.warc.gz": archive.data}, max_record_bytes=1 << 20)
    assert fates(artifact) == {"record": "too_large", **dict.fromkeys(bodies, "too_large"), "after": "kept"}


REAL = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(":") if part]


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="CRAWL2CHAT_MIRROR names no folder of public data")
def test_real_damage_is_named_with_file_and_offset(tmp_path: Path) -> None:
    files = sorted(path for root in REAL for path in root.glob("crawl_bad/*"))
    if not files:
        pytest.skip("no crawl_bad/ in the mirror")
    lost: Counter[str] = Counter()
    for path in files:
        config = Config(paths=[str(path)])
        process_file(Job(0, path.name, str(path), "crawl", (), config, (), str(tmp_path)))
        for item in read_records(path, config.max_record_bytes):
            if isinstance(item, Damage):
                lost[path.name] += 1
                assert 0 <= item.offset <= item.end <= path.stat().st_size and item.what
    assert lost["resiliparse__clipped.warc.gz"] == 1
    assert lost["warcio__example-trunc.warc"] >= 1
