"""HTTP responses as archives hold them: head, body, and the body without its codings.

The grammar is RFC 9112 (head, chunked) and RFC 9110 section 8.4 (content codings), read leniently: archives hold what
servers sent. fastwarc's parser wants CRLF and rejects chunk extensions, so the head and the chunks are read here; what
archives say is often no longer true of the bytes they hold (Common Crawl and others store decoded bodies under the
original headers), so a coding that the body plainly does not have is passed over.
"""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass

from fastwarc.stream_io import BrotliReader, ZstdReader

from tasks.ingest.headers import parse_fields

MAX_HEAD = 1 << 18  # of an HTTP head; servers refuse far shorter ones
_SLICE = 1 << 12

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?!\d)")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?\r?\n")


class BodyError(Exception):
    """The body cannot be decoded. `too_large` when its decoded form is above the limit."""

    def __init__(self, message: str, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


@dataclass(frozen=True)
class Response:
    """A response as it was sent: `status` is None where there is no status line; header names in lower case."""

    status: int | None
    headers: dict[str, str]
    body: bytes


def parse_response(block: bytes) -> Response:
    """Head and body of a record block. Never fails: bytes without an HTTP head are all body."""
    status = _STATUS.match(block)
    if status is None:
        return Response(None, {}, block)
    found = _HEAD_END.search(block)
    head, body = (block[: found.start()], block[found.end() :]) if found else (block, b"")
    return Response(int(status[1]), parse_fields(head[:MAX_HEAD]), body)


def media_type(value: str | None) -> str:
    """`text/html` of `Text/HTML; charset=x`; empty where there is none."""
    return (value or "").partition(";")[0].partition(",")[0].strip().lower()


def charset_parameter(value: str | None) -> str | None:
    """The charset that a Content-Type names, as spelt there."""
    found = re.search(r"charset\s*=\s*[\"']?\s*([^\s;\"',]+)", (value or "")[:1_000], re.IGNORECASE)
    return found[1] if found else None


def dechunk(body: bytes) -> bytes | None:
    """A chunked body's content (RFC 9112 section 7.1), as far as it goes; None if the body is not chunked at all."""
    content: list[bytes] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        start = found.end()
        if size == 0:
            return b"".join(content)
        content.append(body[start : start + size])
        at = start + size
        if at >= len(body):
            return b"".join(content)
        at += 2 if body[at : at + 2] == b"\r\n" else 1 if body[at : at + 1] == b"\n" else 0
    # One number at the head of a plain text is no chunk: the line end behind its chunk is missing.
    return b"".join(content) if len(content) > 1 else None


def decode_body(response: Response, limit: int) -> tuple[bytes, str]:
    """(the body without transfer and content codings, a note on what was wrong with them or "").

    A coded body that breaks off gives what could be decoded.

    Raises:
        BodyError: the coding is unknown, nothing could be decoded, or the result is above `limit` bytes.
    """
    body, notes = response.body, []
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        content = dechunk(body)
        if content is None:
            notes.append("not chunked as stated")
        else:
            body = content
    codings = [part.strip().lower() for part in response.headers.get("content-encoding", "").split(",")]
    # Two codings are rare, more are an attack; each is undone under the same limit.
    for coding in list(reversed(codings))[:3]:
        if coding in ("", "identity", "none", "utf-8") or not body:
            continue
        body, note = _undo(coding, body, limit)
        if note:
            notes.append(note)
    if len(body) > limit:
        raise BodyError(f"{len(body)} bytes", too_large=True)
    return body, "; ".join(notes)


def _undo(coding: str, body: bytes, limit: int) -> tuple[bytes, str]:
    if coding in ("gzip", "x-gzip", "deflate"):
        return _inflate(coding, body, limit)
    if coding in ("br", "zstd"):
        return _read(coding, body, limit)
    if _is_text(body):
        return body, f"content-encoding {coding[:20]!r} not applied"
    raise BodyError(f"unknown content-encoding {coding[:20]!r}")


def _inflate(coding: str, body: bytes, limit: int) -> tuple[bytes, str]:
    """gzip (all members), zlib or, as some servers send it for `deflate`, the raw stream."""
    if coding != "deflate" and not body.startswith(b"\x1f\x8b"):
        if _is_text(body):
            return body, f"not {coding} as stated"
        raise BodyError(f"not {coding} as stated")
    for bits in (47, -15):
        content, note = _inflate_members(coding, body, bits, limit)
        if content:
            return content, note
    if not note:
        return b"", ""
    if _is_text(body):
        return body, f"not {coding} as stated"
    raise BodyError(note)


def _inflate_members(coding: str, body: bytes, bits: int, limit: int) -> tuple[bytes, str]:
    """All members of a body, fed in slices: zlib copies what lies behind a member, and there may be a million."""
    content = bytearray()
    inner, at, step = zlib.decompressobj(bits), 0, _SLICE
    while at < len(body):
        piece = body[at : at + step]
        try:
            content += inner.decompress(piece, limit + 1 - len(content))
        except zlib.error as error:
            return bytes(content), str(error)
        if len(content) > limit:
            raise BodyError(f"more than {limit} bytes when decoded", too_large=True)
        at += len(piece) - len(inner.unused_data) - len(inner.unconsumed_tail)
        step *= 2
        if inner.eof:
            if body[at : at + 2] != b"\x1f\x8b":
                return bytes(content), ""
            inner, step = zlib.decompressobj(bits), _SLICE
    return bytes(content), "" if inner.eof else f"{coding} body breaks off"


def _read(coding: str, body: bytes, limit: int) -> tuple[bytes, str]:
    """Brotli and Zstandard, by fastwarc's bounded readers."""
    content, note = b"", ""
    try:
        reader = (BrotliReader if coding == "br" else ZstdReader)(io.BytesIO(body))
        while len(content) <= limit and (piece := reader.read(min(1 << 16, limit + 1 - len(content)))):
            content += piece
    except OSError as error:
        note = f"{coding}: {error}"
    if len(content) > limit:
        raise BodyError(f"more than {limit} bytes when decoded", too_large=True)
    if content or not note:
        return content, note
    if _is_text(body):
        return body, f"not {coding} as stated"
    raise BodyError(note)


def _is_text(body: bytes) -> bool:
    """Whether the bytes can be a page as they stand: no NUL and hardly a control character in the first 2 KiB."""
    head = body[:2048]
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return b"\0" not in head and control * 50 <= len(head)
