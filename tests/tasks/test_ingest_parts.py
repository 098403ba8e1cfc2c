"""The parts of ingest: HTTP bodies, character encodings, text extraction, languages, URLs and blocklists."""

from __future__ import annotations

import gzip
import io
import re
import unicodedata
import zlib

import pytest
from fastwarc.stream_io import BrotliWriter
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest.complexity import TooComplex, nesting_depth
from tasks.ingest.config import IngestConfig
from tasks.ingest.extract import TextError, clean_text, decode_text
from tasks.ingest.extractors import extract_html
from tasks.ingest.http import BodyError, Response, dechunk, decode_body, parse_response
from tasks.ingest.judge import Judge
from tasks.ingest.language import identify
from tasks.ingest.reader import Record
from tasks.ingest.text_sources import detokenise
from tasks.ingest.urls import Blocklist, canonical_url
from tests.tasks.archives import SENTENCE, page


def brotli(data: bytes) -> bytes:
    buffer = io.BytesIO()
    writer = BrotliWriter(buffer)
    writer.write(data)
    writer.close()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(page(1))),
        ("deflate", zlib.compress(page(1))),
        ("deflate", zlib.compress(page(1))[2:-4]),
        ("br", brotli(page(1))),
        ("gzip, br", brotli(gzip.compress(page(1)))),
        ("identity", page(1)),
        ("gzip", page(1)),
        ("br", page(1)),
        ("x-unknown", page(1)),
    ],
)
@pytest.mark.parametrize("chunked", [True, False])
def test_codings_are_undone(coding: str, body: bytes, chunked: bool) -> None:
    headers = {"content-encoding": coding}
    if chunked:
        headers["transfer-encoding"] = "chunked"
        pieces = [body[at : at + 99] for at in range(0, len(body), 99)]
        body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert decode_body(Response(200, headers, body), 10_000)[0] == page(1)


def test_codings_that_break_off_or_explode() -> None:
    cut, note = decode_body(Response(200, {"content-encoding": "gzip"}, gzip.compress(page(1))[:-9]), 10_000)
    assert page(1).startswith(cut) and len(cut) > 50
    assert note == "gzip body breaks off"
    for coding, data in (("gzip", gzip.compress(bytes(10**6))), ("br", brotli(bytes(10**6)))):
        with pytest.raises(BodyError) as caught:
            decode_body(Response(200, {"content-encoding": coding}, data), 10_000)
        assert caught.value.too_large
    assert dechunk(b"5\r\nhello\r\n3\r\nab") == b"helloab"
    assert dechunk(b"<html>plain</html>") is None


