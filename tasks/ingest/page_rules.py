"""What a page says about its own use: robots directives, text-and-data-mining reservations and licence links.

Three places speak for a page: the `X-Robots-Tag` header and `<meta name="robots">` (Google's "Robots meta tag"
specification; `noai` and `noimageai` are DeviantArt's additions, `tdm-reservation` is W3C's TDMRep), and links with
`rel="license"` (HTML section 4.6.7.8; the header form is RFC 8288) or to a Creative Commons deed. They are found by
searching bytes, not by parsing: most pages hold none of the words searched for, and are done after two searches.

A page's licence is what the page says. It is never mixed with the licence of the source in a data manifest.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import pyarrow as pa

from artifacts.urls import canonical_url

# Columns that ingest adds to the documents table; null where the page says nothing.
COLUMNS = pa.schema([("robots", pa.string()), ("licence", pa.string()), ("licence_by", pa.string())])

HEAD_BYTES = 1 << 18  # how far the end of the head is looked for
BODY_BYTES = 1 << 21  # how far licence links are looked for: they often stand at the foot
MOST_LICENCES = 5
LONGEST_URL = 500

# Directives that restrict a use; `index`, `follow`, `max-snippet:-1` and the like allow, or say how to show a result.
DIRECTIVES = frozenset("noindex nofollow noarchive nocache nosnippet noimageindex noai noimageai noml".split())
_RESERVED = "tdm-reservation"
_REASONS = (("noai", ("noai", "noml", _RESERVED)), ("noindex", ("noindex",)))

_HIDING = ((b"<!--", b"-->"), (b"<script", b"</script"), (b"<textarea", b"</textarea"), (b"<template", b"</template"))
_HIDING_BYTES = 1 << 16  # how far back such an element is looked for
_HEAD_ENDS = (b"<body", b"<BODY", b"</head", b"</HEAD")
_ATTRIBUTE = re.compile(
    rb"([a-z][a-z\-]{0,30})\s*=\s*(?:\"([^\"]{0,2000})\"|'([^']{0,2000})'|([^\s\"'>]{1,2000}))", re.I
)
_CREATIVE = b"creativecommons.org/"
_DEED = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/((?:licenses|publicdomain)/[a-z+\-]{2,20}/\d\.\d(?:/[a-z]{2})?)"
    r"(?:[/?#]|$)",
    re.IGNORECASE,
)
_LINKS = (b"<a ", b"<a\n", b"<a\r", b"<a\t", b"<link", b"<area")
_TAG_BYTES = 1_024
_MOST_LOOKS = 100
_HEADER_LINK = re.compile(r"<([^<>]{1,2000})>([^<,]{0,500})")
_WIDE = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True)
class PageRules:
    """What one page says.

    Attributes:
        robots: restricting directives in alphabetical order, joined by `, `; None without any.
        licence: URLs of licences, joined by a space, at most five; None without any.
        licence_by: `rel` where links are marked as the page's licence, `link` where the page merely links a Creative
            Commons deed (which may be that of one picture).
    """

    robots: str | None = None
    licence: str | None = None
    licence_by: str | None = None

    @property
    def columns(self) -> dict[str, str | None]:
        """The values of `COLUMNS`."""
        return {"robots": self.robots, "licence": self.licence, "licence_by": self.licence_by}

    @property
    def refusal(self) -> str | None:
        """The reason for which a text that obeys its page's wish is dropped: `noai`, `noindex` or None."""
        given = set((self.robots or "").split(", "))
        return next((reason for reason, words in _REASONS if given & set(words)), None)


def read_rules(headers: Mapping[str, str], body: bytes, is_html: bool, url: str) -> PageRules:
    """The rules in a response's headers (lower-case names) and, for HTML, in its decoded body. Never fails."""
    if is_html and (codec := _WIDE.get(body[:2])):
        body = body[: 2 * BODY_BYTES].decode(codec, "replace").encode()
    robots = _directives(_of_all_agents(headers.get("x-robots-tag", "")))
    if headers.get(_RESERVED, "").strip() == "1":
        robots.add(_RESERVED)
    page = body[:BODY_BYTES] if is_html else b""
    robots |= _meta_robots(_head(page).lower())
    links, by = _licences(headers.get("link", ""), page, url)
    return PageRules(", ".join(sorted(robots)) or None, " ".join(links) or None, by if links else None)


def _directives(text: str) -> set[str]:
    words = {word.strip() for word in text.lower().split(",")}
    return words & DIRECTIVES | ({"noindex", "nofollow"} if "none" in words else set())


