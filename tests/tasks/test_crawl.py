"""The crawl of the standard library's documentation: genuine WARC files, the same bytes on every run."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import time
import urllib.robotparser
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from pydantic import ValidationError

from artifacts.errors import RunError
from artifacts.store import Artifact, Store
from tasks.crawl import STAGE, CrawlConfig, process
from tasks.crawl.config import SKIP
from tasks.crawl.crawler import Crawler
from tasks.crawl.harvest import first_sentences
from tasks.crawl.server import is_skipped, robots
from tasks.crawl.stage import HOST
from tests.support import read_rows, run_stage

DATE = "2026-01-01T00:00:00Z"
SMALL = CrawlConfig(date=DATE, max_pages=14, max_instructions=60, delay=0)


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run_stage(STAGE, SMALL, Store(tmp_path_factory.mktemp("store"))).artifact


def test_two_crawls_are_the_same_bytes(crawled: Artifact, tmp_path: Path) -> None:
    again = run_stage(STAGE, SMALL, Store(tmp_path)).artifact
    assert again.manifest.content == crawled.manifest.content
    assert again.manifest.metrics == crawled.manifest.metrics
    assert crawled.manifest.metrics["modules_requests"] == 15  # robots.txt and 14 pages


def records(artifact: Artifact, part: str) -> list[Any]:
    with open(artifact.local() / "warc" / f"{part}.warc.gz", "rb") as stream:
        return [
            {
                "type": record.record_type,
                "offset": record.stream_pos,
                "headers": dict(record.headers),
                "intact": record.verify_block_digest(),
                "body": record.reader.read(),
            }
            for record in ArchiveIterator(stream, parse_http=False, record_types=WarcRecordType.any_type)
        ]


def test_the_warc_files_are_whole(crawled: Artifact) -> None:
    for part in ("modules", "topics"):
        found = records(crawled, part)
        kinds = [record["type"] for record in found]
        fetches = (len(found) - 1) // 2
        assert kinds == [WarcRecordType.warcinfo] + [WarcRecordType.response, WarcRecordType.request] * fetches
        assert {record["headers"]["WARC-Date"] for record in found} == {DATE}
        assert all(record["intact"] for record in found[1:])
        ids = [record["headers"]["WARC-Record-ID"] for record in found]
        assert len(set(ids)) == len(ids)
        for response, request in zip(found[1::2], found[2::2], strict=True):
            assert request["headers"]["WARC-Concurrent-To"] == response["headers"]["WARC-Record-ID"]
            assert request["headers"]["WARC-Target-URI"] == response["headers"]["WARC-Target-URI"]
            head, _, body = response["body"].partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head


def test_payload_digests_are_those_of_the_bodies(crawled: Artifact) -> None:
    with open(crawled.local() / "warc" / "modules.warc.gz", "rb") as stream:
        checked = [r.verify_payload_digest() for r in ArchiveIterator(stream, record_types=WarcRecordType.response)]
    assert checked == [True] * 15


def test_a_row_says_where_its_response_lies(crawled: Artifact) -> None:
    rows = read_rows(crawled)
    assert rows[0]["url"] == f"http://{HOST}/robots.txt"
    assert rows[1]["url"] == f"http://{HOST}/os.path.html"
    assert {row["warc_file"] for row in rows} == {"modules.warc.gz", "topics.warc.gz"}
    for row in rows:
        data = (crawled.local() / "warc" / row["warc_file"]).read_bytes()[row["warc_offset"] :]
        record = next(iter(ArchiveIterator(io.BytesIO(data), parse_http=True)))
        assert record.headers["WARC-Target-URI"] == row["url"]
        assert record.http_headers.status_code == row["status"]
        assert len(record.reader.read()) == row["bytes"]


def test_nothing_of_the_machine_is_in_the_pages(crawled: Artifact) -> None:
    text = b"".join(record["body"] for part in ("modules", "topics") for record in records(crawled, part))
    assert b"os.path" in text
    for leak in (sys.prefix, sys.base_prefix, str(Path.home()), str(Path.cwd())):
        if leak.count("/") > 1:
            assert leak.encode() not in text
    assert not re.search(rb"at(?: |&nbsp;)0x[0-9a-f]+", text)


def test_no_skipped_module_is_fetched(crawled: Artifact) -> None:
    names = [row["url"].rsplit("/", 1)[1].removesuffix(".html") for row in read_rows(crawled)]
    assert not [name for name in names if is_skipped(name, SKIP)]


def test_instructions_are_questions_with_their_answers(crawled: Artifact) -> None:
    lines = (crawled.local() / "instructions" / "docstrings.jsonl").read_text("utf8").splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == 60 == crawled.manifest.metrics["docstrings_instructions"]
    assert {frozenset(record) for record in found} == {frozenset({"instruction", "input", "output"})}
    assert len({record["output"] for record in found}) == 60
    assert [r for r in found if "os.path.join" in r["instruction"] and r["output"].startswith("Join two or more")]
    assert all(record["output"][-1] in ".!?" and "\n" not in record["output"] for record in found)


def test_gzip_members_hold_no_time(crawled: Artifact) -> None:
    data = (crawled.local() / "warc" / "topics.warc.gz").read_bytes()
    assert data[4:8] == b"\0\0\0\0"  # MTIME, RFC 1952
    assert gzip.decompress(data).startswith(b"WARC/1.1\r\n")


@pytest.mark.parametrize(
    ("docstring", "answer"),
    [
        ("Add two numbers.", None),  # three words say nothing
        ("Add two numbers and return the sum.", "Add two numbers and return the sum."),
        ("add(a, b) -> int\n\n    add two numbers, carefully\n", "Add two numbers, carefully."),
        ("add(a, b): Add the two numbers given.", "Add the two numbers given."),
        ("First of the sentences. Second of them. Third of them.", "First of the sentences. Second of them."),
        ("Takes an item\nand puts it\ninto the list:", "Takes an item and puts it into the list."),
        (">>> add(1, 2) # as in the session\n3", None),
        ("Initialize self.  See help(type(self)) for accurate signature.", None),
        ("x" * 400 + " y y y y y", None),
        (None, None),
    ],
)
def test_an_answer_is_the_first_prose_of_a_docstring(docstring: str | None, answer: str | None) -> None:
    assert first_sentences(docstring) == answer


def test_robots_txt_says_what_the_server_refuses() -> None:
    skip = ["this", "idlelib*", "encodings.*", "+encodings.cp125*"]
    assert is_skipped("this", skip) and not is_skipped("thisone", skip)
    assert is_skipped("idlelib.idle", skip) and is_skipped("venv.__main__", [])
    assert is_skipped("encodings.utf_8", skip) and not is_skipped("encodings.cp1252", skip)
    rules = urllib.robotparser.RobotFileParser()
    rules.parse(robots(skip).splitlines())
    for name in ("this", "idlelib.idle", "encodings.utf_8", "encodings.cp1252", "json", "thisone"):
        assert rules.can_fetch("crawl2chat", f"http://{HOST}/{name}.html") is not is_skipped(name, skip), name


def test_a_crawl_that_may_fetch_nothing_is_an_error(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"skip": ["*"]})
    with pytest.raises(RunError, match="nothing was there to crawl"):
        run_stage(STAGE, config, Store(tmp_path))
    assert Store(tmp_path).artifacts() == []


def test_a_server_that_does_not_come_up_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "command", lambda *given: [sys.executable, "-c", "raise SystemExit('no port left')"])
    with pytest.raises(RunError, match="did not come up: it ended with exit code 1: no port left"):
        run_stage(STAGE, SMALL, Store(tmp_path))


def test_a_crawl_that_takes_too_long_is_given_up() -> None:
    with process.serving("", SKIP) as port:
        crawler = Crawler(port, HOST, lambda path: True, 0, time.monotonic() - 1, 5)
        with pytest.raises(RunError, match=r"out of time at .*robots\.txt; raise crawl\.max_seconds"):
            list(crawler.crawl(["/index.html"]))
    with pytest.raises(RunError, match="broke off"):  # the server has ended with its block
        crawler.deadline = time.monotonic() + 5
        list(crawler.crawl(["/index.html"]))


def test_a_date_that_is_no_warc_date_is_refused() -> None:
    with pytest.raises(ValidationError, match="date"):
        CrawlConfig(date="1 January 2026")
