"""Small genuine WARC files for tests of whole pipelines."""

from __future__ import annotations

import io
import random
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

CRAWL = "river stone market window letter harbor engine garden summer winter village road bridge paper music".split()
CURATED = "theorem measure integral function limit series proof lemma vector matrix kernel operator norm basis".split()


def write_warc(path: Path, words: list[str], pages: int, seed: int, host: str) -> None:
    """Pages of made-up sentences; every tenth repeats the one before it with one word changed."""
    chance = random.Random(seed)
    text = ""
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number in range(pages):
            if number % 10 or not text:
                sentences = [" ".join(chance.choices(words, k=12)).capitalize() + "." for _ in range(30)]
                text = " ".join(f"The {sentence} It is on page {number}." for sentence in sentences)
            else:
                text = text.replace("The", "A", 1)
            body = f"<html><head><title>p</title></head><body><p>{text}</p></body></html>".encode()
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
            record = writer.create_warc_record(
                f"http://{host}/{number}.html",
                "response",
                payload=io.BytesIO(body),
                http_headers=headers,
                warc_headers_dict={"WARC-Date": "2026-01-01T00:00:00Z"},
            )
            writer.write_record(record)
