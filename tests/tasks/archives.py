"""Small archives that tests make for themselves: WARC by warcio, ARC by hand."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

DATE = "2026-01-02T03:04:05Z"
SENTENCE = "The quick brown fox jumps over the lazy dog while the farmer watches from the other side of the field. "


def page(number: int, times: int = 6) -> bytes:
    """An English HTML page of its own."""
    text = SENTENCE * times
    return f"<html><head><title>Page {number}</title></head><body><p>Page {number}. {text}</p></body></html>".encode()


class Archive:
    """Writes records and remembers where each began."""

    def __init__(self, gzip: bool = True) -> None:
        self.buffer = io.BytesIO()
        self._writer = WARCWriter(self.buffer, gzip=gzip)
        self.offsets: list[int] = []

    def add(
        self,
        url: str,
        body: bytes,
        kind: str = "response",
        status: str = "200 OK",
        headers: Iterable[tuple[str, str]] = (("Content-Type", "text/html; charset=utf-8"),),
        warc: dict[str, str] | None = None,
        **keywords: Any,
    ) -> Archive:
        http = StatusAndHeaders(status, list(headers), protocol="HTTP/1.1") if kind in ("response", "revisit") else None
        # A made-up id instead of a random one: equal archives must be equal bytes.
        number = len(self.offsets)
        fields = {"WARC-Date": DATE, "WARC-Record-ID": f"<urn:uuid:{number:032d}>", **(warc or {})}
        record = self._writer.create_warc_record(
            url, kind, payload=io.BytesIO(body), http_headers=http, warc_headers_dict=fields, **keywords
        )
        self.offsets.append(self.buffer.tell())
        self._writer.write_record(record)
        return self

    @property
    def data(self) -> bytes:
        return self.buffer.getvalue()


def arc_record(url: str, content_type: str, block: bytes, date: str = "20260102030405") -> bytes:
    """A version 1 ARC record."""
    return f"{url} 192.0.2.1 {date} {content_type} {len(block)}\n".encode() + block + b"\n"


def arc_file(*records: bytes) -> bytes:
    """An ARC file of version 1 with its `filedesc` record."""
    about = b"1 0 Test\nURL IP-address Archive-date Content-type Archive-length\n"
    return b"".join([arc_record("filedesc://made.arc", "text/plain", about), *records])
