"""ARC files, versions 1 and 2 (Internet Archive, "Arc File Format", 1996), told as WARC records.

A record is one line `URL IP-address date content-type length` (version 2 puts result code, checksum, location, offset
and file name before the length), then `length` bytes: the HTTP response as it came. The first, `filedesc://`, is about
the file itself.
"""

from __future__ import annotations

import re

# A scheme, anything (URLs with spaces do occur), a 14-digit date, at least the type, and the length at the end. The
# first date is taken for good (an atomic group): a line of a thousand dates would be tried a thousand times over.
START = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.\-]{1,20}:(?>[^\r\n]{0,16384}? \d{12,14} )[^\r\n]{1,2048} \d{1,15}[ \t]*\r?\n"
)
_FIELDS = re.compile(
    r"(?P<url>.+) (?P<ip>\S+) (?P<date>\d{12,14}) (?P<type>[^ ]+(?: [^ ]*=[^ ]*)*)(?: .*)? (?P<length>\d+)"
)


def parse_head(line: bytes) -> tuple[str, dict[str, str], int]:
    """(record type as WARC names it, WARC-like headers, block length) of an ARC header line.

    Raises:
        ValueError: the line does not have the fields of either version.
    """
    text = line.decode("utf-8", "replace").strip()
    found = _FIELDS.fullmatch(text)
    if found is None:
        raise ValueError("the ARC header line has not the fields of version 1 or 2")
    url = found["url"]
    headers = {"warc-target-uri": url, "warc-date": _date(found["date"]), "arc-content-type": found["type"]}
    scheme = url.partition(":")[0].lower()
    kind = {"filedesc": "warcinfo", "http": "response", "https": "response"}.get(scheme, "resource")
    if kind == "response":
        headers["content-type"] = "application/http; msgtype=response"
    else:
        headers["content-type"] = found["type"]
    return kind, headers, int(found["length"])


def _date(digits: str) -> str:
    """`YYYYMMDDhhmmss` (seconds may be missing) as the W3C date-time that WARC-Date uses."""
    d = digits.ljust(14, "0")
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}:{d[12:14]}Z"
