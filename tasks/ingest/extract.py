"""Around the extraction of a text: a page's character encoding, and a text's normal form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from resiliparse.parse.encoding import detect_encoding, detect_mime, map_encoding_to_html5

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPES = HTML_TYPES | {"text/plain"}

UTF8_MARK = b"\xef\xbb\xbf"
_BOMS = ((UTF8_MARK, "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HTML = re.compile(rb"<\s*(?:!doctype\s+html|html|head|body|title|meta|div|table|script)\b", re.IGNORECASE)
# Everything of Cc but tab and line feed, the two halves of surrogate pairs, noncharacters, and the BOM inside a text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]")
# No-break spaces are typesetting; left in, they would make words that no other page has.
_FIXED_SPACES = "\u00a0\u2007\u202f"
_BLANK_LINES = re.compile(r"\n{4,}")
_FIRST_COMBINING, _BEHIND_COMBINING = 0x300, 0x20000  # planes 2 and above hold ideographs and marks of class 0
_MOST_COMBINING = 30


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
    """NFC, line feeds as line ends, plain spaces, no control characters or lone surrogates, at most two blank lines.

    Takes time in proportion to the text, whatever it is made of.
    """
    for space in _FIXED_SPACES:
        text = text.replace(space, " ")
    if text.replace("\n", "").replace("\t", "").isprintable():  # so there is nothing to take out, and no other line end
        lines = text.split("\n")
    else:  # `splitlines` knows the line ends of ASCII and Unicode
        lines = [line if line.isprintable() else _CONTROL.sub("", line) for line in text.splitlines()]
    text = "\n".join(map(str.rstrip, lines))
    text = unicodedata.normalize("NFC", _stream_safe(text))
    return _BLANK_LINES.sub("\n\n\n", text).strip() if "\n\n\n\n" in text else text.strip()


def _stream_safe(text: str) -> str:
    """The text with a combining grapheme joiner behind every 30 combining characters in a row (Unicode Standard Annex
    15 section 13): Python's NFC takes time with the square of such a run."""
    if text.isascii():
        return text
    # Of every 15th character two in a row are in such a run of 31.
    few = _may_combine(text[:: _MOST_COMBINING // 2])
    if not (few[1:] & few[:-1]).any():
        return text
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    beyond = np.flatnonzero(_may_combine(text))
    if not (beyond[_MOST_COMBINING:] - beyond[:-_MOST_COMBINING] == _MOST_COMBINING).any():
        return text
    marks = beyond[_combining()[codes[beyond]]]
    # The place of the 31st mark in a row, counted from its run's first, and of every 30th behind it.
    first = np.flatnonzero(np.diff(marks, prepend=-2) != 1)
    inside = np.arange(len(marks)) - np.repeat(first, np.diff(first, append=len(marks)))
    cuts = marks[(inside > 0) & (inside % _MOST_COMBINING == 0)].tolist()
    return "\u034f".join(text[start:end] for start, end in pairwise([0, *cuts, len(text)])) if cuts else text


def _may_combine(text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each character whether it is in the planes and blocks that hold combining characters."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return (codes >= _FIRST_COMBINING) & (codes < _BEHIND_COMBINING)


@cache
def _combining() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each code point whether its canonical combining class is not 0."""
    return np.fromiter((unicodedata.combining(chr(code)) > 0 for code in range(_BEHIND_COMBINING)), np.bool_)
