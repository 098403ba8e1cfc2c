"""What pages say about their own use: robots directives, reservations, licence links."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.store import Store
from tasks.ingest import STAGE, IngestConfig
from tasks.ingest.http import decode_body, parse_response
from tasks.ingest.page_rules import COLUMNS, PageRules, read_rules
from tasks.ingest.reader import Record, read_records
from tests.support import read_rows, run_stage
from tests.tasks.archives import SENTENCE, Archive

URL = "http://example.org/a/page.html"
BY = "https://creativecommons.org/licenses/by/4.0/"


def rules(head: str = "", body: str = "", **headers: str) -> PageRules:
    page = f"<!doctype html><html><head>{head}</head><body>{body}</body></html>".encode()
    return read_rules({name.replace("_", "-"): value for name, value in headers.items()}, page, True, URL)


@pytest.mark.parametrize(
    ("head", "robots", "refusal"),
    [
        ('<meta name="robots" content="index, follow, max-snippet:-1">', None, None),
        ('<meta name="robots" content="noindex,nofollow">', "nofollow, noindex", "noindex"),
        ("<META CONTENT='NOINDEX' NAME='ROBOTS'>", "noindex", "noindex"),
        ("<meta\nname = robots\n content=none />", "nofollow, noindex", "noindex"),
        ('<meta name="robots" content="noai, noimageai">', "noai, noimageai", "noai"),
        ('<meta name="robots" content="noimageai">', "noimageai", None),
        (
            '<meta name="robots" content="noarchive"><meta name="robots" content="noindex">',
            "noarchive, noindex",
            "noindex",
        ),
        ('<meta name="tdm-reservation" content="1">', "tdm-reservation", "noai"),
        ('<meta name="tdm-reservation" content="0">', None, None),
        ('<meta name="googlebot" content="noindex">', None, None),
        ('<meta name="description" content="robots: noindex">', None, None),
        ('<!-- <meta name="robots" content="noindex"> -->', None, None),
        ('<script>document.write(\'<meta name="robots" content="noindex">\')</script>', None, None),
        ('<script><!-- old\n f() </script><meta name="robots" content="noindex">', "noindex", "noindex"),
        ('<!-- never closed <meta name="robots" content="noindex">', None, None),
        ('<meta name="robots" content="noindex', None, None),
        ("", None, None),
    ],
)
def test_robots_meta(head: str, robots: str | None, refusal: str | None) -> None:
    found = rules(head)
    assert (found.robots, found.refusal) == (robots, refusal)


def test_a_meta_in_the_body_is_no_directive() -> None:
    assert rules(body='<pre><meta name="robots" content="noindex"></pre>').robots is None


@pytest.mark.parametrize(
    ("value", "robots"),
    [
        ("noindex", "noindex"),
        ("NoIndex , noArchive", "noarchive, noindex"),
        ("googlebot: noindex", None),
        ("googlebot: noindex, nofollow", None),
        ("noarchive, otherbot: noindex, nofollow", "noarchive"),
        ("max-snippet: 20, noai", "noai"),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noindex", "noindex"),
        ("all", None),
    ],
)
def test_robots_header(value: str, robots: str | None) -> None:
    assert rules(x_robots_tag=value).robots == robots


def test_headers_and_meta_count_together_and_headers_of_one_name_are_joined() -> None:
    block = (
        b"HTTP/1.1 200 OK\r\nX-Robots-Tag: noarchive\r\nX-Robots-Tag: googlebot: nofollow\r\nTDM-Reservation: 1\r\n"
        b'Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\n<meta name="robots" content="noindex">'
    )
    response = parse_response(block)
    assert response.headers["content-type"] == "text/html"
    found = read_rules(response.headers, response.body, True, URL)
    assert found.robots == "noarchive, noindex, tdm-reservation"
    # Plain text has headers, but no meta.
    assert read_rules(response.headers, response.body, False, URL).robots == "noarchive, tdm-reservation"


@pytest.mark.parametrize(
    ("body", "licence", "by"),
    [
        (f'<a rel="license" href="{BY}deed.de">CC</a>', BY, "rel"),
        ('<a href="//creativecommons.org/licenses/by/4.0/legalcode" rel="noopener license">CC</a>', BY, "rel"),
        ('<A HREF="http://www.creativecommons.org/licenses/BY/4.0" REL=license>CC</A>', BY, "rel"),
        ("<a rel='license' href='../terms?a=1&amp;b=2#x'>terms</a>", "http://example.org/terms?a=1&b=2", "rel"),
        (f'<a class="x" href="{BY}">photo by</a>', BY, "link"),
        (f'<a href="http://creativecommons.org/publicdomain/zero/1.0/"></a><a rel=license href={BY}></a>', BY, "rel"),
        (
            '<a href="https://creativecommons.org/licenses/by-sa/3.0/de/">a</a>'
            '<a href="https://creativecommons.org/licenses/by-sa/3.0/de/deed.de">a</a>'
            '<a href="https://creativecommons.org/publicdomain/mark/1.0/">b</a>',
            "https://creativecommons.org/licenses/by-sa/3.0/de/ https://creativecommons.org/publicdomain/mark/1.0/",
            "link",
        ),
        ('<a href="https://creativecommons.org/about/">about licenses</a>', None, None),
        (f'<a href="https://example.com/?u={BY}">no deed itself</a>', None, None),
        ('<a href="/driving-license.html">my license</a>', None, None),
        ('<a rel="license" href="javascript:show()">terms</a>', None, None),
        (f'<!-- <a rel="license" href="{BY}">CC</a> -->', None, None),
        (f'<textarea><a rel="license" href="{BY}">copy this</a></textarea>', None, None),
        (f"<p>{BY} rel=license</p>", None, None),
    ],
)
def test_licence_links(body: str, licence: str | None, by: str | None) -> None:
    found = rules(body=body)
    assert (found.licence, found.licence_by) == (licence, by)


def test_licences_of_head_and_header_and_at_most_five() -> None:
    assert rules(head=f'<link rel="license" href="{BY}">').licence == BY
    header = f'<https://example.org/style>; rel=preload, <{BY}>; rel="license"'
    assert (rules(link=header).licence, rules(link=header).licence_by) == (BY, "rel")
    many = "".join(f"<a rel=license href=/l/{number}></a>" for number in range(9))
    assert (rules(body=many).licence or "").split() == [f"http://example.org/l/{number}" for number in range(5)]


def test_a_utf16_page_is_read_too() -> None:
    page = "<meta name='robots' content='noindex'>".encode("utf-16")
    assert read_rules({}, page, True, URL).robots == "noindex"


PARTS = (
    '<meta name="robots" content="|noindex|">|<a rel="license" href="|//creativecommons.org/licenses/by/4.0/|<!--|-->|'
    "<script|</script>|<|>|\"|'|=| |<body|<textarea>|&#x|\xff|\0"
).split("|")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(PARTS),
        max_size=60,
    )
)
def test_any_bytes_have_an_answer(parts: list[str]) -> None:
    found = read_rules({}, "".join(parts).encode("latin-1"), True, URL)
    assert found.robots in (None, "noindex")
    for link in (found.licence or "").split():
        assert link.startswith(("http://", "https://"))


def archive() -> Archive:
    def text(head: str) -> bytes:
        return f"<html><head>{head}</head><body><p>{SENTENCE * 5}</p></body></html>".encode()

    tagged = [("Content-Type", "text/html"), ("X-Robots-Tag", "noai")]
    return (
        Archive()
        .add("http://example.org/free", text(f'<link rel=license href="{BY}">'))
        .add("http://example.org/hidden", text('<meta name="robots" content="noindex, nofollow">'))
        .add("http://example.org/notai", text(""), headers=tagged)
        .add("http://example.org/plain", text(""))
    )


@pytest.mark.parametrize(("robots", "kept"), [("record", 4), ("drop", 2)])
def test_directives_are_recorded_or_obeyed(tmp_path: Path, robots: str, kept: int) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(archive().data)
    config = IngestConfig.model_validate({"paths": [str(path)], "robots": robots})
    artifact = run_stage(STAGE, config, Store(str(tmp_path / "store"))).artifact
    documents = {row["url"].rpartition("/")[2]: row for row in read_rows(artifact)}
    assert len(documents) == kept
    assert tuple(documents["free"][name] for name in COLUMNS.names) == (None, BY, "rel")
    assert tuple(documents["plain"][name] for name in COLUMNS.names) == (None, None, None)
    fates = [(row["reason"], row["detail"]) for row in read_rows(artifact, "decisions")]
    if robots == "drop":
        assert fates[1:3] == [("noindex", "nofollow, noindex"), ("noai", "noai")]
    else:
        assert documents["hidden"]["robots"] == "nofollow, noindex"
        assert documents["notai"]["robots"] == "noai"


REAL = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(":") if part]


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="CRAWL2CHAT_MIRROR names no folder of public data")
def test_real_pages_agree_with_an_html_parser() -> None:
    """Every robots directive that a DOM shows in the head is found, and no other (one page in four of the archive)."""
    from resiliparse.parse.html import HTMLTree

    files = [path for root in REAL for path in root.rglob("trafilatura_eval_781.warc.gz")]
    if not files:
        pytest.skip("the mirror has no trafilatura_eval_781.warc.gz")
    counted: Counter[bool] = Counter()
    responses = [record for record in read_records(files[0], 1 << 25) if isinstance(record, Record) and record.block]
    for record in responses[::4]:
        response = parse_response(record.block or b"")
        body, _ = decode_body(response, 1 << 25)
        tree = HTMLTree.parse(body.decode("utf-8", "replace"))
        words: set[str] = set()
        for meta in tree.head.query_selector_all("meta[name]") if tree.head else []:
            if (meta.getattr("name") or "").lower() == "robots":
                words |= {word.strip().lower() for word in (meta.getattr("content") or "").split(",")}
        wanted = {"noindex", "noarchive", "nofollow", "noai"} & words
        found = {*(read_rules({}, body, True, URL).robots or "").split(", ")} & {
            "noindex",
            "noarchive",
            "nofollow",
            "noai",
        }
        assert found == wanted, record.headers["warc-target-uri"]
        counted[bool(found)] += 1
    assert counted[True] >= 5 and counted[False] >= 100
