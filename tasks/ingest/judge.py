"""What becomes of one record: a document, or a decision that says why not."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tasks.ingest.complexity import TooComplex
from tasks.ingest.config import IngestConfig
from tasks.ingest.extract import HTML_TYPES, TEXT_TYPES, UTF8_MARK, TextError, clean_text, decode_text, sniff_type
from tasks.ingest.extractors import Page
from tasks.ingest.headers import revisited
from tasks.ingest.http import BodyError, Response, charset_parameter, decode_body, media_type, parse_response
from tasks.ingest.language import identify
from tasks.ingest.page_rules import read_rules
from tasks.ingest.reader import Damage, Record
from tasks.ingest.text_sources import BadText, TextItem
from tasks.ingest.urls import Blocklist, canonical_url, strip_uri

# What counts as a row; request, metadata, warcinfo and all else are tallied only.
COUNTED = frozenset({"response", "revisit", "resource", "conversion"})
_KNOWN = COUNTED | {"request", "metadata", "warcinfo", "continuation"}
_URL_SAFE = str.maketrans("-_", "+/")
_WEB_SCHEMES = ("http:", "https:", "ftp:", "file:")

Row = dict[str, Any]


class Dropped(Exception):
    """The record becomes no document."""

    def __init__(
        self, reason: str, detail: str = "", score: float | None = None, threshold: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.score, self.threshold = reason, detail, score, threshold


def payload_digest(payload: bytes) -> str:
    """`sha1:` and the base32 SHA-1 of the payload, as WARC-Payload-Digest spells it (ISO 28500 section 5.9)."""
    return "sha1:" + base64.b32encode(hashlib.sha1(payload, usedforsecurity=False).digest()).decode()


def document_id(url: str, date: str, digest: str) -> str:
    """The doc_id: 32 hex digits of BLAKE2b-128 over canonical URL, WARC-Date and payload digest, a line each."""
    data = "\n".join((url, date, digest)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass
class Judge:
    """Turns what a reader yields into rows: the columns of DOCUMENTS and DECISIONS together, `text` None if dropped.

    A row that is `kept` is a document only once `settle` has been at it.

    Attributes:
        tallies: for the metrics: records by type, payload digests by state, documents by language, and others.
    """

    config: IngestConfig
    blocklist: Blocklist
    file: str
    source: str
    tallies: dict[str, Counter[str]] = field(default_factory=dict)
    _failures: int = 0

    def tally(self, name: str, key: str) -> None:
        self.tallies.setdefault(name, Counter())[key] += 1

    def record(self, record: Record) -> Row | None:
        """The row of a WARC or ARC record; None for types that are tallied only."""
        self.tally("records", record.kind if record.kind in _KNOWN else "unknown")
        if record.kind not in COUNTED:
            return None
        url = strip_uri(record.headers.get("warc-target-uri", ""))
        row = self._row(url, record.headers.get("warc-date", ""), record.offset)
        response = self._response(record)
        note = self._identify(row, record, response)
        try:
            self._admit(row)
            if record.kind == "revisit":
                raise Dropped("revisit", revisited(record.headers))
            if record.block is None:
                raise Dropped("too_large", f"{record.length} bytes", record.length, self.config.max_record_bytes)
            self._content(row, record, response)
            row.update(kept=True, reason="kept", detail=note or None)
        except Dropped as dropped:
            self._drop(row, dropped)
        return row

    def text(self, item: TextItem) -> Row:
        """The row of a document that stands in a text source."""
        self.tally("records", "text")
        row = self._row(item.url, item.date, item.offset)
        digest = payload_digest(item.text.encode("utf-8", "surrogatepass"))
        row["doc_id"] = document_id(canonical_url(item.url), item.date, digest)
        row.update(content_type="text/plain", charset=item.charset)
        try:
            self._admit(row)
            row.update(text=item.text, kept=True, reason="kept", detail=None)
        except Dropped as dropped:
            self._drop(row, dropped)
        return row

    def damage(self, item: Damage) -> Row:
        """The row of a region that could not be read."""
        self.tally("records", "damaged")
        # Inside one compressed frame both ends of a region have the frame's offset.
        end = f" (up to {item.end})" if item.end > item.offset else ""
        return self._failed("", item.offset, item.reason, item.what + end)

    def bad_text(self, item: BadText) -> Row:
        """The row of a text source's document that could not be read."""
        self.tally("records", "text" if item.reason == "too_large" else "damaged")
        row = self._failed(item.url, item.offset, item.reason, item.what)
        row["failed"] = item.reason != "too_large"
        return row

    def _failed(self, url: str, offset: int, reason: str, what: str) -> Row:
        row = self._row(url, "", offset)
        self._failures += 1
        row["doc_id"] = document_id(f"{self.file}@{offset}", str(self._failures), what)
        row.update(failed=True, reason=reason, detail=f"{self.file} @ {offset}: {what}")
        return row

    def _row(self, url: str, date: str, offset: int) -> Row:
        return {
            "url": url,
            "date": date,
            "source": self.source,
            "warc_file": self.file,
            "warc_offset": offset,
            "kept": False,
            "failed": False,
        }

    def _response(self, record: Record) -> Response:
        """The record's payload as an HTTP response; resource and conversion records are all body."""
        stated = record.headers.get("content-type")
        block = record.block or b""
        if record.kind in ("response", "revisit") and (block.startswith(b"HTTP/") or not block):
            return parse_response(block)
        return Response(None, {"content-type": record.headers.get("arc-content-type") or stated or ""}, block)

    def _identify(self, row: Row, record: Record, response: Response) -> str:
        """Fill doc_id; returns a note where a stated digest is not that of the payload or of the block."""
        stated = "".join(record.headers.get("warc-payload-digest", "").split())
        note = self._check_block(record)
        # A revisit states the digest of a payload that it does not hold; a cut-off payload has another one by right.
        whole = record.block is not None and record.kind != "revisit" and "warc-truncated" not in record.headers
        if not stated:
            state = "absent"
            stated = payload_digest(response.body)
        elif not whole:
            state = "unchecked"
            if "warc-truncated" in record.headers:
                truncated = f"WARC-Truncated: {record.headers['warc-truncated'][:40]}"
                note = f"{truncated}; {note}" if note else truncated
        elif not stated.lower().startswith("sha1:"):
            state = "other_algorithm"
        elif _is_digest(stated, response.body) or _is_digest(stated, _without_chunks(response)):
            state = "right"
        else:
            state = "wrong"
            note = f"the payload digest is {payload_digest(response.body)}, stated is {stated}"
        self.tally("payload_digests", state)
        row["doc_id"] = document_id(canonical_url(row["url"]), row["date"], stated)
        return note

    def _check_block(self, record: Record) -> str:
        """A note where the stated digest of a record's block, HTTP head and all, is another one."""
        stated = "".join(record.headers.get("warc-block-digest", "").split())
        note = ""
        if not stated:
            state = "absent"
        elif record.block is None:
            state = "unchecked"
        elif not stated.lower().startswith("sha1:"):
            state = "other_algorithm"
        elif _is_digest(stated, record.block):
            state = "right"
        else:
            state = "wrong"
            note = f"the block digest is {payload_digest(record.block)}, stated is {stated}"
        self.tally("block_digests", state)
        return note

    def _admit(self, row: Row) -> None:
        found = self.blocklist.match(canonical_url(row["url"]), row["doc_id"])
        if found:
            raise Dropped("blocklist", found)

    def _content(self, row: Row, record: Record, response: Response) -> None:
        """Fill text, content_type and charset. Raises `Dropped`."""
        if record.kind == "response" and response.status is not None and response.status != 200:
            raise Dropped("http_status", str(response.status))
        if "warc-segment-number" in record.headers:
            raise Dropped("segmented", f"segment {record.headers['warc-segment-number'][:20]}")
        stated = response.headers.get("content-type")
        kind = media_type(stated)
        row["content_type"] = kind or None
        if kind and kind not in TEXT_TYPES:
            raise Dropped("not_html", kind[:100])
        if record.kind == "resource" and not row["url"].lower().startswith(_WEB_SCHEMES):
            raise Dropped("not_web", row["url"].partition(":")[0][:40])
        if canonical_url(row["url"]).partition("://")[2].partition("/")[2] == "robots.txt":
            raise Dropped("robots_txt")
        if not response.body:
            raise Dropped("empty_payload")
        try:
            body, note = decode_body(response, self.config.max_record_bytes)
        except BodyError as error:
            limit = self.config.max_record_bytes if error.too_large else None
            raise Dropped("too_large" if error.too_large else "undecodable", str(error), None, limit) from error
        if note:
            self.tally("body_notes", note)
        if not body.strip():
            raise Dropped("empty_payload", "white space only" if body else note)
        if not kind:
            kind = row["content_type"] = sniff_type(body)
            if kind not in TEXT_TYPES:
                raise Dropped("not_html", f"{kind} (by its content)")
        rules = read_rules(response.headers, body, kind in HTML_TYPES, row["url"])
        row.update(rules.columns)
        if rules.refusal and self.config.robots == "drop":
            raise Dropped(rules.refusal, rules.robots or "")
        self._to_text(row, body, charset_parameter(stated), kind in HTML_TYPES)

    def _to_text(self, row: Row, body: bytes, charset: str | None, html: bool) -> None:
        try:
            text, row["charset"] = decode_text(body, charset, html)
        except TextError as error:
            raise Dropped("undecodable", str(error)) from error
        row["text"] = text
        if html:
            config = self.config
            same = row["charset"] == "utf-8" and body[:3] != UTF8_MARK and "\ufffd" not in text
            encoded = body if same else None  # spares the text's encoding
            row["text"] = Page(text, config.main_content, config.skip_elements, config.extractor, encoded)

    def settle(self, rows: list[Row]) -> None:
        """Fill text, lang and lang_score of the documents among `rows`; those that are none after all are dropped.

        Each step is taken for many rows at a time: what it needs of the processor's cache, with the language model's
        85 MB, was then used just before, and not thrown out by another page's tree.
        """
        for step in (_check, _parse, _finish, self._clean, self._name_language):
            for row in rows:
                if row["kept"]:
                    try:
                        step(row)
                        continue
                    except Dropped as error:
                        dropped = error
                    except TooComplex as error:
                        dropped = Dropped("too_complex", str(error), error.value, error.limit)
                    except TextError as error:
                        dropped = Dropped("undecodable", str(error))
                    row["kept"] = False
                    self._drop(row, dropped)

    def _clean(self, row: Row) -> None:
        text = row["text"] = clean_text(row["text"])
        if not text:
            raise Dropped("no_text")
        if len(text) < self.config.min_chars:
            raise Dropped("too_short", f"{len(text)} characters", len(text), self.config.min_chars)

    def _name_language(self, row: Row) -> None:
        lang, score = row["lang"], row["lang_score"] = identify(row["text"])
        languages = self.config.languages
        if languages and lang not in languages:
            raise Dropped("lang", lang, score, self.config.min_lang_score)
        if score < self.config.min_lang_score:
            raise Dropped("lang", f"{lang}, too unsure", score, self.config.min_lang_score)
        self.tally("languages", lang)

    @staticmethod
    def _drop(row: Row, dropped: Dropped) -> None:
        row.update(
            text=None,
            reason=dropped.reason,
            detail=dropped.detail or None,
            score=None if dropped.score is None else float(dropped.score),
            threshold=None if dropped.threshold is None else float(dropped.threshold),
        )


def _check(row: Row) -> None:
    if isinstance(row["text"], Page):
        row["text"].check()


def _parse(row: Row) -> None:
    if isinstance(row["text"], Page):
        row["text"].parse()


def _finish(row: Row) -> None:
    if isinstance(row["text"], Page):
        row["text"] = row["text"].text()


def _is_digest(stated: str, data: bytes | None) -> bool:
    """Whether a stated SHA-1 is that of `data`: base32, as most write it, hex or base64."""
    if data is None:
        return False
    value = stated.partition(":")[2]
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return (
        value.upper() == base64.b32encode(digest).decode()
        or value.lower() == digest.hex()
        or value.translate(_URL_SAFE) == base64.b64encode(digest).decode()
    )


def _without_chunks(response: Response) -> bytes | None:
    """The body without its transfer coding, of which some writers state the digest; None without such a coding."""
    if "chunked" not in response.headers.get("transfer-encoding", "").lower():
        return None
    return decode_body(Response(None, {"transfer-encoding": "chunked"}, response.body), 1 << 62)[0]
