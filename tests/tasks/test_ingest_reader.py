"""Reading archives through damage: what is whole comes out, what is not is a region with a place and a reason."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest.reader import Damage, Record, RecordReader, is_arc, read_records
from tests.tasks.archives import Archive, arc_file, arc_record, page

LIMIT = 1 << 20


def five(compress: bool = True) -> Archive:
    archive = Archive(gzip=compress)
    for number in range(5):
        archive.add(f"http://example.org/{number}", page(number))
    return archive


def read(data: bytes, limit: int = LIMIT, arc: bool = False) -> list[Record | Damage]:
    return list(RecordReader(io.BytesIO(data), limit, arc))


def told(items: list[Record | Damage]) -> list[str]:
    """The last part of each record's URL, or the reason of a damaged region."""
    return [i.reason if isinstance(i, Damage) else i.headers["warc-target-uri"].rpartition("/")[2] for i in items]


@pytest.mark.parametrize("compress", [True, False])
def test_whole_file_with_offsets(compress: bool) -> None:
    archive = five(compress)
    items = read(archive.data)
    assert told(items) == ["0", "1", "2", "3", "4"]
    assert [item.offset for item in items] == archive.offsets


def test_lz4_frames_and_one_gzip_member_around_all() -> None:
    plain = five(False)
    ends = [*plain.offsets[1:], len(plain.data)]
    frames = [lz4.frame.compress(plain.data[a:b]) for a, b in zip(plain.offsets, ends, strict=True)]
    items = read(b"".join(frames))
    assert told(items) == ["0", "1", "2", "3", "4"]
    assert [item.offset for item in items] == [sum(map(len, frames[:n])) for n in range(5)]
    assert told(read(gzip.compress(plain.data))) == ["0", "1", "2", "3", "4"]


def test_records_that_go_on_in_the_next_member() -> None:
    data = five(False).data
    cut = b"".join(gzip.compress(data[start : start + 300]) for start in range(0, len(data), 300))
    assert told(read(cut)) == ["0", "1", "2", "3", "4"]


def test_flipped_bit_loses_one_record_of_a_gzip_file() -> None:
    archive = five()
    for at in range(archive.offsets[2] + 1, archive.offsets[3], 7):
        data = bytearray(archive.data)
        data[at] ^= 0x10
        items = read(bytes(data))
        # Bytes 3 to 9 of a gzip header (flags, time, system) do not change what the member holds.
        if told(items) == ["0", "1", "2", "3", "4"]:
            assert at - archive.offsets[2] < 10
            continue
        assert [t for t in told(items) if t.isdigit()] == ["0", "1", "3", "4"], at
        lost = items[2]
        assert isinstance(lost, Damage)
        assert (lost.offset, lost.end) == (archive.offsets[2], archive.offsets[3])


def test_damaged_magic_and_crc() -> None:
    archive = five()
    magic, crc = bytearray(archive.data), bytearray(archive.data)
    magic[archive.offsets[1]] = 0
    crc[archive.offsets[2] - 8] ^= 1
    for data in (magic, crc):
        items = read(bytes(data))
        assert told(items) == ["0", "damaged_record", "2", "3", "4"]
        assert (items[1].offset, items[1].end) == (archive.offsets[1], archive.offsets[2])  # type: ignore[union-attr]


def test_every_truncation_is_told() -> None:
    archive = five()
    for end in range(archive.offsets[4] + 4, len(archive.data), 11):
        items = read(archive.data[:end])
        assert told(items) == ["0", "1", "2", "3", "truncated_record"]
        assert items[4] == Damage(archive.offsets[4], end, "truncated_record", items[4].what)  # type: ignore[union-attr]


def test_garbage_between_members_and_zero_padding() -> None:
    archive = five()
    middle = archive.offsets[3]
    items = read(archive.data[:middle] + b"\x1f\x8b\x08 no member" * 50 + archive.data[middle:])
    assert told(items) == ["0", "1", "2", "damaged_record", "3", "4"]
    assert told(read(archive.data + bytes(100_000))) == ["0", "1", "2", "3", "4"]


