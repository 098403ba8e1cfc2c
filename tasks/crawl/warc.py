"""Writing a crawl as WARC/1.1 (ISO 28500:2017), one gzip member a record, the same bytes for the same exchanges."""

from __future__ import annotations

import gzip
import hashlib
import io
import uuid
from pathlib import Path
from types import TracebackType

from fastwarc.warc import WarcRecord, WarcRecordType

from tasks.crawl.crawler import AGENT, Exchange

FORMAT = "WARC File Format 1.1"
CONFORMS_TO = "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"


class WarcFile:
    """A `.warc.gz` file: a warcinfo record (clause 6.2), then a response (6.3) and its request (6.4) a fetch.

    Args:
        date: WARC-Date of all records, as in clause 5.4.

    Record ids are version 5 UUIDs of URL, date and block, and gzip headers hold no time, so nothing in the file depends
    on when it was written but the date.
    """

    def __init__(self, path: Path, date: str) -> None:
        self.path = path
        self.date = date
        self._stream = path.open("wb")
        info = {
            "software": "crawl2chat",
            "format": FORMAT,
            "conformsTo": CONFORMS_TO,
            "robots": "obey",
            "http-header-user-agent": AGENT,
        }
        block = "".join(f"{name}: {value}\r\n" for name, value in info.items()).encode()
        headers = {"WARC-Filename": path.name, "Content-Type": "application/warc-fields"}
        self._info = self._write("warcinfo", path.name, block, headers, None)

    def add(self, exchange: Exchange) -> int:
        """Write a fetch; returns the offset of its response record in the file, in bytes."""
        offset = self._stream.tell()
        common = {
            "WARC-Target-URI": exchange.url,
            "WARC-IP-Address": "127.0.0.1",
            "WARC-Warcinfo-ID": f"<urn:{self._info}>",
        }
        response = self._write(
            "response",
            exchange.url,
            exchange.head + exchange.body,
            {**common, "Content-Type": "application/http; msgtype=response"},
            hashlib.sha1(exchange.body).digest(),
        )
        self._write(
            "request",
            exchange.url,
            exchange.request,
            {
                **common,
                "WARC-Concurrent-To": f"<urn:{response}>",
                "Content-Type": "application/http; msgtype=request",
            },
            hashlib.sha1(b"").digest(),
        )
        return offset

    def _write(self, kind: str, url: str, block: bytes, headers: dict[str, str], payload_sha1: bytes | None) -> str:
        name = f"{kind}\0{url}\0{self.date}\0{hashlib.sha256(block).hexdigest()}"
        urn = f"uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"
        record = WarcRecord()
        record.init_headers(record_type=getattr(WarcRecordType, kind), record_urn=urn.encode())
        record.set_bytes_content(block)
        record.headers["WARC-Date"] = self.date
        for header, value in headers.items():
            record.headers[header] = value
        plain = io.BytesIO()
        record.write(plain, checksum_data=True, payload_digest=payload_sha1)
        self._stream.write(gzip.compress(plain.getvalue(), 9, mtime=0))
        return urn

    def __enter__(self) -> WarcFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
