"""The stage ingest: every record ends as a document or as a decision with a reason."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from tasks.ingest import STAGE, IngestConfig
from tasks.ingest.judge import document_id, payload_digest
from tests.support import read_rows, run_stage
from tests.tasks.archives import DATE, SENTENCE, Archive, arc_file, arc_record, page

HTML = ("Content-Type", "text/html; charset=utf-8")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def ingest(store: Store, paths: list[Path], **config: Any) -> Artifact:
    return run_stage(STAGE, IngestConfig(paths=[str(path) for path in paths], **config), store).artifact


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def manifest(folder: Path, name: str, file: Path, form: str, options: str = "{}", role: str = "curated") -> Path:
    import hashlib

    data = file.read_bytes()
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nrole: {role}\nlicence: CC0-1.0\nformat: {form}\noptions: {options}\nfiles:\n"
        f"  - {{name: {file.name}, url: {file.name}, sha256: {hashlib.sha256(data).hexdigest()}, bytes: {len(data)}}}\n"
    )
    return path


def mixed() -> Archive:
    """One record of every fate."""
    gzipped = [HTML, ("Content-Encoding", "gzip")]
    return (
        Archive()
        .add("http://example.org/good", page(1))
        .add("http://example.org/style", b"p {}", headers=[("Content-Type", "text/css")])
        .add("http://example.org/gone", page(2), status="404 Not Found")
        .add("http://example.org/empty", b"")
        .add("http://example.org/silent", b"<html><script>x()</script></html>")
        .add("http://example.org/revisit", b"", kind="revisit")
        .add("http://example.org/short", b"<p>Too short.</p>")
        .add("http://example.org/binary", bytes(range(256)) * 8)
        .add("http://example.org/notgzip", b"\x00\x01\x02\x03" * 99, headers=gzipped)
        .add("http://example.org/large", b"x" * 300_000)
        .add("http://example.org/bomb", gzip.compress(b"x" * 300_000), headers=gzipped)
        .add("http://blocked.example/a", page(3))
        .add("http://example.org/de", f"<p>{'Das ist ein deutscher Satz über das Wetter. ' * 9}</p>".encode())
        .add("metadata://crawler/log", b"a log", kind="resource", warc_content_type="text/plain")
        .add("http://example.org/robots.txt", b"User-agent: *", headers=[("Content-Type", "text/plain")])
        .add("http://example.org/good", page(1))
        .add("http://example.org/request", b"GET / HTTP/1.1\r\n\r\n", kind="request")
    )


FATES = {
    "http://example.org/style": "not_html",
    "http://example.org/gone": "http_status",
    "http://example.org/empty": "empty_payload",
    "http://example.org/silent": "no_text",
    "http://example.org/revisit": "revisit",
    "http://example.org/short": "too_short",
    "http://example.org/binary": "undecodable",
    "http://example.org/notgzip": "undecodable",
    "http://example.org/large": "too_large",
    "http://example.org/bomb": "too_large",
    "http://blocked.example/a": "blocklist",
    "http://example.org/de": "lang",
    "metadata://crawler/log": "not_web",
    "http://example.org/robots.txt": "robots_txt",
}


def test_every_record_has_its_fate(tmp_path: Path, store: Store) -> None:
    warc = write(tmp_path / "mixed.warc.gz", mixed().data)
    blocklist = write(tmp_path / "block.txt", b"# hosts\nBlocked.example  # and all below\n")
    artifact = ingest(store, [warc], blocklist=str(blocklist), languages=["en"], min_chars=50, max_record_bytes=200_000)
    decisions = read_rows(artifact, "decisions")
    assert {row["url"]: row["reason"] for row in decisions if row["url"] in FATES} == FATES
    assert [row["reason"] for row in decisions if row["url"].endswith("/good")] == ["kept", "duplicate_record"]
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (16, 1, 15, 0)
    assert artifact.manifest.metrics["records"] == {"request": 1, "resource": 1, "response": 14, "revisit": 1}
    (document,) = read_rows(artifact)
    assert document["doc_id"] == document_id("http://example.org/good", DATE, payload_digest(page(1)))
    assert {name: document[name] for name in ("url", "date", "source", "lang", "content_type", "charset")} == {
        "url": "http://example.org/good",
        "date": DATE,
        "source": "crawl",
        "lang": "en",
        "content_type": "text/html",
        "charset": "utf-8",
    }
    assert document["text"] == f"Page 1. {SENTENCE * 6}".strip()
    assert (document["warc_file"], document["warc_offset"]) == ("mixed.warc.gz", 0)


def test_damage_is_a_failed_row_with_file_and_offset(tmp_path: Path, store: Store) -> None:
    archive = mixed()
    data = bytearray(archive.data)
    data[archive.offsets[2] + 60] ^= 1
    warc = write(tmp_path / "bad.warc.gz", bytes(data[:-9]))
    artifact = ingest(store, [warc])
    failed = [row for row in read_rows(artifact, "decisions") if row["failed"]]
    assert [row["reason"] for row in failed] == ["damaged_record", "truncated_record"]
    assert failed[0]["detail"].startswith(f"bad.warc.gz @ {archive.offsets[2]}: gzip member")
    assert failed[1]["detail"].startswith(f"bad.warc.gz @ {archive.offsets[-1]}: the file ends inside")
    counts = artifact.manifest.counts
    # One response and the request at the end became damaged regions.
    assert (counts.rows_in, counts.failed) == (17, 2)


def test_wet_arc_and_angle_brackets(tmp_path: Path, store: Store) -> None:
    wet = Archive().add("http://example.org/wet", SENTENCE.encode() * 5, "conversion", warc_content_type="text/plain")
    bracket = Archive().add("<http://example.org/bracket>", page(4))
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page(5)
    files = [
        write(tmp_path / "a.warc.wet.gz", wet.data),
        write(tmp_path / "b.warc.gz", bracket.data),
        write(tmp_path / "c.arc", arc_file(arc_record("http://example.org/arc", "text/html", http))),
    ]
    documents = read_rows(ingest(store, files))
    assert [row["url"].rpartition("/")[2] for row in documents] == ["wet", "bracket", "arc"]
    assert documents[0]["content_type"] == "text/plain"
    assert documents[1]["url"] == "http://example.org/bracket"
    assert documents[2]["doc_id"] == document_id("http://example.org/arc", DATE, payload_digest(page(5)))


def test_stated_digests_count_and_wrong_ones_are_noted(tmp_path: Path, store: Store) -> None:
    wrong = payload_digest(b"another payload")
    archive = Archive(gzip=False).add("http://example.org/1", page(1)).add("http://example.org/2", page(2))
    data = archive.data.replace(payload_digest(page(2)).encode(), wrong.encode())
    artifact = ingest(store, [write(tmp_path / "d.warc", data)])
    assert artifact.manifest.metrics["payload_digests"] == {"right": 1, "wrong": 1}
    kept = read_rows(artifact, "decisions")
    assert kept[1]["doc_id"] == document_id("http://example.org/2", DATE, wrong)
    assert kept[0]["detail"] is None
    assert kept[1]["detail"] == f"the payload digest is {payload_digest(page(2))}, stated is {wrong}"


def test_block_digests_are_checked_and_wrong_ones_noted(tmp_path: Path, store: Store) -> None:
    archive = Archive(gzip=False).add("http://example.org/1", page(1)).add("http://example.org/2", page(2))
    second = archive.data[archive.offsets[1] :]
    block = second.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")
    right = payload_digest(block)
    broken = second.replace(b"charset=utf-8", b"charset=utf-9")
    artifact = ingest(store, [write(tmp_path / "d.warc", archive.data[: archive.offsets[1]] + broken)])
    assert artifact.manifest.metrics["block_digests"] == {"right": 1, "wrong": 1}
    assert artifact.manifest.metrics["payload_digests"] == {"right": 2}
    now = payload_digest(block.replace(b"charset=utf-8", b"charset=utf-9"))
    details = [(row["kept"], row["detail"]) for row in read_rows(artifact, "decisions")]
    assert details == [(True, None), (True, f"the block digest is {now}, stated is {right}")]


def test_digests_may_be_spelt_in_base32_hex_or_base64(tmp_path: Path, store: Store) -> None:
    archive = Archive(gzip=False)
    for number in range(8):
        archive.add(f"http://example.org/{number}", page(number))
    data = archive.data
    for number in range(8):
        digest = hashlib.sha1(page(number)).digest()
        spelt = (
            payload_digest(page(number)),
            f"SHA1:{digest.hex()}",
            "sha1:" + base64.b64encode(digest).decode(),
            "sha1:" + base64.urlsafe_b64encode(digest).decode(),
        )
        data = data.replace(payload_digest(page(number)).encode(), spelt[number % 4].encode())
    metrics = ingest(store, [write(tmp_path / "d.warc", data)]).manifest.metrics
    assert metrics["payload_digests"] == {"right": 8} and metrics["block_digests"] == {"right": 8}


def test_one_process_and_two_give_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for number in range(4):
        archive = Archive()
        for n in range(30):
            archive.add(f"http://example.org/{number * 20 + n}", page(number * 20 + n))
        files.append(write(tmp_path / f"{number}.warc.gz", archive.data))
    config = IngestConfig(paths=[str(path) for path in files])
    one = run_stage(STAGE, config, Store(str(tmp_path / "one"))).artifact
    with ProcessPoolExecutor(2) as pool:
        two = run_stage(STAGE, config, Store(str(tmp_path / "two")), mapper=pool.map).artifact
    assert one.manifest.content == two.manifest.content
    # Neighbouring files share ten pages each: the second sight of a page is the duplicate.
    assert one.manifest.counts.reasons == {"duplicate_record": 30}
    assert one.manifest.counts.kept == 90


def test_blocklist_content_changes_the_recipe(tmp_path: Path, store: Store) -> None:
    warc = write(
        tmp_path / "a.warc.gz", Archive().add("http://a.example/1", page(1)).add("http://b.example/", page(2)).data
    )
    block = write(tmp_path / "block", b"http://A.example:80/x/../1#part\n")
    first = ingest(store, [warc], blocklist=str(block))
    assert [row["url"] for row in read_rows(first)] == ["http://b.example/"]
    block.write_text(document_id("http://b.example/", DATE, payload_digest(page(2))))
    second = ingest(store, [warc], blocklist=str(block))
    assert [row["url"] for row in read_rows(second)] == ["http://a.example/1"]
    assert first.manifest.recipe != second.manifest.recipe


def test_text_sources(tmp_path: Path, store: Store) -> None:
    wiki = write(
        tmp_path / "wiki.txt",
        (
            f" \n = First = \n \n {SENTENCE}\n = = Part = = \n It was a well @-@ known 1 @,@ 000 .\n"
            f" \n = Second = \n \n {SENTENCE}"
        ).encode(),
    )
    lines = write(tmp_path / "lines.txt", f"One. {SENTENCE}\n\nTwo. {SENTENCE}\n".encode())
    records = write(
        tmp_path / "r.jsonl",
        "\n".join([json.dumps({"text": SENTENCE * 2}), "{broken", json.dumps({"title": "no text"})]).encode(),
    )
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("f/a.txt", f"A. {SENTENCE}")
        archive.writestr("f/b.xml", f"<?xml version='1.0'?><PLAY><!-- note --><LINE>Act &amp; {SENTENCE}</LINE></PLAY>")
        archive.writestr("f/README", "skipped")
    manifests = [
        manifest(tmp_path, "wiki", wiki, "text", "{split: wikitext}"),
        manifest(tmp_path, "lines", lines, "text", "{split: lines}"),
        manifest(tmp_path, "records", records, "jsonl"),
        manifest(tmp_path, "zipped", tmp_path / "z.zip", "zip_text"),
    ]
    artifact = run_stage(STAGE, IngestConfig(manifests=[str(path) for path in manifests]), store).artifact
    documents = {row["url"]: row for row in read_rows(artifact)}
    assert list(documents) == [
        "file:wiki.txt#1",
        "file:wiki.txt#2",
        "file:lines.txt#1",
        "file:lines.txt#2",
        "file:r.jsonl#1",
        "file:z.zip#f/a.txt",
        "file:z.zip#f/b.xml",
    ]
    assert documents["file:wiki.txt#1"]["text"] == f"First\n\n{SENTENCE.strip()}\nPart\nIt was a well-known 1,000."
    assert documents["file:z.zip#f/b.xml"]["text"] == f"Act & {SENTENCE.strip()}"
    assert documents["file:lines.txt#2"]["source"] == "lines"
    failed = [row for row in read_rows(artifact, "decisions") if row["failed"]]
    assert [row["detail"].split(":")[0] for row in failed] == ["r.jsonl @ 2", "r.jsonl @ 3"]


def test_wrong_input_is_the_users(tmp_path: Path, store: Store) -> None:
    empty = write(tmp_path / "empty.warc.gz", b"")
    with pytest.raises(UserError, match=r"crawl is empty.*empty\.warc\.gz"):
        ingest(store, [empty])
    with pytest.raises(UserError, match="nothing to read"):
        ingest(store, [])
    with pytest.raises(UserError, match=r"ingest\.blocklist"):
        ingest(store, [empty], blocklist=str(tmp_path / "none"))
    other = manifest(tmp_path, "other", empty, "parquet")
    with pytest.raises(UserError, match="other: format 'parquet'"):
        run_stage(STAGE, IngestConfig(manifests=[str(other)]), store)
    with pytest.raises(ValueError, match="ISO 639-1"):
        IngestConfig(languages=["English"])
    assert not list((tmp_path / "store").glob("ingest/*/manifest.json"))


REAL = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(":") if part]


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="CRAWL2CHAT_MIRROR names no folder of public data")
def test_real_crawls_lose_no_record(store: Store) -> None:
    """On whole archives of others, the rows are exactly the records that warcio counts."""
    files = sorted(path for root in REAL for path in root.rglob("crawl/*.warc.gz") if path.stat().st_size < 10**6)
    if not files:
        pytest.skip("no crawl/*.warc.gz in the mirror")
    counted: Counter[str] = Counter()
    for path in files:
        with path.open("rb") as stream:
            counted.update(record.rec_type for record in ArchiveIterator(stream))
    artifact = ingest(store, files)
    records = artifact.manifest.metrics["records"]
    for kind in ("response", "revisit", "resource", "request", "warcinfo", "metadata"):
        assert records.get(kind, 0) == counted[kind], kind
    assert artifact.manifest.counts.rows_in == sum(
        counted[k] for k in ("response", "revisit", "resource", "conversion")
    )
    assert artifact.manifest.counts.failed == 0