def test_response_heads_are_read_leniently() -> None:
    response = parse_response(b"HTTP/1.1 200 OK\nContent-Type: text/html;\n  charset=utf-8\nbroken\n\nbody\n\nmore")
    assert response == Response(200, {"content-type": "text/html; charset=utf-8"}, b"body\n\nmore")
    assert parse_response(b"no head at all").status is None


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Example.ORG:80", "http://example.org/"),
        ("https://example.org:443/a/./b/../c#part", "https://example.org/a/c"),
        ("http://example.org:8080/%7euser/%c3%a9?b=2&a=1", "http://example.org:8080/~user/%C3%A9?b=2&a=1"),
        ("http://example.org/ü b", "http://example.org/%C3%BC%20b"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.org/?", "http://example.org/?"),
        ("http://example.org/a/..", "http://example.org/"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]/x"),
        ("<http://example.org/a%zz>", "http://example.org/a%25zz"),
        ("file:wiki.txt#3", "file:wiki.txt#3"),
        ("http://[broken/", "http://[broken/"),
    ],
)
def test_canonical_urls(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


def test_blocklist_entries() -> None:
    listed = Blocklist(["", "# all", "example.org", "http://other.example/A", "third.example/b", "f" * 32])
    assert len(listed) == 4
    assert listed.match("http://www.example.org/x", "0" * 32) == "host example.org"
    assert listed.match("http://notexample.org/x", "0" * 32) is None
    assert listed.match("http://other.example/A", "0" * 32) == "url"
    assert listed.match("http://other.example/B", "0" * 32) is None
    assert listed.match("https://third.example/b", "0" * 32) == "url"
    assert listed.match("http://x.example/", "f" * 32) == "doc_id"


def test_character_encodings() -> None:
    german = "Die Größe der Straße überrascht manche Gäste aus dem Süden. " * 9
    chinese = "中文网页的编码经常与声明的不同,因此需要检测。" * 20
    assert decode_text(german.encode("cp1252"), "iso-8859-1", True) == (german, "cp1252")
    assert decode_text(german.encode(), None, False) == (german, "utf-8")
    # A wrong label does not win against bytes that it cannot decode.
    assert decode_text(chinese.encode("gb18030"), "utf-8", True)[0] == chinese
    assert decode_text(f"<meta charset=gbk>{chinese}".encode("gbk"), None, True) == (
        f"<meta charset=gbk>{chinese}",
        "gbk",
    )
    assert decode_text(b"\xff\xfe" + german.encode("utf-16-le"), "utf-8", True) == (german, "utf-16-le")
    with pytest.raises(TextError):
        decode_text(bytes(range(256)) * 20, None, False)


def test_clean_text() -> None:
    assert clean_text("e\u0301\r\nb\x00\x07\ud800 \n\n\n\n\n\nc\ufeff\u2028d\u00a0e\t") == "é\nb\n\n\nc\nd e"


def test_clean_text_takes_linear_time() -> None:
    # What was quadratic would run for hours here.
    wide = "a" + " " * 1_000_000 + "b"
    assert clean_text(wide + " " * 1_000_000) == wide
    marks = "\u0301\u0316" * 100_000
    cleaned = clean_text(f"x{marks}")
    assert cleaned.count("\u034f") == 200_000 // 30
    assert sorted(cleaned.replace("\u034f", "")) == sorted(f"x{marks}")


@pytest.mark.parametrize(("marks", "pieces"), [(30, [31]), (31, [31, 1]), (60, [31, 30]), (61, [31, 30, 1])])
def test_a_joiner_stands_behind_every_30_combining_characters(marks: int, pieces: list[int]) -> None:
    found = clean_text("x" + "\u0316" * marks + "\u4e2d" * 40).rstrip("\u4e2d")
    assert [len(piece) for piece in found.split("\u034f")] == pieces


@given(st.text(st.sampled_from("a \t\n\r\x0b\x0c\x1c\x1f\x85\u2028\u2029\xa0\u202f\ufeff\u3000\u0301\ud800\0\u2001")))
def test_clean_text_is_what_its_rules_say(text: str) -> None:
    expected = re.sub("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "\n", text)
    expected = re.sub("[\x00-\x08\x0b-\x1f\ud800\ufeff]", "", expected)
    expected = unicodedata.normalize("NFC", re.sub("[\xa0\u202f]", " ", expected))
    expected = re.sub(r"[^\S\n]+(?=\n|\Z)", "", expected)
    assert clean_text(text) == re.sub("\n{4,}", "\n\n\n", expected).strip()


def test_main_content_falls_back_and_depth_is_bounded() -> None:
    nav = "<nav>" + "".join(f"<a href=/{n}>Link number {n} of the list</a> " for n in range(60)) + "</nav>"
    assert extract_html(f"<html><body>{nav}</body></html>", True, []).count("Link number") == 60
    kept = extract_html(f"<html><body>{nav}<main><p>{SENTENCE * 9}</p></main></body></html>", True, [])
    assert "Link number" not in kept and SENTENCE.strip() in kept
    assert nesting_depth("<div><p><p><b></b></div>" * 9) == 2
    with pytest.raises(TooComplex, match="20000 deep"):
        extract_html("<div>" * 20_000, True, [])


@pytest.mark.parametrize(
    ("html", "reason", "score", "threshold"),
    [
        ("<table>" + ("<tr>" + "<td>1" * 1_000) * 1_000 + "</table>", "too_complex", 1_001_001, 200_000),
        ("<p>x</p>" * 1_000_000, "too_complex", 1_000_000, 200_000),
        ("<div>" * 200_000, "too_complex", 200_000, 2_000),
        ("<p " + "a " * 1_000_000 + ">", "too_complex", 1_000_000, 3_000),
        (f"<p title='{'x ' * 2_000_000}'>{SENTENCE}", "kept", None, None),
        (f"<pre>{SENTENCE}{' ' * 4_000_000}{SENTENCE}</pre>", "kept", None, None),
        ("<!--" + "x--" * 1_000_000, "no_text", None, None),
    ],
    ids=["cells", "siblings", "nested", "attributes", "attribute", "spaces", "comment"],
)
def test_a_bomb_is_a_decision(html: str, reason: str, score: float | None, threshold: float | None) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + html.encode()
    judge = Judge(IngestConfig(), Blocklist([]), "made.warc", "crawl")
    row = judge.record(Record(0, "response", {"warc-target-uri": "http://example.org/"}, len(block), block))
    assert row is not None
    judge.settle([row])
    assert (row["reason"], row.get("score"), row.get("threshold")) == (reason, score, threshold)
    assert row["kept"] == (reason == "kept") == (row["text"] is not None)


def test_languages_by_code_and_probability() -> None:
    assert identify("这是一个关于天气和城市生活的中文句子,没有什么特别的意思。")[0] == "zh"
    assert identify("Der Zug nach München fährt heute leider erst um halb neun ab.")[0] == "de"
    language, score = identify(SENTENCE)
    assert language == "en" and 0.9 < score <= 1
    assert identify("123 456 ...") == ("und", 0.0)


def test_detokenise() -> None:
    assert detokenise('He said , " It \'s a well @-@ known ( and old ) song " .') == (
        'He said, "It\'s a well-known (and old) song".'
    )
