"""URLs in one spelling (RFC 3986 section 6.2), so that the same page gets the same name."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit, urlunsplit

DEFAULT_PORTS = {"http": "80", "https": "443", "ftp": "21"}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
# What may stand in a path or query as it is (RFC 3986 pchar, `/`, `?`) plus `%`; all else is percent-encoded UTF-8.
_FOREIGN = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]]")

# URLs that are in normal form as far as a regular expression of RE2 (without lookahead) can tell: a URL that matches
# equals its `canonical_url`. Most URLs match; the others may be or not.
_CODE = "%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]|[89A-F][0-9A-F])"
_FIRST = rf"(?:[A-Za-z0-9\-_~!$&'()*+,;=:@\[\]]|{_CODE})"  # of a segment: no dot, as it could be a dot segment
_SITE = r"(?:https?|ftp)://[a-z0-9](?:[a-z0-9._\-]*[a-z0-9])?"
_REST = rf"(?:/(?:{_FIRST}(?:{_FIRST}|\.)*)?)+(?:\?(?:{_FIRST}|[./?])*)?"
PLAIN = rf"{_SITE}(?::[1-9][0-9]{{3,4}})?{_REST}"
PORTLESS = _SITE + _REST  # those of them that name no port

_BACKSLASHED = re.compile(r"(?:https?|ftp):[\\/][^?#]*", re.IGNORECASE)
_NO_NAME = re.compile(r"[\x00-\x20\x7f%/?#@:\[\]\\]")
_PLACE = re.compile(
    r"([A-Za-z][A-Za-z0-9+.\-]*)://(?:[^/?#]*@)?(\[[^\]/?#]*\]|[^:/?#]*)(?::(\d*))?([/?#].*)?", re.DOTALL
)


def strip_uri(value: str) -> str:
    """A WARC-Target-URI without white space and the angle brackets that WARC/1.0's grammar wrongly asked for."""
    value = value.strip()
    if value.startswith("<") and value.endswith(">"):
        value = value[1:-1].strip()
    return value


def canonical_url(url: str) -> str:
    """The URL in the normal form of RFC 3986 section 6.2.2 and 6.2.3.

    Scheme and host in lower case, the host without percent-encodings and as IDNA, no default port, dot segments
    removed, an empty path as `/`, percent-encodings in upper case and decoded where they stand for unreserved
    characters, characters outside the grammar encoded as UTF-8, no fragment. A backslash before query and fragment of
    a web address is a slash, as browsers and crawlers take it. Query parameters keep their order, and none is left
    out: what `utm_source` or a session id may be is no matter of spelling. A URL that is not hierarchical (`file:`
    names of curated members, `dns:`) or cannot be parsed comes back stripped only; `file:` keeps its fragment, which
    names the member.
    """
    url = strip_uri(url)
    if "\\" in url:
        url = _BACKSLASHED.sub(lambda found: found[0].replace("\\", "/"), url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    scheme = parts.scheme.lower()
    if not parts.netloc or not host:
        return url
    user = parts.netloc.rpartition("@")[0]
    authority = f"{user}@" if user else ""
    authority += f"[{host}]" if ":" in host else idna(_decoded_host(host))
    if port is not None and str(port) != DEFAULT_PORTS.get(scheme):
        authority += f":{port}"
    path = _remove_dot_segments(_percent(parts.path)) or "/"
    query = f"?{_percent(parts.query)}" if "?" in url.partition("#")[0] else ""
    return f"{scheme}://{authority}{path}{query}"


def _decoded_host(host: str) -> str:
    """RFC 3986 section 3.2.2: a registered name may be percent-encoded UTF-8. As it is where that gives no name."""
    if "%" not in host:
        return host
    try:
        name = unquote(host, errors="strict")
    except UnicodeDecodeError:
        return host
    return host if _NO_NAME.search(name) else name


def without_user(url: str) -> str:
    """The URL without user and password, which say who asks for a page and not which page it is."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#]*@", r"\1", url) if "@" in url else url


def place(canonical: str) -> tuple[str, str, str] | None:
    """(host, port, path with query) of a URL in normal form; None for one that names no host.

    The port is the one that is asked: 443 where an `https:` URL names none, and empty where the scheme has no default.
    An IPv6 host stands in its brackets.
    """
    found = _PLACE.fullmatch(canonical)
    if found is None or not found[2]:
        return None
    return found[2].lower(), found[3] or DEFAULT_PORTS.get(found[1].lower(), ""), found[4] or "/"


def idna(host: str) -> str:
    """A host name in lower case and ASCII (IDNA); as it is where it has no such form."""
    host = host.lower().rstrip(".") or host
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _percent(text: str) -> str:
    def decode(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if character in _UNRESERVED else "%" + found[1].upper()

    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)
    text = _PERCENT.sub(decode, text)
    return _FOREIGN.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace")), text)


def _remove_dot_segments(path: str) -> str:
    """RFC 3986 section 5.2.4, for absolute paths."""
    output: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(output) > 1:
                output.pop()
        elif segment != ".":
            output.append(segment)
    if segments[-1] in (".", ".."):
        output.append("")
    return "/".join(output)


def address(url: str) -> str | None:
    """Scheme, host and path of a URL: what others may open, without user, password, query and fragment, any of which
    may hold a secret. None for a path, which is of this machine alone."""
    split = urlsplit(url)
    if not split.scheme or not split.netloc or split.scheme == "file":
        return None
    return urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))