def _of_all_agents(value: str) -> str:
    """The part of an X-Robots-Tag that is meant for every robot: `googlebot: noindex` is meant for one.

    A robot's name holds for what follows it, up to the next name.
    """
    kept: list[str] = []
    mine = True
    for part in value.split(","):
        name, colon, rest = part.partition(":")
        # `max-snippet: 20` and `unavailable_after: 25 Jun` are directives with a value.
        if colon and not name.strip().lower().startswith(("max-", "unavailable")):
            mine, part = name.strip() in ("", "*"), rest
        if mine:
            kept.append(part)
    return ",".join(kept)


def _head(page: bytes) -> bytes:
    for marks in (_HEAD_ENDS[:2], _HEAD_ENDS[2:]):
        end = -1
        for mark in marks:
            at = page.find(mark, 0, HEAD_BYTES if end < 0 else end)
            end = at if at >= 0 else end
        if end >= 0:
            return page[:end]
    return page[:HEAD_BYTES]


def _meta_robots(head: bytes) -> set[str]:
    """The directives of `<meta name="robots">` in a lower-cased head."""
    found: set[str] = set()
    for start, end in _tags(head, (b"robots", _RESERVED.encode()), (b"<meta",)):
        attributes = _attributes(head[start:end])
        content = attributes.get("content", "")
        said = _directives(content) if attributes.get("name") == "robots" else set()
        if attributes.get("name") == _RESERVED and content.strip() == "1":
            said = {_RESERVED}
        # Most pages that name robots invite them; only for the others is it worth a look whether the tag is a real one.
        if said - found and _is_visible(head, start):
            found |= said
    return found


def _tags(page: bytes, words: tuple[bytes, ...], names: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Where each tag begins and ends that has one of the names and holds one of the words."""
    for word in words:
        at = last = -1
        for _ in range(_MOST_LOOKS):
            at = page.find(word, at + 1)
            if at < 0:
                break
            start = page.rfind(b"<", max(0, at - _TAG_BYTES), at)
            if start <= last or not page[start : start + 5].lower().startswith(names) or page.find(b">", start, at) > 0:
                continue
            end = page.find(b">", at, at + _TAG_BYTES)
            last = start
            yield start, end if end >= 0 else at + _TAG_BYTES


def _is_visible(page: bytes, position: int) -> bool:
    """Whether a tag is markup of the page and not inside a comment, a script or a text field."""
    before = page[max(0, position - _HIDING_BYTES) : position].lower()
    for opening, closing in _HIDING:
        opened = before.rfind(opening)
        if opened < 0 or before.find(closing, opened) >= 0:
            continue
        # Old scripts open a comment at their head, for browsers without scripts, and need not close it.
        if opening != b"<!--" or before.rfind(b"<script", 0, opened) <= before.rfind(b"</script", 0, opened):
            return False
    return True


def _attributes(text: bytes) -> dict[str, str]:
    """The attributes of a tag, entities decoded; the first of equal names counts."""
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text[:8_192]):
        value = next(group for group in match.groups()[1:] if group is not None)
        found.setdefault(match[1].decode("ascii").lower(), html.unescape(value.decode("utf-8", "replace")))
    return found


def _licences(header: str, page: bytes, url: str) -> tuple[list[str], str]:
    """(licence URLs, how they were found)."""
    marked = [target for target, rest in _HEADER_LINK.findall(header) if _is_licence(_rel_of(rest))]
    linked: list[str] = []
    for start, end in _tags(page, (b"license", _CREATIVE), _LINKS):
        attributes = _attributes(page[start:end])
        target = attributes.get("href", "")
        by_rel = _is_licence(attributes.get("rel", ""))
        found = marked if by_rel else linked
        if (by_rel or _DEED.match(target.strip())) and target not in found and _is_visible(page, start):
            found.append(target)
    for targets, by in ((marked, "rel"), (linked, "link")):
        links = list(dict.fromkeys(link for target in targets if (link := _licence_url(target, url))))
        if links:
            return links[:MOST_LICENCES], by
    return [], ""


def _rel_of(parameters: str) -> str:
    found = re.search(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;]+))", parameters, re.IGNORECASE)
    return "" if found is None else found[1] or found[2] or ""


def _is_licence(rel: str) -> bool:
    return "license" in rel.lower().split()


def _licence_url(target: str, base: str) -> str | None:
    """A licence's URL in one spelling, a Creative Commons deed without its language; None for no web address."""
    target = target.strip()
    if deed := _DEED.match(target):
        return f"https://creativecommons.org/{deed[1].lower()}/"
    try:
        joined = canonical_url(urljoin(base, target))
    except ValueError:
        return None
    return joined if target and joined.startswith(("http://", "https://")) and len(joined) <= LONGEST_URL else None
