"""E-mail and IP addresses, exactly: what of a candidate is one."""

from __future__ import annotations

import ipaddress
import re

# Letters of scripts that write spaces between words. In Chinese or Japanese an address stands between the letters of
# the sentence, so these end it.
_LETTER = "A-Za-z\u00aa-\u024f\u0370-\u052f"
_LOCAL = re.compile(f"[{_LETTER}0-9_+%-](?:[{_LETTER}0-9._%+'-]*[{_LETTER}0-9_])?")
_DOMAIN = re.compile(
    f"((?:[{_LETTER}0-9](?:[{_LETTER}0-9-]{{0,61}}[{_LETTER}0-9])?\\.)+)"
    f"(xn--[a-z0-9-]{{2,59}}|[{_LETTER}]{{2,24}})(?![{_LETTER}0-9_])"
)
# logo@2x.png is no address.
_FILES = frozenset("png jpg jpeg gif svg webp avif ico bmp css scss js mjs json map html htm php pdf".split())
# RFC 2606 and RFC 6761: names kept free for examples and for the machine itself.
_NOBODY = re.compile(r"(?:\A|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|local)\Z", re.IGNORECASE)


def find_email(text: str, at: int) -> tuple[int, int] | None:
    """(first character, character after the last) of the e-mail address whose @ is `text[at]`, if it is one.

    RFC 5322's addr-spec as people write it: no quotes, no comments, dots only inside, a top-level domain of letters.
    Addresses at domains reserved for examples are nobody's, and are left.
    """
    local = _LOCAL.match(text[:at][::-1])
    domain = _DOMAIN.match(text, at + 1)
    if local is None or domain is None or local.end() > 64 or ".." in local.group():
        return None
    if domain.group(2).lower() in _FILES or _NOBODY.search(domain.group()):
        return None
    return at - local.end(), domain.end()


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\d.]){_OCTET}(?:\.{_OCTET}){{3}}(?![\d]|\.\d)")
_BEFORE_VERSION = re.compile(
    r"(?:[a-z]/|\b(?:versions?|vers?|v|releases?|rel|build|firmware|update|kernel|sections?|kapitel|abschnitt|chapter"
    r"|art|artikel|nr|no|§)[.:]?\s*|版本\s*)\Z",
    re.IGNORECASE,
)
# A random address has four parts below 32 once in 4,096 times; versions, sections and dates nearly always have.
SMALL = 32

# IANA's special-purpose registries (RFC 6890). Not `ipaddress.is_global`, which has changed between patch releases.
_PRIVATE = [
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
                  "fc00::/7", "fe80::/10")
]  # fmt: skip
_RESERVED = [
    ipaddress.ip_network(block)
    for block in ("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
                  "203.0.113.0/24", "224.0.0.0/3", "2001:db8::/32", "3fff::/20")
]  # fmt: skip
_UNICAST = ipaddress.ip_network("2000::/3")


def find_ipv4(text: str, first: int, last: int, private: bool) -> list[tuple[int, int]]:
    """The IPv4 addresses that begin within `text[first:last]`.

    Version and section numbers are told apart by what stands before them and by their small parts (`SMALL`).
    """
    found = []
    for match in _IPV4.finditer(text, first, last):
        start, end = match.span()
        before, after = text[max(0, start - 12) : start], text[end : end + 2]
        if _is_word(before[-1:]) or before[-1:] == "-" or _is_word(after[:1]):
            continue
        if (after[:1] == "-" and after[1:].isalpha()) or _BEFORE_VERSION.search(before):
            continue
        if max(map(int, match.group().split("."))) < SMALL and not match.group().startswith("10."):
            continue
        if _wanted(ipaddress.IPv4Address(match.group()), private):
            found.append((start, end))
    return found


def find_ipv6(text: str, first: int, last: int, private: bool) -> list[tuple[int, int]]:
    """The IPv6 address that `text[first:last]` is, if it is one; of global unicast (2000::/3), or private.

    It needs three groups: in code, `a[2000::2]` is a slice.
    """
    given = text[first:last]
    while given.endswith(":") and not given.endswith("::"):  # a colon of the sentence
        given = given[:-1]
    if _is_word(text[max(0, first - 1) : first]) or _is_word(text[last : last + 1]):
        return []
    if sum(map(bool, given.split(":"))) < 3:
        return []
    try:
        address = ipaddress.IPv6Address(given)
    except ValueError:
        return []
    return [(first, first + len(given))] if _wanted(address, private) else []


def _wanted(address: ipaddress.IPv4Address | ipaddress.IPv6Address, private: bool) -> bool:
    if any(address in block for block in _RESERVED):
        return False
    if any(address in block for block in _PRIVATE):
        return private
    return address.version == 4 or address in _UNICAST


def _is_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")