def test_plain_file_resynchronises_at_the_next_record() -> None:
    archive = five(False)
    start = archive.offsets[2]
    header = bytearray(archive.data)
    header[start : start + 4] = b"WURC"
    assert told(read(bytes(header))) == ["0", "1", "damaged_record", "3", "4"]
    # A Content-Length that reaches over the next records must not swallow them.
    for length, reason in ((b"1500", "damaged_record"), (b"900000", "truncated_record")):
        at = archive.data.index(b"Content-Length: ", start) + len(b"Content-Length: ")
        end = archive.data.index(b"\r\n", at)
        items = read(archive.data[:at] + length + archive.data[end:])
        assert told(items) == ["0", "1", reason, "3", "4"]
        assert items[2].offset == start


def test_large_records_are_passed_over_and_bombs_stay_small() -> None:
    archive = Archive().add("http://example.org/bomb", b"0" * 30_000_000).add("http://example.org/1", page(1))
    bomb, small = read(archive.data, limit=100_000)
    assert isinstance(bomb, Record)
    assert bomb.block is None
    assert bomb.length > 30_000_000
    assert told([small]) == ["1"]


def test_no_archive_at_all() -> None:
    assert read(b"") == []
    assert [type(item) for item in read(b"just some text\n" * 1000)] == [Damage]
    assert read(b"\x1f\x8b\x08")[0] == Damage(0, 3, "truncated_record", "the file ends inside a gzip member")


def test_arc_files(tmp_path: Path) -> None:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page(1)
    dns = arc_record("dns:example.org", "text/dns", b"20260102 example.org. 1 IN A 192.0.2.1")
    pages = [arc_record(f"http://example.org/a b/{n}", "text/html", http) for n in (1, 2, 3)]
    data = arc_file(dns, *pages)
    members = b"".join(gzip.compress(record) for record in (arc_file(), dns, *pages))
    for name, content in (("a.arc", data), ("a.arc.gz", members), ("whole.arc.gz", gzip.compress(data))):
        path = tmp_path / name
        path.write_bytes(content)
        assert is_arc(path)
        items = [item for item in read_records(path, LIMIT) if isinstance(item, Record)]
        assert [item.kind for item in items] == ["warcinfo", "resource", "response", "response", "response"]
        assert items[2].headers["warc-target-uri"] == "http://example.org/a b/1"
        assert items[2].headers["warc-date"] == "2026-01-02T03:04:05Z"
        assert items[2].block == http
    broken = bytearray(members)
    broken[-len(gzip.compress(pages[2])) - 20] ^= 1
    assert told(read(bytes(broken), arc=True))[-2:] == ["damaged_record", "3"]


def test_arc_version_2_header() -> None:
    line = b"http://example.org/ 192.0.2.1 20260102030405 text/html 200 ABCD - 120 made.arc 5\nhello\n"
    (record,) = read(line, arc=True)
    assert isinstance(record, Record)
    assert (record.headers["warc-target-uri"], record.block) == ("http://example.org/", b"hello")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_survived(data: st.DataObject) -> None:
    """Whatever is cut, flipped or put in: reading ends, never raises, and offsets never go back."""
    content = bytearray(five(data.draw(st.booleans())).data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if kind == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 400))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        else:
            content[at:at] = content[max(0, at - 500) : at]
        if not content:
            return
    items = read(bytes(content))
    offsets = [item.offset for item in items]
    assert offsets == sorted(offsets)
    for item in items:
        if isinstance(item, Record) and item.block is not None:
            assert len(item.block) == item.length


def test_gzip_members_made_by_hand_agree_with_zlib() -> None:
    archive = five()
    ends = [*archive.offsets[1:], len(archive.data)]
    for item, start, end in zip(read(archive.data), archive.offsets, ends, strict=True):
        assert isinstance(item, Record)
        assert item.block is not None
        assert item.block in zlib.decompress(archive.data[start:end], 31)
