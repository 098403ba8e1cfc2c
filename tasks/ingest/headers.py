"""Named fields as WARC headers and HTTP heads both write them."""

from __future__ import annotations

_LISTS = frozenset({"link", "transfer-encoding", "x-robots-tag"})


def parse_fields(head: bytes) -> dict[str, str]:
    """The `name: value` fields behind the first line, names in lower case; the first of equal names counts.

    Fields that are lists, which servers send a line a value (RFC 9110 section 5.3), are joined by commas.

    Read leniently, as archives need: lines end in CRLF or LF, a value goes on in lines that begin with white space
    (ISO 28500 section 4, RFC 9112 section 5.2), lines without a colon are passed over, bytes that are no UTF-8 are
    replaced.
    """
    fields: dict[str, str] = {}
    name = ""
    for text in head.decode("utf-8", "replace").split("\n")[1:]:
        if text[:1] in (" ", "\t"):
            if name in fields:
                fields[name] += " " + text.strip()
            continue
        name, colon, value = text.partition(":")
        name = name.strip().lower()
        if colon and name and name not in fields:
            fields[name] = value.strip()
        elif name in _LISTS:
            fields[name] += ", " + value.strip()
    return fields


def revisited(headers: dict[str, str]) -> str:
    """Which record a revisit record stands for, as far as it says (ISO 28500 section 6.7): URI and date, record id,
    payload digest; else the profile, which says at least why there is no payload."""
    uri = headers.get("warc-refers-to-target-uri", "").strip().removeprefix("<").removesuffix(">")
    date = headers.get("warc-refers-to-date", "").strip()
    parts = [f"{uri} @ {date}" if uri and date else uri or date, headers.get("warc-refers-to", "").strip()]
    parts.append("".join(headers.get("warc-payload-digest", "").split()))
    return "; ".join(part for part in parts if part) or headers.get("warc-profile", "").strip()
