"""From a page's bytes to its text: character encoding, main content, normal form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, detect_mime, map_encoding_to_html5

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPES = HTML_TYPES | {"text/plain"}

# HTML parsing and extraction take time quadratic in the nesting depth: 20,000 open elements took 10 s, 1,000 18 ms.
# Browsers stop nesting at 512.
MAX_DEPTH = 4_000

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HTML = re.compile(rb"<\s*(?:!doctype\s+html|html|head|body|title|meta|div|table|script)\b", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
# Void elements, and those whose end tag may be left out and which do not nest without it (HTML section 13.1.2).
_NO_DEPTH = (
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option optgroup tbody "
    "thead tfoot colgroup html head body rp rt"
)
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


def _candidates(body: bytes, stated: str | None, html: bool) -> Sequence[str]:
    found: list[str | None] = []
    if stated:
        found.append(map_encoding_to_html5(stated, fallback_utf8=False))
    # Plain ASCII is the same under every label; detection would call it cp1252. ISO-2022 and HZ texts are ASCII too.
    if body.isascii() and b"\x1b" not in body and b"~{" not in body:
        return [*filter(None, found), "utf-8"]
    if html:
        found.append(detect_encoding(body, from_html_meta=True))
    found += [detect_encoding(body), "utf-8"]
    return list(dict.fromkeys(name for name in found if name))


def nesting_depth(html: str) -> int:
    """How deep the tags of a page nest at most, estimated without parsing: opened and not yet closed."""
    depth = deepest = 0
    flat = frozenset(_NO_DEPTH.split())
    for found in _TAG.finditer(html):
        if found[2].lower() in flat:
            continue
        if found[1]:
            depth = max(0, depth - 1)
        else:
            depth += 1
            deepest = max(deepest, depth)
    return deepest


def extract_html(html: str, main_content: bool, skip: Sequence[str]) -> str:
    """The page's text: its main content, or all of it where the main content is almost nothing of the page.

    Raises:
        TextError: the page nests deeper than any parser should follow.
    """
    if html.count("<") > MAX_DEPTH and (depth := nesting_depth(html)) > MAX_DEPTH:
        raise TextError(f"elements nest {depth} deep")
    try:
        text = _extract(html, main_content, skip)
        # The heuristics take pages built of tables or `pre` for navigation now and then. Below 200 characters there
        # is no article either way, and a page's full text is at hand.
        if main_content and len(text) < 200:
            full = _extract(html, False, skip)
            if len(full) > 5 * len(text):
                return full
    except (RuntimeError, ValueError, OSError) as error:
        raise TextError(f"the HTML parser gave up: {error}") from error
    return text


def _extract(html: str, main_content: bool, skip: Sequence[str]) -> str:
    # Without bullets, alt texts, links, forms and comments: measured better against hand-made texts.
    return str(
        extract_plain_text(
            html,
            preserve_formatting=True,
            main_content=main_content,
            list_bullets=False,
            alt_texts=False,
            links=False,
            form_fields=False,
            noscript=False,
            comments=False,
            skip_elements=list(skip) or None,
        )
    )


def clean_text(text: str) -> str:
    """NFC, line feeds as line ends, plain spaces, no control characters or lone surrogates, at most two blank lines."""
    text = _FIXED_SPACES.sub(" ", _CONTROL.sub("", _LINE_ENDS.sub("\n", text)))
    text = unicodedata.normalize("NFC", text)
    text = _TRAILING.sub("", text)
    return _BLANK_LINES.sub("\n\n\n", text).strip()
