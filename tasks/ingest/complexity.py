"""HTML that no parser should be given: pages whose parsing costs time and memory out of proportion to their size.

A C or Rust parser cannot be interrupted from Python, so such pages are told from their tags before they are parsed.
"""

from __future__ import annotations

import re

# HTML parsing and extraction take time quadratic in the nesting depth: 20,000 open elements took 10 s,
# 4,000 1.5 s (of a loaded core). Browsers stop nesting at 512.
MAX_DEPTH = 2_000


# Formatting elements that are never closed are opened again in every paragraph (HTML section 13.2.4.3): 1,900 of them
# took more than a minute of a loaded machine.
MAX_FORMATTING = 250
# Each attribute is compared with those before it, each option of a list with all others: 100,000 of either took more
# than a minute of a loaded machine.
MAX_ATTRIBUTES = 3_000
MAX_OPTIONS = 10_000
# What is linear must end too: 50,000 paragraphs took 1.4 s, a table of 150,000 elements 1.7 s and 75 MB.
MAX_ELEMENTS = 200_000

_CHUNK = 8_192
_LONG_TAG = 2 * MAX_ATTRIBUTES  # characters; an attribute has at least one, and one between it and the next
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_FORMATTING = re.compile(r"<(/?)(?:a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
# Void elements, and those whose end tag may be left out and which do not nest without it (HTML section 13.1.2).
_FLAT = frozenset(
    (
        "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option optgroup "
        "tbody thead tfoot colgroup html head body rp rt"
    ).split()
)


class TooComplex(Exception):
    """The page is not worth what it would cost. `value` is what was found, `limit` what is allowed."""

    def __init__(self, what: str, value: int, limit: int) -> None:
        super().__init__(what)
        self.value, self.limit = value, limit


def check_complexity(html: str) -> None:
    """Raise `TooComplex` for a page that no parser should be given."""
    pieces = html.split("<")
    ends = html.count("</")
    _allow("{} elements", len(pieces) - 1 - ends, MAX_ELEMENTS)
    if (bound := _depth_bound(html)) > MAX_DEPTH:
        _allow("elements nest {} deep", nesting_depth(html), MAX_DEPTH)
    if bound > MAX_FORMATTING:
        _allow("{} formatting elements are open at once", _open_formatting(html), MAX_FORMATTING)
    if len(pieces) > MAX_OPTIONS:
        _allow("{} options", html.lower().count("<option"), MAX_OPTIONS)
    if len(html) > _LONG_TAG:
        for piece in pieces:
            if len(piece) > _LONG_TAG and piece[:1].isalpha():
                tag = _QUOTED.sub('""', piece).partition(">")[0]
                _allow("an element with {} attributes", len(tag.replace("/", " ").split()) - 1, MAX_ATTRIBUTES)


def _allow(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise TooComplex(what.format(value), value, limit)


def _open_formatting(html: str) -> int:
    depth = deepest = 0
    for found in _FORMATTING.finditer(html):
        depth = max(0, depth - 1) if found[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest


def _depth_bound(html: str) -> int:
    """At least `nesting_depth`, and far quicker: void and unclosed elements count as open, and the tags of each chunk
    as if they stood in the worst order."""
    depth = deepest = 0
    for at in range(0, len(html), _CHUNK):
        # One character further: an end tag's slash may stand in the next chunk.
        ends = html.count("</", at, at + _CHUNK + 1)
        starts = html.count("<", at, at + _CHUNK) - ends
        deepest = max(deepest, depth + starts)
        depth = max(0, depth - ends) + starts
    return deepest


def nesting_depth(html: str) -> int:
    """How deep the tags of a page nest at most, estimated without parsing: opened and not yet closed."""
    depth = deepest = 0
    for found in _TAG.finditer(html):
        if found[2].lower() in _FLAT:
            continue
        if found[1]:
            depth = max(0, depth - 1)
        else:
            depth += 1
            deepest = max(deepest, depth)
    return deepest
