"""Around the extraction of a text: a page's character encoding, and a text's normal form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from resiliparse.parse.encoding import detect_encoding, detect_mime, map_encoding_to_html5

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPES = HTML_TYPES | {"text/plain"}

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HTML = re.compile(rb"<\s*(?:!doctype\s+html|html|head|body|title|meta|div|table|script)\b", re.IGNORECASE)
# Everything of Cc but tab and line feed, the two halves of surrogate pairs, noncharacters, and the BOM inside a text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# No-break spaces are typesetting; left in, they would make words that no other page has.
_FIXED_SPACES = re.compile("[\u00a0\u2007\u202f]")
_TRAILING = re.compile(r"[^\S\n]+(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{4,}")


class TextError(Exception):
    """The bytes are no text in any encoding tried, or no page that can be taken apart."""


def sniff_type(body: bytes) -> str:
    """The media type that a body without a Content-Type shows."""
    return "text/html" if _HTML.search(body[:2048]) else str(detect_mime(body[:65_536]))


def decode_text(body: bytes, stated: str | None, html: bool) -> tuple[str, str]:
    """(text, charset as Python and HTML5 call it).

    In order: byte order mark, the HTTP header, the page's `meta`, detection by content (resiliparse), UTF-8. The first
    under which at most one character in a thousand cannot be decoded is taken: labels are often wrong.

    Raises:
        TextError: under none; or the bytes are binary.
    """
    for mark, name in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace"), name
    if body[:4096].count(0) > len(body[:4096]) // 20:
        stated_wide = stated and stated.lower().startswith(("utf-16", "utf-32"))
        if not stated_wide:
            raise TextError("NUL bytes: this is no text")
    best: tuple[float, str, str] | None = None
    for name in _candidates(body, stated, html):
        try:
            text = body.decode(name, "replace")
        except (LookupError, UnicodeError):
            continue
        bad = text.count("\ufffd")
        if bad <= 1 + len(text) // 1000:
            return text, name
        share = bad / len(text)
        if best is None or share < best[0]:
            best = (share, text, name)
    if best is not None and best[0] <= 0.05:
        return best[1], best[2]
    raise TextError("no character encoding fits")


def _candidates(body: bytes, stated: str | None, html: bool) -> Iterator[str]:
    """The encodings to try, each once. Detection looks at every byte, so it waits until nothing else fits."""
    found: set[str | None] = {None}
    for detect in _detectors(body, stated, html):
        if (name := detect()) not in found:
            found.add(name)
            yield str(name)


def _detectors(body: bytes, stated: str | None, html: bool) -> Iterator[Callable[[], str | None]]:
    if stated:
        yield lambda: map_encoding_to_html5(stated, fallback_utf8=False)
    # Plain ASCII is the same under every label; detection would call it cp1252. ISO-2022 and HZ texts are ASCII too.
    if not body.isascii() or b"\x1b" in body or b"~{" in body:
        if html:
            yield lambda: detect_encoding(body, from_html_meta=True)
        yield lambda: detect_encoding(body)
    yield lambda: "utf-8"


def clean_text(text: str) -> str:
    """NFC, line feeds as line ends, plain spaces, no control characters or lone surrogates, at most two blank lines."""
    text = _FIXED_SPACES.sub(" ", _CONTROL.sub("", _LINE_ENDS.sub("\n", text)))
    text = unicodedata.normalize("NFC", text)
    text = _TRAILING.sub("", text)
    return _BLANK_LINES.sub("\n\n\n", text).strip()
